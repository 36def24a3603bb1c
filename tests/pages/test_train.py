"""Train: choices become runs, and the command shown launches the same."""

import shlex

import pytest

from mer.cli.parser import build_parser
from mer.cli.specs import make_spec, requested_config
from mer.config.sections import Config
from mer.data.library import known
from mer.experiments.estimate import Estimate
from mer.utils.errors import BackboneError
from pages._ui.parts import launch as launching
from pages._ui.shell.style import amount
from tests.page_helpers import as_read, errors, links, opened, page_at, said
from tests.run_helpers import tiny_config


@pytest.fixture
def launched(lab, monkeypatch, checked, unmeasured):
    """The specs that were launched; no run is started."""
    specs = []

    def launch(store, spec):
        specs.append(spec)
        return lab.first

    monkeypatch.setattr(launching, "launch", launch)
    return specs


def press(app, label):
    (button,) = [button for button in app.main.button if button.label == label]
    return button.click().run()


def press_launch(app):
    return press(app, "Launch")


def commands(app):
    return app.code[0].value.splitlines()


def understood(command):
    words = shlex.split(command)[3:]
    arguments = build_parser().parse_args(words)
    arguments.words = words
    return make_spec(arguments, requested_config(arguments))


def test_one_click_launches_the_three_controls(launched, lab):
    app = opened("train", backbone="alexnet")
    press(app, "Launch the three controls")
    assert [spec.config.split.control for spec in launched] == ["labels", "silence", "noise"]
    assert {spec.config.train.backbone for spec in launched} == {"alexnet"}
    assert [understood(spec.command).config for spec in launched] == [spec.config for spec in launched]
    assert errors(app) == []


def test_one_click_launches_a_run_with_songs_kept_apart_and_one_without(launched, lab):
    app = opened("train", backbone="alexnet")
    press(app, "Launch with and without keeping songs apart")
    assert [spec.config.split.group_by_song for spec in launched] == [True, False]
    assert launched[0].config.train == launched[1].config.train


@pytest.mark.parametrize("preset", ["quick", "paper", "default"])
def test_a_head_on_a_frozen_random_network_is_not_launched(launched, lab, preset):
    app = page_at("train", preset=preset, backbone="alexnet").run()
    app.text_input(key=f"{preset} images train.weights").set_value("none").run()
    (error,) = errors(app)
    assert "alexnet would learn nothing and score like chance" in error
    assert "Launch" not in [button.label for button in app.main.button]


def test_a_whole_network_is_trained_from_random_weights(launched, lab):
    app = page_at("train", preset="full", backbone="alexnet").run()
    app.text_input(key="full images train.weights").set_value("none").run()
    press_launch(app)
    assert errors(app) == []
    assert launched[0].config.train.weights == "none"


def test_missing_weights_are_answered_with_what_works_offline(launched, lab):
    (warning,) = [warning.value for warning in opened("train", backbone="alexnet").warning]
    assert "choose a network without *download* behind its name" in warning
    assert "none" not in warning


def test_without_a_data_set_the_page_links_to_data():
    app = opened("train")
    assert any("No data sets yet" in info.value for info in app.info)
    assert links(app) == ["data"]
    assert not app.main.button


def test_a_missing_data_set_is_not_offered(launched, lab):
    lab.corpus.rename(lab.corpus.with_name("away"))
    app = opened("train")
    lab.corpus.with_name("away").rename(lab.corpus)
    assert links(app) == ["data"]


def test_the_default_preset_with_its_networks_is_chosen_first(launched, lab):
    app = opened("train")
    assert commands(app) == [f"python -m mer train --data {lab.corpus} --preset default"]
    assert "About 2 min on this machine**: 1 run" in said(app)
    assert launched == []


@pytest.mark.parametrize("preset", ["full", "as-released"])
def test_a_link_to_a_preset_that_trains_the_body_chooses_a_network_for_images(launched, lab, preset):
    app = opened("train", preset=preset)
    assert errors(app) == []
    wanted = f"python -m mer train --data {lab.corpus} --preset {preset}"
    assert commands(app) == [wanted]


