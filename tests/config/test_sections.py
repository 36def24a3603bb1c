"""Settings: what is in range, what is refused and with which words, and the JSON round trip."""

import dataclasses
import json
import typing
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mer.config.presets import PRESETS, preset
from mer.config.sections import AudioConfig, AugmentConfig, Config, MelConfig, SplitConfig, TrainConfig
from mer.utils.errors import ConfigError, MerError
from tests.golden.regenerate import SETTINGS, golden_settings
from tests.strategies import configs

SECTIONS = (AudioConfig, MelConfig, SplitConfig, AugmentConfig, TrainConfig)
BOUNDED = [
    pytest.param(section, field, id=f"{section.__name__}.{field.name}")
    for section in SECTIONS
    for field in dataclasses.fields(section)
    if field.metadata["low"] is not None
]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "bce"}, "pool='attention' needs loss='ce'"),
        ({"outputs": "imagenet"}, "pool='attention' needs outputs='classes'"),
        ({"always_training": True}, "pool='attention' needs always_training=False"),
        ({"mixup": 0.3}, "pool='attention' learns from whole clips, so it needs mixup=0"),
    ],
)
def test_attention_over_windows_needs_certain_settings(changes, message):
    with pytest.raises(ConfigError, match=message):
        Config().updated(pool="attention", **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"freeze": "none"},
            "solver='ridge' needs freeze='head', not 'none'; change it or use solver='steps'",
        ),
        ({"loss": "bce"}, "solver='ridge' needs loss='ce'"),
        ({"pool": "attention"}, "solver='ridge' needs pool='mean'"),
        ({"outputs": "imagenet"}, "solver='ridge' needs outputs='classes'"),
        ({"always_training": True}, "solver='ridge' needs always_training=False"),
        ({"label_smoothing": 0.1}, "solver='ridge' needs label_smoothing=0.0"),
        ({"class_weights": True}, "solver='ridge' needs class_weights=False"),
        ({"time_masks": 2}, "solver='ridge' needs time_masks=0"),
        ({"mixup": 0.3}, "solver='ridge' needs mixup=0"),
        ({"head": "gru"}, "solver='ridge' needs head='avg' or head='bands', not 'gru'"),
    ],
)
def test_a_solved_head_needs_certain_settings(changes, message):
    with pytest.raises(ConfigError, match=message):
        Config().updated(**{"solver": "ridge", "freeze": "head"} | changes)


# JSON


@given(configs())
@pytest.mark.promise("A config survives the round trip through JSON.", measured="any config")
def test_any_config_survives_the_json_round_trip(config):
    again = Config.from_json(config.to_json())
    assert again == config
    assert again.to_json() == config.to_json()


def test_equal_numbers_give_equal_text():
    """1 and 1.0 are the same setting, and 0.0 and -0.0: as text they would have two keys in the store."""
    one, same = Config().updated(lr=1, f_min=0), Config().updated(lr=1.0, f_min=-0.0)
    assert one == same
    assert one.to_json() == same.to_json()


@given(configs())
def test_a_float_is_a_float_however_it_was_given(config):
    """Whole numbers come from JSON, from forms and from Python without their point."""

    def bare(value):
        return int(value) if isinstance(value, float) and value.is_integer() else value

    data = {
        name: {key: bare(value) for key, value in part.items()} for name, part in config.to_dict().items()
    }
    assert Config.from_dict(data).to_json() == config.to_json()


@given(st.text() | st.recursive(st.none() | st.floats() | st.text(), st.lists).map(json.dumps))
def test_text_is_a_config_or_a_config_error_and_nothing_else(text):
    with suppress(ConfigError):
        assert isinstance(Config.from_json(text), Config)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"train": {"epochs": ' + "1" * 5000 + "}}"])
def test_json_too_deep_or_too_long_to_read_is_refused(text):
    with pytest.raises(ConfigError, match="config is not JSON: "):
        Config.from_json(text)


def test_equal_configs_give_equal_text_whatever_the_order_of_the_keys():
    config = Config().updated(lr=0.01, folds=3)
    shuffled = {name: dict(reversed(part.items())) for name, part in reversed(config.to_dict().items())}
    assert list(shuffled) != list(config.to_dict())
    assert Config.from_json(json.dumps(shuffled)).to_json() == config.to_json()
    assert "\n" not in config.to_json()


def test_settings_that_are_absent_from_json_take_their_default():
    config = Config.from_json('{"train": {"epochs": 7}}')
    assert config == Config(train=TrainConfig(epochs=7))


def test_text_that_is_not_json_is_refused():
    with pytest.raises(ConfigError, match="config is not JSON: Expecting value"):
        Config.from_json("lr: 0.1")


@pytest.mark.parametrize("text", ["[]", "3", "null", '"train"'])
def test_json_that_is_no_object_is_refused(text):
    with pytest.raises(ConfigError, match="Config: expected an object, got"):
        Config.from_json(text)


def test_a_section_that_is_no_object_is_refused():
    with pytest.raises(ConfigError, match="TrainConfig: expected an object, got 5"):
        Config.from_dict({"train": 5})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"trian": {}}, "unknown setting 'trian'; Config has: audio, mel, split, augment, train"),
        ({"split": {"tset": 0.2}}, "unknown setting 'tset'; SplitConfig has: test, validation"),
        ({"audio": {1: 2}}, "unknown setting 1; AudioConfig has: sample_rate"),
    ],
)
def test_an_unknown_key_is_refused_with_the_known_ones(data, message):
    with pytest.raises(ConfigError, match=message):
        Config.from_dict(data)


