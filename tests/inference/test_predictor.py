"""A clip in, probabilities out: of the whole clip and of each window, at the right seconds."""

import json
import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mer.audio.decode import load
from mer.audio.mel import images
from mer.audio.transforms import EvalTransform
from mer.data.folders import audio_below
from mer.inference.predictor import Prediction, Predictor
from mer.metrics.calibration import tempered
from mer.models.checkpoint import load_checkpoint, save_checkpoint
from mer.models.outputs import to_probabilities
from mer.utils.errors import AudioError, CheckpointError, DataError
from tests.tiny_backbone import tiny_card, tiny_config, tiny_fit, tiny_zoo

RATE = 4000


@pytest.fixture(autouse=True)
def tiny_in_the_zoo():
    with tiny_zoo():
        yield


@pytest.fixture
def make(tmp_path):
    """`make(**train settings)` saves a trained tiny checkpoint and opens it."""

    def open_it(classes=("Happy", "Sad"), **changes):
        config = tiny_config(epochs=1, **changes)
        model, _ = tiny_fit(config)
        folder = save_checkpoint(tmp_path / "checkpoint", model, tiny_card(config, classes=classes))
        return Predictor(folder, device="cpu")

    return open_it


@pytest.fixture
def predictor(make):
    return make()


@pytest.fixture
def clip(tmp_path, sound, write_audio):
    """`clip(seconds)` writes a clip that changes all the time."""

    def write(seconds, name="clip.wav", **options):
        rate = options.pop("rate", RATE)
        wave = 0.5 * sound.chirp(100, 1900, seconds, rate=rate) + 0.1 * sound.noise(seconds, rate=rate)
        return write_audio(tmp_path / name, wave, rate, **options)

    return write


@pytest.mark.parametrize("level", [0.0, 1e-4])
@pytest.mark.parametrize("first", [True, False])
def test_silent_windows_have_no_vote_and_it_is_said(first, level, predictor, clip, sound):
    music = load(clip(3.0), predictor.card.config.audio)
    silence = level * sound.noise(3.0, rate=RATE)
    alone = predictor.predict_waveform(music)
    found = predictor.predict_waveform(np.concatenate([silence, music] if first else [music, silence]))
    begin = 3.0 if first else 0.0
    whole = [(start + begin, end + begin) for start, end in spans(alone)]
    half = (2.5, 3.5)
    assert spans(found) == ([half, *whole] if first else [*whole, half])
    assert "Windows without a vote, since they are silent: 5 of 11." in found.remarks
    assert any(remark.startswith("50% of it is silence") for remark in found.remarks)


def test_training_leaves_out_the_windows_that_a_prediction_leaves_out(predictor, clip):
    config = predictor.card.config
    wave = np.concatenate([np.zeros(3 * RATE, np.float32), load(clip(3.0), config.audio)])
    made = images(wave, audio=config.audio, mel=config.mel)
    assert len(made) == len(predictor.predict_waveform(wave).windows)


def test_a_cut_file_is_predicted_with_a_remark(predictor, clip):
    content = clip(4.0).read_bytes()[: 44 + 2 * RATE * 2]
    found = predictor.predict(content)
    assert found.remarks[0] == "It is cut: 2.0 of its 4.0 s can be read."
    assert found.to_dict()["remarks"][0] == found.remarks[0]


def spans(prediction):
    return [(window.start, window.end) for window in prediction.windows]


@pytest.mark.parametrize(
    ("seconds", "wanted"),
    [
        (0.6, [(0, 0.6)]),
        (1.0, [(0, 1)]),
        (1.4, [(0, 1)]),
        (1.5, [(0, 1), (0.5, 1.5)]),
        (3.0, [(0, 1), (0.5, 1.5), (1, 2), (1.5, 2.5), (2, 3)]),
        (3.3, [(0, 1), (0.5, 1.5), (1, 2), (1.5, 2.5), (2, 3)]),
    ],
)
def test_windows_have_their_times_in_the_clip(predictor, clip, seconds, wanted):
    assert spans(predictor.predict(clip(seconds))) == wanted


def test_a_tail_of_more_than_half_a_second_gets_a_window_flush_with_the_end(tmp_path, clip):
    config = tiny_config(epochs=1)
    card = tiny_card(config)
    wide = type(card)(
        card.classes, card.config.updated(window_seconds=2.0, hop_seconds=2.0), card.normalization
    )
    predictor = Predictor(save_checkpoint(tmp_path / "wide", tiny_fit(config)[0], wide), device="cpu")
    assert spans(predictor.predict(clip(4.75))) == [(0, 2), (2, 4), (2.75, 4.75)]