def test_joined_networks_are_refused_for_a_preset_that_trains_the_body(launched):
    app = page_at("train").run()
    app.radio(key="preset").set_value("full").run()
    (error,) = errors(app)
    assert "joined networks are frozen" in error
    assert "or a single network" in error


def test_changed_settings_are_listed_and_are_in_the_command(launched):
    app = page_at("train", preset="paper", backbone="efficientnet_lite0").run()
    app.number_input(key="paper images train.epochs").set_value(7)
    app.toggle(key="paper images train.class_weights").set_value(True).run()
    assert "Changed: Weight classes by frequency = True, Epochs = 7" in as_read(said(app))
    assert commands(app)[0].endswith("--preset paper --class-weights --epochs 7")


def test_the_address_holds_changed_settings(launched):
    query = {"paper images train.epochs": "7", "paper images train.class_weights": "true"}
    app = opened("train", preset="paper", backbone="efficientnet_lite0", **query)
    assert commands(app)[0].endswith("--preset paper --class-weights --epochs 7")


@pytest.mark.parametrize("value", ["many", "-1", "99999999", "", "nan"])
def test_a_setting_in_the_address_that_cannot_be_is_ignored(launched, value):
    app = opened("train", preset="paper", backbone="alexnet", **{"paper images train.epochs": value})
    assert errors(app) == []
    assert "--epochs" not in commands(app)[0]


def test_the_size_of_a_network_is_that_of_its_finished_run(launched, lab):
    config = lab.runs.get(lab.first).spec["config"]
    (line,) = launching.sizes_of(lab.entry, [launching.spec_of(lab.entry, Config.from_dict(config), "quick")])
    sizes = [lab.runs.get(lab.first).metrics[key] for key in ("parameters", "trained_parameters")]
    total, trained = (amount(int(size)) for size in sizes)
    assert line.endswith(f": {total} parameters in body and head, {trained} of them trained")
    assert "million parameters in body and head" in said(opened("train"))


def test_the_default_preset_is_called_by_what_it_is_with_the_word_of_the_command_line(launched):
    assert opened("train").radio(key="preset").options[0] == "best on real music (default)"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("audio.hop_seconds", 20.0, "hop_seconds=20.0 would skip audio"),
        ("mel.f_max", 20_000.0, "f_max=20000.0 is above half the sample rate"),
        ("split.folds", 1, "folds=1 leaves nothing to train on"),
        ("split.validation", 0.0, "keep='best' needs a validation part"),
    ],
)
def test_settings_that_contradict_each_other_give_an_error_and_no_launch(launched, key, value, words):
    app = page_at("train", preset="quick", backbone="efficientnet_lite0").run()
    app.number_input(key=f"quick images {key}").set_value(value).run()
    (error,) = errors(app)
    assert words in error
    assert "Launch" not in [button.label for button in app.main.button]
    assert app.number_input(key=f"quick images {key}").value == value


def test_each_network_becomes_a_run(launched, lab):
    app = opened("train", backbone=["resnet18", "alexnet"])
    assert "3 min on this machine**: 2 runs, one after another" in said(app)
    assert len(commands(app)) == 2
    press_launch(app)
    assert [spec.config.train.backbone for spec in launched] == ["resnet18", "alexnet"]
    assert {spec.data for spec in launched} == {str(lab.corpus)}


def test_the_launched_run_equals_that_of_its_command(launched):
    app = page_at("train", backbone="resnet18", preset="default").run()
    app.number_input(key="default images split.seed").set_value(3)
    app.selectbox(key="default images train.head").select("gru")
    app.number_input(key="default images train.lr").set_value(0.0025).run()
    shown = commands(app)
    press_launch(app)
    (spec,) = launched
    assert [spec.command] == shown
    assert understood(spec.command) == spec
    assert (spec.config.split.seed, spec.config.train.seed, spec.config.train.lr) == (3, 3, 0.0025)


