"""An explanation lies where the clip was heard: right seconds, right frequencies, and the sound of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mer.audio.decode import load
from mer.audio.mel import images
from mer.inference.ensemble import open_predictor
from mer.inference.explain import explain
from mer.inference.predictor import Predictor
from mer.models.card import Member, load_card
from mer.models.checkpoint import save_checkpoint, write_ensemble
from mer.utils.errors import AudioError, ConfigError
from tests.tiny_backbone import tiny_card, tiny_config, tiny_fit, tiny_zoo

RATE = 4000


@pytest.fixture(autouse=True)
def tiny_in_the_zoo():
    with tiny_zoo():
        yield


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    with tiny_zoo():
        config = tiny_config(epochs=1)
        return save_checkpoint(tmp_path_factory.mktemp("c") / "c", tiny_fit(config)[0], tiny_card(config))


@pytest.fixture
def predictor(checkpoint):
    return Predictor(checkpoint, device="cpu")


@pytest.fixture
def clip(tmp_path, sound, write_audio):
    def write(seconds):
        wave = 0.5 * sound.chirp(100, 1900, seconds, rate=RATE) + 0.1 * sound.noise(seconds, rate=RATE)
        return write_audio(tmp_path / "clip.wav", wave, RATE)

    return write


@pytest.fixture
def sees_loudness(predictor, monkeypatch):
    """A network that looks at what is loud, so that its map should be the spectrogram."""

    def evidence(inputs, target):
        return (inputs[:, 0] - inputs.min()).clone()

    monkeypatch.setattr(predictor, "evidence", evidence)
    return predictor


@pytest.mark.parametrize("seconds", [0.6, 1.0, 1.4, 3.0])
def test_the_map_of_a_network_that_looks_at_what_is_loud_is_the_spectrogram(sees_loudness, clip, seconds):
    found = explain(sees_loudness, clip(seconds))
    last = 1 + int((1.0 if seconds == 1.4 else seconds) * RATE) // 64  # 0.4 s more are no window
    heard = found.relevance[:, : last - 1].ravel(), found.level[:, : last - 1].ravel()
    assert found.relevance.shape == found.level.shape == (16, 1 + int(seconds * RATE) // 64)
    assert np.corrcoef(*heard)[0, 1] > 0.8
    assert found.relevance.min() >= 0
    assert found.relevance.max() == 1
    if seconds == 1.4:
        assert not found.relevance[:, last:].any()


def test_axes_are_seconds_of_the_clip_and_hertz(predictor, clip):
    found = explain(predictor, clip(3.0))
    assert (found.start, found.end) == (0, 3)
    assert found.seconds == pytest.approx(np.arange(188) * 64 / RATE)
    assert len(found.hertz) == 16
    assert 0 < found.hertz[0] < found.hertz[-1] < 2000


def test_one_window_is_explained_where_it_lies(sees_loudness, clip):
    path = clip(3.0)
    found = explain(sees_loudness, path, window=2)
    assert (found.start, found.end, found.seconds[0]) == (1, 2, 1)
    assert found.relevance.shape == (16, 63)
    wave = load(path, sees_loudness.card.config.audio)
    np.testing.assert_allclose(found.heard + found.rest, wave[RATE : 2 * RATE], atol=1e-5)
    assert np.corrcoef(found.relevance.ravel(), found.level.ravel())[0, 1] > 0.8


@pytest.mark.parametrize("seconds", [0.6, 3.3])
def test_the_marked_part_and_the_rest_sum_to_the_clip(predictor, clip, seconds):
    path = clip(seconds)
    found = explain(predictor, path)
    np.testing.assert_allclose(found.heard + found.rest, load(path, predictor.card.config.audio), atol=1e-5)
    assert found.rate == RATE


def test_the_answer_is_explained_unless_another_emotion_is_asked_for(predictor, clip):
    path = clip(2.0)
    prediction = predictor.predict(path)
    found = explain(predictor, path)
    other = next(name for name in predictor.card.classes if name != prediction.emotion)
    asked = explain(predictor, path, emotion=other)
    assert (found.emotion, found.explained) == (prediction.emotion, prediction.emotion)
    assert (asked.emotion, asked.explained) == (prediction.emotion, other)
    assert found.probability == pytest.approx(prediction.probabilities[prediction.emotion])
    assert asked.probability == pytest.approx(prediction.probabilities[other])
    assert not np.array_equal(found.relevance, asked.relevance)


def test_bytes_give_what_the_file_gives(predictor, clip):
    path = clip(1.5)
    first, second = explain(predictor, path), explain(predictor, path.read_bytes(), name="clip.wav")
    np.testing.assert_array_equal(first.relevance, second.relevance)
    assert first.deletion == second.deletion


def test_the_curve_begins_at_what_the_network_believes(predictor, clip):
    found = explain(predictor, clip(2.0), emotion="Sad")
    assert found.deletion.curve[0] == pytest.approx(found.probability)
    data = found.to_dict()
    assert data["deletion"]["auc"] == found.deletion.auc
    assert (data["explained"], data["end"]) == ("Sad", 2)


def test_without_evidence_there_is_no_deletion_curve(predictor, clip, monkeypatch):
    monkeypatch.setattr(predictor, "evidence", lambda inputs, target: torch.zeros(len(inputs), 4, 4))
    found = explain(predictor, clip(2.0))
    assert found.deletion is None
    assert not found.relevance.any()
    assert not found.heard.any()
    assert found.to_dict()["deletion"] is None


def test_an_unknown_emotion_or_window_is_named_with_those_there_are(predictor, clip):
    path = clip(2.0)
    with pytest.raises(ConfigError, match="emotion 'Joy' is none of this checkpoint's: Happy, Sad"):
        explain(predictor, path, emotion="Joy")
    for window in (3, -1):
        with pytest.raises(ConfigError, match=rf"window {window}: .*clip.wav has windows 0 to 2"):
            explain(predictor, path, window=window)


def test_a_long_clip_is_explained_window_by_window(predictor, clip):
    path = clip(121)
    with pytest.raises(AudioError, match=r"clip.wav: 121 s long; choose .*\(--window 0 to 240\), or cut it"):
        explain(predictor, path)
    assert explain(predictor, path, window=240).end == 121


def test_the_input_of_a_network_gives_its_prediction(predictor, clip):
    config, path = predictor.card.config, clip(3.0)
    windows = images(load(path, config.audio), audio=config.audio, mel=config.mel)
    inputs = predictor.inputs(windows)
    assert inputs.shape == (5, 3, 32, 32)
    answer = predictor.predict(path).probabilities
    np.testing.assert_allclose(predictor.respond(inputs)[0], list(answer.values()), rtol=1e-5)


def test_with_weighted_windows_the_prediction_of_the_whole_clip_is_explained(tmp_path, clip):
    config = tiny_config(epochs=1, pool="attention")
    model = tiny_fit(config)[0]
    with torch.no_grad():
        for parameter in model.weigh.parameters():
            parameter.mul_(300)  # one window decides
    listener = Predictor(save_checkpoint(tmp_path / "weighs", model, tiny_card(config)), device="cpu")
    path = clip(3.3)
    prediction = listener.predict(path)
    assert max(window.weight for window in prediction.windows) > 0.5
    found = explain(listener, path)
    assert found.emotion == prediction.emotion
    assert found.probability == pytest.approx(prediction.probabilities[found.emotion])
    assert found.deletion.curve[0] == pytest.approx(found.probability)


# --- ensembles --------------------------------------------------------------------------------------


@pytest.fixture
def ensemble(checkpoint, tmp_path):
    """`ensemble(**changes)` of the checkpoint and one with these settings of its own, which weighs more."""

    def write(**changes):
        config = tiny_config(epochs=2)
        own = tiny_card(config)
        own = replace(own, config=own.config.updated(**changes))
        other = save_checkpoint(tmp_path / "other", tiny_fit(config)[0], own)
        members = (Member(0.25), Member(0.75))
        card = replace(load_card(checkpoint), members=members, calibration={"temperature": 1.7, "clips": 30})
        (tmp_path / "both").mkdir()
        write_ensemble(tmp_path / "both", [checkpoint, other], card)
        return open_predictor(tmp_path / "both", device="cpu")

    return write


def test_the_map_of_an_ensemble_is_the_weighted_mean_of_its_networks_maps(ensemble, clip, monkeypatch):
    listener, path = ensemble(), clip(1.0)
    for number, network in enumerate(listener.networks):
        shown = torch.zeros(1, 32, 32)
        shown[:, :, 16 * number : 16 * number + 16] = 10.0 ** (3 * number)  # how large says nothing
        monkeypatch.setattr(network, "evidence", lambda inputs, target, shown=shown: shown)
    found = explain(listener, path)
    assert found.relevance[:, 5:25] == pytest.approx(1 / 3, abs=0.01)
    assert found.relevance[:, 40:60] == pytest.approx(1)


def test_the_deletion_check_uses_the_whole_ensemble(ensemble, clip):
    listener, path = ensemble(), clip(2.0)
    prediction = listener.predict(path)
    found = explain(listener, path)
    assert found.emotion == prediction.emotion
    assert found.probability == pytest.approx(prediction.probabilities[found.emotion])
    assert found.deletion.curve[0] == pytest.approx(found.probability)


def test_networks_with_different_inputs_have_no_common_map(ensemble, clip):
    with pytest.raises(ConfigError, match="explain one network: the ensemble's folder holds member-1"):
        explain(ensemble(window_seconds=0.9), clip(2.0))