@pytest.mark.parametrize("loss", ["ce", "bce"])
def test_probabilities_are_a_distribution_over_the_classes(make, clip, loss):
    predictor = make(loss=loss)
    prediction = predictor.predict(clip(3.0))
    for part in (prediction, *prediction.windows):
        assert list(part.probabilities) == ["Happy", "Sad"]
        assert sum(part.probabilities.values()) == pytest.approx(1)
        assert all(0 <= value <= 1 for value in part.probabilities.values())


def test_the_clip_is_the_mean_of_its_windows_and_the_emotion_the_likeliest(predictor, clip):
    prediction = predictor.predict(clip(3.0))
    rows = [window.probabilities for window in prediction.windows]
    for name, value in prediction.probabilities.items():
        assert value == pytest.approx(np.mean([row[name] for row in rows]))
    assert prediction.emotion == max(prediction.probabilities, key=prediction.probabilities.get)
    assert len({round(row["Happy"], 6) for row in rows}) > 1


def test_class_names_are_those_of_the_card(make, clip, tmp_path):
    path = clip(2.0)
    first = make(classes=("Happy", "Sad")).predict(path)
    shutil.rmtree(tmp_path / "checkpoint")
    second = make(classes=("Sad", "Happy")).predict(path)
    assert list(second.probabilities) == ["Sad", "Happy"]
    assert list(second.probabilities.values()) == list(first.probabilities.values())
    assert {first.emotion, second.emotion} == {"Happy", "Sad"}


def test_the_bytes_of_a_file_give_what_the_file_gives(predictor, clip):
    path = clip(2.0)
    assert predictor.predict(path.read_bytes()) == predictor.predict(path)


def test_a_prediction_repeats_itself(predictor, clip):
    path = clip(2.0)
    assert predictor.predict(path) == predictor.predict(path)


def test_an_attention_head_gives_the_weights_of_each_window_s_parts(make, clip):
    prediction = make(head="attention").predict(clip(3.0))
    for window in prediction.windows:
        assert len(window.attention) > 1
        assert sum(window.attention) == pytest.approx(1, abs=1e-5)
    assert prediction.to_dict()["windows"][0]["attention"] == list(prediction.windows[0].attention)


def test_weighted_windows_have_their_weights(make, clip):
    prediction = make(pool="attention").predict(clip(3.0))
    weights = [window.weight for window in prediction.windows]
    assert sum(weights) == pytest.approx(1)
    for name, share in prediction.probabilities.items():
        parts = [w.weight * w.probabilities[name] for w in prediction.windows]
        assert share == pytest.approx(sum(parts))
    assert prediction.to_dict()["windows"][0]["weight"] == weights[0]


@pytest.mark.parametrize("head", ["avg", "gru"])
def test_other_heads_give_no_attention(make, clip, head):
    window = make(head=head).predict(clip(1.0)).windows[0]
    assert window.attention == ()
    assert "attention" not in window.to_dict()


def test_many_windows_are_predicted_in_groups(predictor, clip, monkeypatch):
    path = clip(6.0)
    at_once = predictor.predict(path)
    monkeypatch.setattr("mer.inference.predictor.AT_ONCE", 2)
    for one, other in zip(at_once.windows, predictor.predict(path).windows, strict=True):
        assert one.start == other.start
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_windows_are_tempered_as_the_card_says(make, clip, tmp_path, temperature):
    path, plain = clip(2.0), make()
    model, _, card = load_checkpoint(tmp_path / "checkpoint")
    card = replace(card, calibration={"temperature": temperature})
    warm = Predictor(save_checkpoint(tmp_path / "warm", model, card), device="cpu")
    for one, other in zip(plain.predict(path).windows, warm.predict(path).windows, strict=True):
        rows = np.array([list(one.probabilities.values())])
        assert list(other.probabilities.values()) == pytest.approx(tempered(rows, temperature)[0], abs=1e-6)


@pytest.mark.parametrize("loss", ["ce", "bce"])
def test_a_prediction_is_the_models_own_answer(make, clip, tmp_path, loss):
    path, predictor = clip(2.0), make(loss=loss)
    model, standardizer, card = load_checkpoint(tmp_path / "checkpoint")
    inputs = images(load(path, card.config.audio), audio=card.config.audio, mel=card.config.mel)
    with torch.inference_mode():
        rows = to_probabilities(model(EvalTransform(standardizer)(torch.from_numpy(inputs))), loss)
    prediction = predictor.predict(path)
    for window, row in zip(prediction.windows, rows, strict=True):
        assert list(window.probabilities.values()) == pytest.approx(row.tolist(), abs=1e-6)