# Types, choices, ranges


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 2.0}, "epochs=2.0 should be of type int"),
        ({"epochs": True}, "epochs=True should be of type int"),
        ({"epochs": None}, "epochs=None should be of type int"),
        ({"lr": "fast"}, "lr='fast' should be of type float"),
        ({"lr": True}, "lr=True should be of type float"),
        ({"amp": 1}, "amp=1 should be of type bool"),
        ({"backbone": 5}, "backbone=5 should be of type str"),
        ({"pool": "max"}, "pool='max' is not one of: mean, attention"),
        ({"head": "max"}, "head='max' is not one of: avg, bands, attention, gru"),
        ({"head": ["avg"]}, r"head=\['avg'\] is not one of: avg, bands, attention, gru"),
        ({"keep": None}, "keep=None is not one of: best, last"),
        ({"lr": float("nan")}, "lr=nan is out of range: 1e-07 <= lr <= 1"),
        ({"patience": -1}, "patience=-1 is out of range: 0 <= patience$"),
        ({"hop_length": 31}, "hop_length=31 is out of range: 32 <= hop_length <= 8192"),
        ({"f_min": float("inf")}, "f_min=inf is out of range: 0 <= f_min$"),
        ({"lr": 10**400}, "lr=10+ is out of range: 1e-07 <= lr <= 1"),
        ({"f_min": 10**400}, "f_min=10+ is out of range: 0 <= f_min$"),
        ({"epochs": 10**400}, "epochs=10+ is out of range: 1 <= epochs <= 1000"),
        ({"seed": 2**32}, "seed=4294967296 is out of range: 0 <= seed <= 4294967295"),
        ({"hop_length": 10**20}, "hop_length=10+ is out of range: 32 <= hop_length <= 8192"),
    ],
)
def test_a_bad_value_is_refused_with_what_it_should_be(change, message):
    with pytest.raises(ConfigError, match=message):
        Config().updated(**change)


def test_a_whole_number_is_accepted_as_a_float():
    assert TrainConfig(weight_decay=1).weight_decay == 1


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.lists(st.integers()),
    st.dictionaries(st.text(), st.none()),
)


def attempt(section, **settings):
    """The section with these settings, or the words with which they are refused."""
    try:
        return section(**settings), ""
    except ConfigError as error:
        return None, str(error)


@given(JUNK)
@pytest.mark.promise(
    "A value of a setting is legal, or refused with the name of the setting.", measured="any value"
)
def test_a_value_is_legal_or_refused_by_the_name_of_its_setting(value):
    """Whatever is given to a setting on its own: what is taken can be written down and read again."""
    for section, field in [(kind, one) for kind in SECTIONS for one in dataclasses.fields(kind)]:
        made, refusal = attempt(section, **{field.name: value})
        if made is None:
            assert field.name in refusal
        else:
            assert type(getattr(made, field.name)) is type(getattr(section(), field.name))
            assert section.from_dict(json.loads(json.dumps(made.to_dict()))) == made


@pytest.mark.parametrize(("section", "field"), BOUNDED)
def test_ranges_include_their_ends_and_nothing_beyond(section, field):
    """Every bounded setting: its ends are accepted, one step beyond is refused by name and value."""
    low, high = field.metadata["low"], field.metadata["high"]
    step = 1 if typing.get_type_hints(section)[field.name] is int else 1e-9
    companions = {
        "fold": {"folds": 20},
        "window_seconds": {"hop_seconds": 0.5},
        "hop_seconds": {"window_seconds": 60},
    }.get(field.name, {})
    for end in (low, high):
        if end is not None:
            assert getattr(section(**companions, **{field.name: end}), field.name) == end
    for beyond in (low - step, None if high is None else high + step):
        if beyond is not None:
            with pytest.raises(ConfigError, match=f"{field.name}={beyond!r} is out of range"):
                section(**companions, **{field.name: beyond})


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_explains_itself_in_a_sentence(section):
    for field in dataclasses.fields(section):
        assert field.metadata["help"].endswith("."), field.name


