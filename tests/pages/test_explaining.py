"""Explanations on Predict and Confusion, which are computed only on request."""

import io
import json

import numpy as np
import pytest
import soundfile

from mer.audio.mel import mel_frequencies
from mer.config.sections import Config
from mer.experiments.experiment import Experiment
from mer.experiments.prepared import Spec
from mer.inference import explain as core
from mer.inference.deletion import Deletion
from mer.utils.errors import BackboneError
from pages._ui.cached.models import predictor
from pages._ui.cached.results import predictions
from pages._ui.cached.results import tested_by as by_whom
from pages._ui.charts import base
from pages._ui.charts.sound import deletion_curves, explained
from pages._ui.parts import explanation as explaining
from tests.page_helpers import by_label, errors, opened, page_at, said
from tests.run_helpers import RATE, tiny_config

CURVES = Deletion((0.0, 0.5, 1.0), (0.9, 0.2, 0.1), ((0.9, 0.7, 0.1), (0.9, 0.5, 0.1)))


@pytest.fixture
def asked(monkeypatch):
    """The explanations that were computed, as (emotion, window)."""
    found, real = [], core.explain

    def listen(network, content, **how):
        found.append((how["emotion"], how["window"]))
        return real(network, content, **how)

    monkeypatch.setattr(core, "explain", listen)
    return found


@pytest.fixture
def everywhere(monkeypatch):
    """Replace Grad-CAM by a map that marks everything."""
    monkeypatch.setattr("mer.inference.predictor.grad_cam", lambda model, inputs, target: inputs[:, 0].abs())


@pytest.fixture
def players(monkeypatch):
    """The samples in the players of an explanation."""
    found, real = [], explaining.st.audio

    def listen(content, **how):
        found.append(soundfile.read(io.BytesIO(content), dtype="float32")[0])
        return real(content, **how)

    monkeypatch.setattr(explaining.st, "audio", listen)
    return found


@pytest.fixture
def song(sound):
    """`song(seconds)` returns a WAV file and its samples."""

    def make(seconds):
        wave = sound.chirp(200, 1500, seconds, rate=RATE) + sound.noise(seconds, rate=RATE, level=0.1)
        file = io.BytesIO()
        soundfile.write(file, wave, RATE, format="WAV", subtype="FLOAT")
        return file.getvalue(), wave

    return make


@pytest.fixture
def uploaded(lab):
    """`uploaded(content)` opens Predict with a file and a small network: windows of 1 s, a hop of 0.5 s."""

    def open_page(content):
        app = page_at("predict", source="Upload", model=lab.first[:8]).run()
        app.file_uploader[0].set_value([("दिल_1.wav", content, "audio/wav")])
        return app.run()

    return open_page


def switched_on(app):
    return by_label(app.toggle, "Explain").set_value(True).run()


def charts(app):
    return len(app.get("plotly_chart"))


def test_no_explanation_is_computed_before_it_is_requested(asked, everywhere, song, uploaded):
    app = uploaded(song(1.0)[0])
    before = charts(app)
    assert asked == []
    switched_on(app)
    assert (len(asked), charts(app)) == (1, before + 2)
    app.run()
    assert len(asked) == 1
    assert errors(app) == []


def test_the_two_sounds_add_up_to_the_clip(players, everywhere, song, uploaded):
    content, wave = song(2.0)
    app = uploaded(content)
    players.clear()
    switched_on(app)
    heard, rest = players[-2:]
    np.testing.assert_allclose(heard + rest, wave, atol=1e-4)
    assert np.abs(heard).max() > 0.01
    assert "area under the curve" in said(app)


def test_the_answer_is_explained_first_and_another_emotion_or_window_on_request(
    asked, everywhere, song, uploaded
):
    app = switched_on(uploaded(song(2.0)[0]))
    answer = app.subheader[0].value.split()[0]
    other = "Sad" if answer == "Happy" else "Happy"
    assert by_label(app.selectbox, "Evidence for").value == answer
    by_label(app.selectbox, "Evidence for").set_value(other).run()
    part = by_label(app.selectbox, "in")
    assert part.options == ["the whole clip", "0 to 1 s", "0.5 to 1.5 s", "1 to 2 s"]
    part.set_value(1).run()
    assert errors(app) == []
    assert asked == [(answer, None), (other, None), (other, 1)]