def test_launching_leads_to_the_live_page(launched, lab):
    app = press_launch(page_at("train", backbone="resnet18").run())
    assert not app.exception
    assert app.query_params["run"] == lab.first[:8]


def test_a_second_click_launches_nothing_and_leads_to_the_same_run(launched, lab):
    app = press_launch(page_at("train", backbone="resnet18").run())
    app.switch_page("train.py").run()
    press_launch(app)
    assert not app.exception
    assert len(launched) == 1
    assert app.query_params["run"] == lab.first[:8]


def test_a_failed_launch_is_reported(launched, monkeypatch):
    def fail(store, spec):
        raise BackboneError("unknown backbone 'resnet19'; there are: resnet18")

    monkeypatch.setattr(launching, "launch", fail)
    assert errors(press_launch(opened("train"))) == ["unknown backbone 'resnet19'; there are: resnet18"]


def test_without_a_chosen_network_the_page_asks_for_one(launched):
    app = page_at("train").run()
    app.pills(key="backbone").set_value([]).run()
    assert any("Choose at least one network" in info.value for info in app.info)
    assert not app.code


def test_missing_weights_give_a_warning_with_the_remedy(launched):
    (warning,) = opened("train", backbone="alexnet").warning
    assert "The weights of alexnet are not on this machine" in warning.value
    assert "python -m mer zoo fetch alexnet --out DIR" in warning.value


def test_unknown_values_in_the_address_are_ignored(launched, lab):
    app = opened("train", preset="magic", backbone=["resnet19", "resnet18"], data="nothing")
    assert errors(app) == []
    assert commands(app) == [f"python -m mer train --data {lab.corpus} --preset default --backbone resnet18"]


def test_presets_keep_their_own_changes(launched):
    app = page_at("train", preset="paper", backbone="efficientnet_lite0").run()
    app.number_input(key="paper images train.epochs").set_value(9).run()
    app.radio(key="preset").set_value("quick").run()
    assert "epochs" not in commands(app)[0]


def test_the_time_is_measured_for_the_chosen_settings(lab, checked, monkeypatch):
    import mer.experiments.estimate

    asked = []

    def estimate(config, seconds, *, unprepared, undescribed):
        asked.append((config.train.epochs, len(seconds)))
        assert (len(unprepared), len(undescribed)) == (16, 16)
        return mer.experiments.estimate.Estimate(40.0, 60.0 * config.train.epochs, 20.0)

    monkeypatch.setattr(mer.experiments.estimate, "estimate", estimate)
    app = page_at("train", backbone="alexnet", preset="quick").run()
    assert "About 21 min on this machine" in said(app)
    app.number_input(key="quick images train.epochs").set_value(1).run()
    assert "About 2 min on this machine" in said(app)
    app.run()
    assert asked == [(20, 16), (1, 16)], "measured once for each settings"


def test_several_networks_share_the_time_of_preparing_clips(lab, checked, monkeypatch):
    import mer.experiments.estimate

    found = mer.experiments.estimate.Estimate(600.0, 60.0, 1200.0)
    monkeypatch.setattr(mer.experiments.estimate, "estimate", lambda *asked, **lengths: found)
    app = page_at("train", backbone=["alexnet", "resnet18", "vgg16"]).run()
    assert "About 33 min on this machine" in said(app)


def test_clips_in_the_store_do_not_count_for_the_time(lab, checked, monkeypatch):
    counted = []

    def estimate(config, seconds, *, unprepared, undescribed):
        counted.append([len(seconds), len(unprepared), len(undescribed)])
        return Estimate(0.0, 0.0)

    monkeypatch.setattr("mer.experiments.estimate.estimate", estimate)
    (entry,) = known()
    for config in (tiny_config(), tiny_config(image_size=40)):
        launching.time_needed(entry, [launching.spec_of(entry, config, "default")])
    assert counted == [[16, 0, 16], [16, 16, 16]], "clips, those without images, those without descriptors"