def test_defaults_and_ranges_are_those_of_the_golden_file():
    """A default changed by accident would give other results under the same command."""
    assert golden_settings() == json.loads(SETTINGS.read_text())


# Settings that depend on one another


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hop_seconds": 11.0}, "hop_seconds=11.0 would skip audio; it must not exceed window_seconds=10.0"),
        ({"f_min": 8000.0}, "f_min=8000.0 must be below f_max=8000.0"),
        ({"sample_rate": 8000}, "f_max=8000.0 is above half .*sample_rate=8000 it can be at most 4000"),
        ({"f_max": 8000.5}, "f_max=8000.5 is above half .*sample_rate=16000 it can be at most 8000"),
        (
            {"n_fft": 8192, "window_seconds": 0.5, "hop_seconds": 0.5},
            "n_fft=8192 is longer than a window; with 0.5 s at 16000 Hz it can be at most 8000",
        ),
        ({"folds": 1}, "folds=1 leaves nothing to train on; use 0 for a hold-out, or at least 2"),
        ({"folds": 3, "fold": 3}, "fold=3 is out of range: 0 <= fold < folds=3"),
        ({"keep": "best", "validation": 0.0}, "keep='best' needs a validation part; .*keep='last'"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        Config().updated(**change)


@pytest.mark.parametrize(
    "change",
    [
        {"hop_seconds": 10.0},
        {"sample_rate": 8000, "f_max": 4000.0},
        {"n_fft": 8000, "window_seconds": 0.5, "hop_seconds": 0.5},
        {"folds": 2, "fold": 1},
        {"keep": "best", "validation": 0.01},
        {"keep": "last", "validation": 0.0},
    ],
)
def test_settings_that_just_fit_together_are_accepted(change):
    data = Config().updated(**change).to_dict()
    merged = {key: value for part in data.values() for key, value in part.items()}
    assert {key: merged[key] for key in change} == change


# Changing settings


def test_updated_changes_the_setting_in_whichever_section_has_it():
    config = Config().updated(n_mels=64, test=0.3, mixup=0.4, head="gru", pad="repeat")
    assert (config.mel.n_mels, config.split.test, config.augment.mixup) == (64, 0.3, 0.4)
    assert (config.train.head, config.audio.pad) == ("gru", "repeat")
    assert Config() == Config.from_dict({})


def test_updated_sets_both_seeds():
    config = Config().updated(seed=9)
    assert (config.split.seed, config.train.seed) == (9, 9)


@pytest.mark.parametrize("order", [["window_seconds", "hop_seconds"], ["hop_seconds", "window_seconds"]])
def test_settings_that_depend_on_one_another_can_change_together_in_any_order(order):
    for seconds in (1.0, 60.0):
        config = Config().updated(**dict.fromkeys(order, seconds))
        assert (config.audio.window_seconds, config.audio.hop_seconds) == (seconds, seconds)


def flat(config):
    """All settings by their bare name, but for the seed, which two sections have."""
    merged = {key: value for part in config.to_dict().values() for key, value in part.items()}
    return {key: value for key, value in merged.items() if key != "seed"}


@given(configs(), configs(), st.randoms(use_true_random=False))
def test_the_order_of_changes_does_not_matter_and_a_second_time_changes_nothing(config, other, random):
    changes = list(flat(other).items())
    changed = config.updated(**dict(changes))
    assert flat(changed) == flat(other)
    assert changed.updated(**dict(changes)) == changed
    random.shuffle(changes)
    assert config.updated(**dict(changes)) == changed
    assert changed.updated(**flat(config)) == config == config.updated()


def test_updated_refuses_an_unknown_name_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"unknown setting 'epoch'; there are: .*amp.* epochs, "):
        Config().updated(epoch=3)


def test_a_config_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().train.lr = 1.0


def test_replace_checks_the_new_value():
    with pytest.raises(ConfigError, match="epochs=0 is out of range: 1 <= epochs <= 1000"):
        TrainConfig().replace(epochs=0)


# Presets


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_found_by_name_and_round_trip(name):
    assert preset(name) is PRESETS[name]
    assert Config.from_json(preset(name).to_json()) == preset(name)


def test_an_unknown_preset_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="unknown preset 'fast'; there are: default, full, paper, quick"):
        preset("fast")


def test_the_paper_preset_is_the_report_of_2022():
    config = preset("paper")
    train = config.train
    assert (train.optimizer, train.loss, train.batch_size, train.epochs) == ("adam", "bce", 64, 5)
    assert (train.freeze, train.dropout, train.keep, config.split.test) == ("head", 0.0, "last", 0.2)


def test_a_config_error_is_both_a_mer_error_and_a_value_error():
    assert issubclass(ConfigError, MerError)
    assert issubclass(ConfigError, ValueError)