def test_the_window_that_was_clicked_is_explained(monkeypatch, asked, everywhere, song, uploaded):
    real, clicked = base.st.plotly_chart, [None]

    def click(chart, **options):
        shown = real(chart, **options)
        points = [] if clicked[0] is None else [{"customdata": clicked[0]}]
        return {"selection": {"points": points}} if "on_select" in options else shown

    monkeypatch.setattr(base.st, "plotly_chart", click)
    app = switched_on(uploaded(song(2.0)[0]))
    for number, words in ((2, "1 to 2 s"), (1, "0.5 to 1.5 s"), (None, "the whole clip")):
        clicked[0] = number
        app.run()
        part = by_label(app.selectbox, "in")
        assert part.options[part.index] == words
        assert asked[-1][1] == number or number is None
    assert [window for _, window in asked] == [None, 2, 1]
    assert errors(app) == []


def test_a_long_clip_is_explained_window_by_window_only(asked, everywhere, song, uploaded):
    app = switched_on(uploaded(song(7.5)[0]))
    assert errors(app) == []
    part = by_label(app.selectbox, "in")
    assert (len(part.options), part.options[0]) == (14, "0 to 1 s")
    assert asked[0][1] == 0


def test_without_evidence_for_an_emotion_the_page_says_so(monkeypatch, song, uploaded):
    monkeypatch.setattr("mer.inference.predictor.grad_cam", lambda model, inputs, target: 0 * inputs[:, 0])
    app = switched_on(uploaded(song(1.0)[0]))
    assert any("There is no evidence for" in info.value for info in app.info)
    assert errors(app) == []


def test_a_network_that_cannot_be_explained_gives_one_error(monkeypatch, song, uploaded):
    def refuse(*_):
        raise BackboneError("backbone 'vit_b_16' cannot be explained; these can: alexnet")

    monkeypatch.setattr("mer.inference.predictor.grad_cam", refuse)
    app = switched_on(uploaded(song(1.0)[0]))
    assert errors(app) == ["backbone 'vit_b_16' cannot be explained; these can: alexnet"]
    assert app.get("download_button")


def test_a_clip_of_a_cell_is_explained_by_the_network_that_predicted_it(lab, asked, everywhere):
    app = opened("confusion", run=lab.first[:8])
    assert asked == []
    next(toggle for toggle in app.toggle if toggle.label == "Explain").set_value(True).run()
    assert errors(app) == []
    assert asked == [(app.selectbox(key="said").value, None)]
    assert "Marked region" in said(app)


def test_a_clip_of_a_cross_validation_is_explained_by_the_network_of_its_fold(lab):
    spec = Spec(data=str(lab.corpus), config=tiny_config(epochs=1, folds=2))
    outcome = Experiment().train(spec)
    run = lab.runs.get(outcome.run_id)
    try:
        models = {row["clip"]: by_whom(run, row["clip"]) for row in predictions(run)}
        assert {model.key for model in models.values()} == {fold.run_id[:8] for fold in outcome.folds}
        for row in predictions(run)[::5]:
            answer = predictor(models[row["clip"]]).predict(lab.corpus / row["clip"])
            assert answer.probabilities == pytest.approx(row["probabilities"], abs=1e-3)
    finally:
        for each in (outcome, *outcome.folds):
            lab.runs.delete(each.run_id)


def test_the_map_is_drawn_over_the_spectrogram_at_the_same_seconds_and_bands():
    mel = Config().mel
    level, relevance = np.zeros((mel.n_mels, 100)), np.zeros((mel.n_mels, 100))
    relevance[40, 50] = 100
    below, over, line = explained(level, relevance, span=(5.0, 15.0), config=mel, title="").data
    row, column = np.argwhere(np.asarray(over.z) == 100)[0]
    assert over.x[column] == pytest.approx(5 + 10 * 50 / 99, abs=0.01)
    assert over.y[row] == f"{mel_frequencies(mel)[40]:.1f} Hz"
    assert list(below.x) == list(over.x) == list(line.x)
    assert (line.contours.start, line.contours.end) == (50, 50)


def test_the_deletion_curve_is_drawn_with_the_curves_of_shifted_maps():
    low, high, mean, own = deletion_curves(CURVES, "Sad").data
    assert list(own.y) == [0.9, 0.2, 0.1]
    assert list(mean.y) == pytest.approx([0.9, 0.6, 0.1])
    assert (low.y[1], high.y[1]) == (0.5, 0.7)
    assert "probability of Sad" in json.dumps(deletion_curves(CURVES, "Sad").to_dict(), default=str)
