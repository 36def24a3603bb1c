"""The command line that gives the same run as a page's form."""

import dataclasses
import shlex
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mer.cli import main, specs
from mer.cli.parser import NOT_OPTIONS, SECTIONS, build_parser
from mer.cli.specs import command_for, make_spec, requested_config, requested_preset
from mer.config.presets import PRESETS, preset
from mer.config.sections import Config
from mer.experiments.prepared import Spec
from mer.utils.errors import ConfigError


def values(hint, low, high):
    """All values that a setting may have on its own."""
    if typing.get_origin(hint) is typing.Literal:
        return st.sampled_from(typing.get_args(hint))
    if hint is bool:
        return st.booleans()
    if hint is str:
        return st.text(max_size=20)
    return {int: st.integers, float: st.floats}[hint](low, 1e9 if high is None else high)


SETTINGS = {
    field.name: values(typing.get_type_hints(section)[field.name], **ends)
    for section in SECTIONS
    for field in dataclasses.fields(section)
    if field.name not in NOT_OPTIONS
    for ends in [{key: field.metadata[key] for key in ("low", "high")}]
}


def changed(name, changes):
    """The preset with those of the changes that go together."""
    config = preset(name)
    for key, value in changes.items():
        try:
            config = config.updated(**{key: value})
        except ConfigError:
            continue
    return config


def understood(command):
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "mer"]
    arguments = build_parser().parse_args(words[3:])
    arguments.words = words[3:]
    return make_spec(arguments, requested_config(arguments))


@given(
    name=st.sampled_from(sorted(PRESETS)),
    changes=st.fixed_dictionaries({}, optional=SETTINGS),
    columns=st.tuples(st.text(max_size=8), st.text(max_size=8)),
    folder=st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1).filter(
        lambda name: name != "."
    ),
)
def test_the_command_gives_the_same_data_columns_and_settings(name, changes, columns, folder):
    spec = Spec(f"/data/{folder}", changed(name, changes), *columns)
    found = understood(command_for(spec, preset_name=name))
    assert dataclasses.replace(found, command="") == spec


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("other", PRESETS)
def test_any_preset_can_be_expressed_as_changes_of_another(name, other):
    spec = Spec("/data/clips", preset(other))
    assert understood(command_for(spec, preset_name=name)).config == spec.config


def test_settings_of_the_preset_are_left_out_of_the_command():
    spec = Spec("/data/my clips", preset("quick").updated(epochs=3, class_weights=True, amp=False))
    command = command_for(spec, preset_name="quick")
    given = "--preset quick --class-weights --epochs 3 --no-amp"
    assert command == f"python -m mer train --data '/data/my clips' {given}"


def test_one_fold_gives_the_command_of_its_cross_validation():
    spec = Spec("/data", preset("quick").updated(folds=5, fold=3))
    command = command_for(spec, preset_name="quick")
    assert command == "python -m mer train --data /data --preset quick --folds 5"


def test_two_different_seeds_cannot_be_expressed_in_a_command():
    split = Config().split.replace(seed=1)
    with pytest.raises(ConfigError, match=r"seed=1 of the split and seed=0 of the training differ"):
        command_for(Spec("/data", Config(split=split)), preset_name="default")


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ((), "default"),
        (("--weights", "none"), "full"),
        (("--weights", "none", "--preset", "default"), "default"),
        (("--preset", "quick"), "quick"),
    ],
)
def test_random_weights_are_trained_whole_unless_a_preset_is_named(words, name):
    assert requested_preset(build_parser().parse_args(["train", "--data", "/data", *words])) == name


def test_an_unknown_preset_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="unknown preset 'slow'; there are: default, full, paper, quick"):
        command_for(Spec("/data", Config()), preset_name="slow")


def test_every_setting_but_the_number_of_a_fold_has_an_option():
    assert {"fold"} == NOT_OPTIONS


def test_the_input_of_a_network_for_music_need_not_be_given():
    config = preset("quick").updated(backbone="vgg_msd")
    command = command_for(Spec(data="songs", config=config), preset_name="quick")
    assert command == "python -m mer train --data songs --preset quick --backbone vgg_msd"


def test_settings_without_effect_on_a_solved_head_are_named(capsys, tmp_path):
    words = ["--epochs", "3", "--lr", "0.1", "--folds", "2"]
    assert main(["train", "--data", str(tmp_path / "nowhere"), *words]) == 2
    assert "note: without effect with --solver logistic: --epochs, --lr" in capsys.readouterr().err
    assert main(["train", "--data", str(tmp_path / "nowhere"), *words, "--backbone", "resnet18"]) == 2
    assert "without effect" not in capsys.readouterr().err


def test_a_head_on_a_frozen_random_network_is_warned_about(capsys, tmp_path):
    words = ["train", "--data", str(tmp_path / "nowhere"), "--weights", "none"]
    assert main([*words, "--preset", "quick"]) == 2
    assert "trains a head on random filters, which rarely learns anything" in capsys.readouterr().err
    assert main(words) == 2
    assert "random filters" not in capsys.readouterr().err


def test_options_that_the_networks_for_music_cannot_have_choose_a_network_for_images(capsys, tmp_path):
    assert main(["train", "--data", str(tmp_path / "nowhere"), "--sample-rate", "22050"]) == 2
    assert "the backbone is efficientnet_lite0" in capsys.readouterr().err
    found = understood("python -m mer train --data /data --n-mels 64 --head gru").config
    assert found == preset("default", backbone="efficientnet_lite0", n_mels=64, head="gru")
    with pytest.raises(ConfigError, match="n_mels=64: the weights of vgg_msd were trained with n_mels=96"):
        understood("python -m mer train --data /data --n-mels 64 --backbone vgg_msd")


def test_without_weights_for_music_the_default_is_a_network_for_images(monkeypatch, tmp_path):
    monkeypatch.setattr(specs, "WEIGHTS_FOLDER", tmp_path / "none")
    found = understood("python -m mer train --data /data").config
    assert found == preset("default", backbone="efficientnet_lite0")