def test_more_windows_than_a_batch_give_the_same_as_one_by_one(predictor):
    rng = np.random.default_rng(0)
    windows = rng.normal(-40, 10, (19, 32, 32)).astype(np.float16)
    alone = np.concatenate([predictor.answers(windows[k : k + 1])[0] for k in range(len(windows))])
    sizes = []
    predictor.model.body.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    together = predictor.answers(windows)[0]
    assert sizes == [16, 3]
    assert together.shape == (19, 2)
    assert together == pytest.approx(alone, abs=1e-6)
    assert together.sum(axis=1) == pytest.approx(np.ones(19))


@pytest.mark.parametrize("count", [1, 9])
def test_evidence_of_a_network_that_draws_at_random_repeats_itself(make, count):
    predictor = make(always_training=True, freeze="none")
    generator = torch.Generator().manual_seed(1)
    inputs = predictor.inputs(torch.randn(count, 32, 32, generator=generator).numpy() * 10 - 35)
    torch.manual_seed(7)
    state = torch.get_rng_state()
    first, second = (predictor.evidence(inputs, 0) for _ in range(2))
    assert len(first) == count
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("rate", [8000, 22_050])
def test_another_sample_rate_changes_next_to_nothing(predictor, clip, rate):
    own, other = predictor.predict(clip(3.0, "a.wav")), predictor.predict(clip(3.0, "b.wav", rate=rate))
    assert spans(own) == spans(other)
    assert own.probabilities["Happy"] == pytest.approx(other.probabilities["Happy"], abs=0.15)


def test_a_prediction_is_plain_data(predictor, clip):
    data = predictor.predict(clip(1.5)).to_dict()
    assert json.loads(json.dumps(data)) == data
    assert data.keys() == {"emotion", "probabilities", "windows", "remarks"}
    assert [window["end"] for window in data["windows"]] == [1.0, 1.5]


def test_a_decoded_clip_gives_what_its_file_gives(predictor, clip):
    path = clip(2.0, rate=8000)
    waveform = load(path, predictor.card.config.audio)
    assert predictor.predict_waveform(waveform) == predictor.predict(path)


def test_a_prediction_has_remarks_on_the_clip(predictor, clip, tmp_path, sound, write_audio):
    assert predictor.predict(clip(3.0)).remarks == ()
    noise = predictor.predict(write_audio(tmp_path / "noise.wav", sound.noise(3.0)))
    assert noise.remarks == ("It sounds like noise rather than music.",)
    assert noise.to_dict()["remarks"] == list(noise.remarks)


@pytest.mark.parametrize(
    ("values", "unsure"), [((0.45, 0.36, 0.19), True), ((0.19, 0.5, 0.31), False), ((0.5, 0.5, 0.0), True)]
)
def test_two_close_emotions_are_remarked_as_unsure(values, unsure):
    probabilities = dict(zip("abc", values, strict=True))
    prediction = Prediction(max(probabilities, key=probabilities.get), probabilities, ())
    assert prediction.unsure is unsure


def test_the_runner_up_is_the_second_likeliest():
    assert Prediction("a", {"b": 0.3, "a": 0.6, "c": 0.1}, ()).runner_up == "b"


def test_a_clip_that_cannot_be_used_is_named(predictor, tmp_path, sound, write_audio):
    with pytest.raises(AudioError, match=r"gone\.wav: no such file; check the path"):
        predictor.predict(tmp_path / "gone.wav")
    with pytest.raises(AudioError, match=r"my upload: text, not audio"):
        predictor.predict(b"nothing", name="my upload")
    silent = write_audio(tmp_path / "silent.wav", sound.silence(1.0))
    with pytest.raises(AudioError, match=r"silent\.wav: silent"):
        predictor.predict(silent)


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="give an exported folder"):
        Predictor(tmp_path)


def test_many_files_give_what_each_gives_alone_in_the_order_given(predictor, clip):
    paths = [clip(seconds, f"{seconds}.wav") for seconds in (6.0, 1.0, 3.0, 0.6, 2.0, 1.5, 4.0)]
    found = list(predictor.predict_many(paths, workers=3))
    assert [path for path, _ in found] == paths
    for path, prediction in found:
        alone = predictor.predict(path)
        assert prediction.emotion == alone.emotion
        assert spans(prediction) == spans(alone)
        for window, own in zip(prediction.windows, alone.windows, strict=True):
            assert window.probabilities == pytest.approx(own.probabilities, abs=1e-5)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_that_cannot_be_used_comes_as_its_error_and_stops_no_other(predictor, clip, tmp_path, workers):
    good, bad = clip(1.0), tmp_path / "bad.wav"
    bad.write_text("no sound")
    paths = [good, bad, tmp_path / f"{'x' * 300}.wav", tmp_path / "gone.wav", good]
    found = [outcome for _, outcome in predictor.predict_many(paths, workers=workers)]
    assert found[0] == found[-1] == predictor.predict(good)
    wanted = ("bad.wav: text, not audio", "cannot be read (File name", "no such file")
    for error, words in zip(found[1:-1], wanted, strict=True):
        assert isinstance(error, AudioError)
        assert words in str(error)
        assert error.__traceback__ is None  # through which a list of errors would hold on to all samples


