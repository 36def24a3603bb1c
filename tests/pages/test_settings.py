"""The form of the Train page: a widget for every setting, with its range, and the launch behind it."""

import dataclasses
import shlex
import typing

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from mer.cli.parser import build_parser
from mer.cli.specs import make_spec, requested_config
from mer.config.presets import PRESETS, preset
from mer.config.sections import Config
from mer.data.library import Entry
from mer.utils.errors import MerError
from pages._ui.parts import launch as launching
from pages._ui.parts.launch import AGAIN, launch_all, spec_of
from pages._ui.parts.settings import NAMES

ENTRY = Entry("my songs", "/data/my songs", label_column="mood", song_column="film")
NOT_ASKED = {"train.backbone", "split.fold", "train.seed"}
SETTINGS = {
    f"{part}.{field.name}": (field, typing.get_type_hints(type(section))[field.name])
    for part, section in ((part.name, getattr(Config(), part.name)) for part in dataclasses.fields(Config))
    for field in dataclasses.fields(section)
}


def form(name):
    import streamlit as st

    from mer.config.presets import preset
    from pages._ui.parts.settings import ask_settings

    st.session_state["changes"] = ask_settings(preset(name), name)


@pytest.fixture(params=sorted(PRESETS))
def name(request):
    return request.param


@pytest.fixture
def app(name):
    app = AppTest.from_function(form, default_timeout=30, args=(name,)).run()
    assert not app.exception
    return app


def widgets(app):
    """Every widget by its setting, such as "train.lr"."""
    found = [*app.number_input, *app.selectbox, *app.toggle, *app.text_input]
    return {widget.key.split(" ", 1)[1]: widget for widget in found}


def test_every_setting_has_a_widget_with_its_help_and_the_preset_s_value(app, name):
    assert set(widgets(app)) == set(SETTINGS) - NOT_ASKED
    for key, widget in widgets(app).items():
        section, field = key.split(".")
        value = getattr(getattr(preset(name), section), field)
        assert widget.value == value
        assert SETTINGS[key][0].metadata["help"] in widget.help


def test_every_setting_has_a_name_in_words_and_its_option_in_the_help(app, name):
    for key, widget in widgets(app).items():
        field = key.split(".")[1]
        assert widget.label == NAMES[field]
        assert widget.label[0].isupper()
        assert "_" not in widget.label
        assert f"`--{field.replace('_', '-')}`" in widget.help
    asked = {key.split(".")[1] for key in set(SETTINGS) - NOT_ASKED}
    assert set(NAMES) == asked | {"seed"}
    assert len(set(NAMES.values())) == len(NAMES)


def test_untouched_widgets_change_nothing(app):
    assert app.session_state["changes"] == {}


def test_a_number_cannot_leave_its_range(app):
    for widget in app.number_input:
        field, kind = SETTINGS[widget.key.split(" ", 1)[1]]
        low, high = field.metadata["low"], field.metadata["high"]
        assert (widget.min == low) or low is None
        assert (widget.max == high) or high is None
        assert isinstance(widget.value, kind)


def test_a_widget_offers_the_choices_of_its_setting(app):
    for widget in app.selectbox:
        assert tuple(widget.options) == typing.get_args(SETTINGS[widget.key.split(" ", 1)[1]][1])


def test_changed_settings_are_returned_and_fit_the_config(app, name):
    found = widgets(app)
    found["train.lr"].set_value(0.0125)
    found["split.seed"].set_value(7)
    found["train.amp"].set_value(not preset(name).train.amp)
    found["audio.pad"].select("repeat")
    found["train.weights"].set_value("none")
    changes = app.run().session_state["changes"]
    amp = not preset(name).train.amp
    assert changes == {"lr": 0.0125, "seed": 7, "amp": amp, "pad": "repeat", "weights": "none"}
    assert preset(name).updated(**changes).split.seed == preset(name).updated(**changes).train.seed == 7


def test_an_emptied_number_keeps_the_value_of_the_preset(app):
    widgets(app)["train.epochs"].set_value(None)
    assert app.run().session_state["changes"] == {}


@pytest.mark.parametrize("name", ["full"], indirect=True)
@pytest.mark.parametrize(
    ("setting", "value", "step"),
    [
        ("train.dropout", 0.2, 0.02),
        ("train.lr", 1e-3, 1e-4),
        ("train.backbone_lr", 0.4, 0.04),
        ("mel.f_max", 8000.0, 800.0),
        ("train.epochs", 10, 1),
    ],
)
def test_the_step_of_a_number_fits_its_size(app, setting, value, step):
    widget = widgets(app)[setting]
    assert widget.value == value
    assert widget.step == pytest.approx(step)


@pytest.mark.parametrize("name", ["quick"], indirect=True)
def test_a_number_that_is_zero_has_a_small_step(app):
    widget = widgets(app)["train.weight_decay"]
    assert widget.value == 0
    assert widget.step == pytest.approx(0.05)


def test_the_command_of_a_spec_gives_the_same_spec(name):
    config = preset(name).updated(lr=0.02, folds=3, amp=False, seed=5, backbone="resnet18", weights="none")
    spec = spec_of(ENTRY, config, name)
    words = shlex.split(spec.command)
    assert words[:3] == ["python", "-m", "mer"]
    arguments = build_parser().parse_args(words[3:])
    arguments.words = words[3:]
    same = make_spec(arguments, requested_config(arguments))
    assert same == spec
    assert (same.data, same.label_column, same.song_column) == ("/data/my songs", "mood", "film")


@pytest.fixture
def launched(monkeypatch):
    """The specs that were launched, in order; nothing is started. The clock is `launched.now`."""

    class Launched(list):
        now = 100.0

    specs = Launched()

    def launch(store, spec):
        specs.append(spec)
        return f"run{len(specs)}"

    monkeypatch.setattr(launching, "launch", launch)
    monkeypatch.setattr(launching.RunStore, "open", lambda: None)
    monkeypatch.setattr(launching.time, "monotonic", lambda: specs.now)
    monkeypatch.setattr(st, "session_state", {})
    return specs


def specs_of(*backbones):
    return [spec_of(ENTRY, preset("quick").updated(backbone=name), "quick") for name in backbones]


def test_each_spec_becomes_a_run(launched):
    specs = specs_of("resnet18", "alexnet")
    assert launch_all(specs) == ["run1", "run2"]
    assert launched == specs


def test_a_second_click_within_seconds_returns_the_runs_of_the_first(launched):
    first = launch_all(specs_of("resnet18"))
    launched.now += AGAIN - 0.1
    assert launch_all(specs_of("resnet18")) == first
    assert len(launched) == 1


def test_after_a_failure_halfway_only_the_rest_is_launched_again(launched, monkeypatch):
    whole, specs = launching.launch, specs_of("resnet18", "alexnet")

    def second_fails(store, spec):
        if spec.config.train.backbone == "alexnet":
            raise MerError("no space left; free some")
        return whole(store, spec)

    monkeypatch.setattr(launching, "launch", second_fails)
    with pytest.raises(MerError, match="no space left"):
        launch_all(specs)
    monkeypatch.setattr(launching, "launch", whole)
    launch_all(specs)
    assert [spec.config.train.backbone for spec in launched] == ["resnet18", "alexnet"]


def test_a_later_click_or_other_settings_launch_again(launched):
    launch_all(specs_of("resnet18"))
    launch_all(specs_of("alexnet"))
    launched.now += AGAIN
    launch_all(specs_of("alexnet"))
    assert [spec.config.train.backbone for spec in launched] == ["resnet18", "alexnet", "alexnet"]
