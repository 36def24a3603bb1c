"""Why a network answers as it does: on Predict and on Confusion, when asked and not before."""

import io

import numpy as np
import pytest
import soundfile

from mer import explain as core
from mer.backbones import ZOO
from pages._ui import explaining
from pages._ui.data import predictor
from tests.page_helpers import by_label, errors, opened, page_at, said

RATE = 4000


@pytest.fixture
def asked(monkeypatch):
    """Whatever is explained, as (emotion, window), in order."""
    found, real = [], core.explain

    def listen(network, content, **how):
        found.append((how["emotion"], how["window"]))
        return real(network, content, **how)

    monkeypatch.setattr(core, "explain", listen)
    return found


@pytest.fixture
def sounds(monkeypatch):
    """What the players of an explanation are given, as samples."""
    found, real = [], explaining.st.audio

    def listen(content, **how):
        found.append(soundfile.read(io.BytesIO(content), dtype="float32")[0])
        return real(content, **how)

    monkeypatch.setattr(explaining.st, "audio", listen)
    return found


def song(sound, seconds):
    wave = sound.chirp(200, 1800, seconds, rate=RATE) + sound.noise(seconds, rate=RATE, level=0.1)
    file = io.BytesIO()
    soundfile.write(file, wave, RATE, format="WAV", subtype="FLOAT")
    return file.getvalue(), wave


def uploaded(lab, content):
    app = page_at("predict", source="Upload", model=lab.first[:8]).run()
    app.file_uploader[0].set_value([("दिल_1.wav", content, "audio/wav")])
    return app.run()


def explained(app, number=0):
    by = [toggle for toggle in app.toggle if toggle.label == "Explain"]
    return by[number].set_value(True).run()


def charts(app):
    return [chart.proto.spec for chart in app.get("plotly_chart")]


def test_nothing_is_computed_before_it_is_asked_for(lab, asked, sound):
    app = uploaded(lab, song(sound, 2.0)[0])
    assert errors(app) == []
    before = len(charts(app))
    assert asked == []
    app = explained(app)
    assert len(asked) == 1
    assert len(charts(app)) == before + 2
    app.run()
    assert len(asked) == 1


def test_the_two_sounds_add_up_to_the_clip(lab, sounds, sound):
    content, wave = song(sound, 2.0)
    sounds.clear()
    app = explained(uploaded(lab, content))
    assert errors(app) == []
    heard, rest = sounds[-2:]
    np.testing.assert_allclose(heard + rest, wave, atol=1e-4)
    assert "What the map points at matters" in said(app) or "The map points at nothing" in said(app)


def test_the_answer_is_explained_first_and_another_emotion_or_window_on_request(lab, asked, sound):
    app = explained(uploaded(lab, song(sound, 2.0)[0]))
    answer = app.subheader[0].value.split()[0]
    other = "Sad" if answer == "Happy" else "Happy"
    assert by_label(app.selectbox, "What speaks for").value == answer
    by_label(app.selectbox, "What speaks for").set_value(other).run()
    part = by_label(app.selectbox, "in")
    assert part.options == ["the whole clip", "0 to 1 s", "0.5 to 1.5 s", "1 to 2 s"]
    part.set_value(1).run()
    assert errors(app) == []
    assert asked == [(answer, None), (other, None), (other, 1)]


def test_of_a_long_clip_only_windows_are_explained(lab, asked, sound):
    app = explained(uploaded(lab, song(sound, 8.0)[0]))
    assert errors(app) == []
    part = by_label(app.selectbox, "in")
    assert (len(part.options), part.options[0]) == (15, "0 to 1 s")
    assert asked[0][1] == 0


def test_where_nothing_speaks_for_an_emotion_it_is_said(lab, monkeypatch, sound):
    monkeypatch.setattr("mer.inference.grad_cam", lambda model, x, target: 0 * x[:, 0])
    app = explained(uploaded(lab, song(sound, 1.0)[0]))
    assert any("Nothing here speaks for" in info.value for info in app.info)
    assert errors(app) == []


def test_a_network_that_cannot_be_explained_is_one_message(lab, monkeypatch, sound):
    monkeypatch.setattr("mer.inference.grad_cam", refuse)
    app = explained(uploaded(lab, song(sound, 1.0)[0]))
    (error,) = errors(app)
    assert "'vit_b_16' cannot be explained" in error
    assert app.get("download_button")


def refuse(*_):
    from mer.errors import BackboneError

    raise BackboneError(f"backbone 'vit_b_16' cannot be explained; these can: {', '.join(ZOO)}")


def test_a_clip_of_a_cell_is_explained_by_the_network_that_was_tested_on_it(lab, asked):
    app = explained(opened("confusion", run=lab.first[:8]))
    assert errors(app) == []
    assert len(asked) == 1
    assert asked[0][1] is None
    assert "Hear it" in said(app)


def test_of_a_cross_validation_it_is_the_network_of_the_clips_fold(lab):
    from mer.experiments import Experiment
    from mer.material import Spec
    from pages._ui.evaluated import predictions, tested_by
    from tests.run_helpers import tiny_config

    spec = Spec(data=str(lab.corpus), config=tiny_config(epochs=1, folds=2), command="")
    outcome = Experiment().train(spec)
    run = lab.runs.get(outcome.run_id)
    try:
        for row in predictions(run):
            model = tested_by(run, row["clip"])
            fold = lab.runs.get(model.key)
            assert row["clip"] in [each["clip"] for each in predictions(fold)]
            path = lab.corpus / row["clip"]
            answer = predictor(model).predict(path).probabilities
            assert answer == pytest.approx(row["probabilities"], abs=1e-4)
        assert {tested_by(run, row["clip"]).key for row in predictions(run)} == {
            fold.run_id[:8] for fold in outcome.folds
        }
    finally:
        lab.runs.delete(run.id)