def test_a_file_whose_name_is_not_unicode_is_heard(predictor, clip, tmp_path):
    foreign = tmp_path / os.fsdecode(b"caf\xe9.wav")
    foreign.write_bytes(clip(1.0).read_bytes())
    assert predictor.predict(foreign) == predictor.predict(clip(1.0))


def test_no_files_give_no_predictions(predictor):
    assert list(predictor.predict_many([])) == []


class Paths(list):
    """A hundred paths that count how many of them were taken."""

    def __init__(self):
        super().__init__(Path(f"{number}.wav") for number in range(100))
        self.taken = 0

    def __iter__(self):
        for path in super().__iter__():
            self.taken += 1
            yield path


def test_at_most_two_files_per_worker_are_in_progress(predictor, monkeypatch):
    monkeypatch.setattr(predictor, "predict", str)
    paths = Paths()
    ahead = [paths.taken - done for done, _ in enumerate(predictor.predict_many(paths, workers=3))]
    assert len(ahead) == 100
    assert max(ahead) == 6


def test_closing_early_predicts_nothing_more_and_ends_the_threads(predictor, monkeypatch):
    started, first_is_read, before = [], threading.Event(), threading.enumerate()

    def predict(path):
        started.append(path)
        if path != Path("0.wav"):
            first_is_read.wait(timeout=60)

    monkeypatch.setattr(predictor, "predict", predict)
    outcomes = predictor.predict_many(Paths(), workers=2)
    next(outcomes)
    first_is_read.set()
    outcomes.close()
    assert len(started) <= 4
    assert set(threading.enumerate()) <= set(before)


def threads_seen(predictor, monkeypatch, *, workers, end=list):
    """Torch's threads while files are predicted and afterwards, where this process had three."""
    seen = set()
    monkeypatch.setattr(predictor, "predict", lambda _: seen.add(torch.get_num_threads()))
    torch.set_num_threads(3)  # the fixture that put up the tiny zoo sets it back
    end(predictor.predict_many(Paths(), workers=workers))
    return seen, torch.get_num_threads()


def only_the_first(outcomes):
    next(outcomes)
    outcomes.close()


@pytest.mark.parametrize("end", [list, only_the_first])
def test_workers_have_one_torch_thread_each_and_the_process_its_own_afterwards(predictor, monkeypatch, end):
    assert threads_seen(predictor, monkeypatch, workers=2, end=end) == ({1}, 3)


def test_a_single_worker_has_all_of_torchs_threads(predictor, monkeypatch):
    assert threads_seen(predictor, monkeypatch, workers=1) == ({3}, 3)


def test_an_error_that_is_not_of_a_clip_is_raised(predictor, clip, monkeypatch):
    monkeypatch.setattr(predictor, "model", None)
    torch.set_num_threads(3)
    with pytest.raises(AttributeError):
        list(predictor.predict_many([clip(1.0)] * 9, workers=2))
    assert torch.get_num_threads() == 3


def test_the_audio_below_a_folder_is_found_by_path(tmp_path):
    names = ("b.MP3", "a/2.wav", "a/1.flac", "a/deep/er/0.ogg", "c/x.wav")
    others = ("notes.txt", ".hidden.wav", ".git/1.wav", "a/.cache/deep/1.wav", "wav")
    for name in (*names, *others):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.wav").mkdir()
    found = [path.relative_to(tmp_path).as_posix() for path in audio_below(tmp_path)[0]]
    assert found == ["a/1.flac", "a/2.wav", "a/deep/er/0.ogg", "b.MP3", "c/x.wav"]


def test_links_lead_to_nothing_outside_the_folder(tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside, outside):
        folder.mkdir()
        (folder / "1.wav").touch()
    (inside / "own.wav").symlink_to("1.wav")
    (inside / "out.wav").symlink_to(outside / "1.wav")
    (inside / "gone.wav").symlink_to("nowhere.wav")
    (inside / "loop.wav").symlink_to("loop.wav")
    (inside / "folder").symlink_to(outside)
    (inside / "round").symlink_to(inside)
    assert [path.name for path in audio_below(inside)[0]] == ["1.wav", "own.wav"]
    (tmp_path / "link").symlink_to(inside)  # a folder that is asked for may be one itself
    assert len(audio_below(tmp_path / "link")[0]) == 2


def test_a_folder_without_audio_is_refused(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match="no audio below it; choose a folder of WAV, FLAC"):
        audio_below(tmp_path)


def test_a_folder_that_may_not_be_read_is_named(forbidden):
    with pytest.raises(DataError, match="Permission denied; change its permissions"):
        audio_below(forbidden)
