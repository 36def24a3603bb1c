"""Several networks as one: the mean of what they say, whatever their windows, and no card that is a trick."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mer.inference.ensemble import Ensemble, open_predictor
from mer.inference.predictor import Predictor
from mer.models.card import CARD, MOST_MEMBERS, PAGE, WEIGHTS, Member, find_checkpoints, load_card, page
from mer.models.checkpoint import copy_checkpoint, load_checkpoint, save_checkpoint, write_ensemble
from mer.utils.errors import AudioError, CheckpointError
from tests.tiny_backbone import tiny_card, tiny_config, tiny_model, tiny_zoo

RATE = 4000
NAMES = ("Happy", "Sad")


@pytest.fixture(autouse=True)
def tiny_in_the_zoo():
    with tiny_zoo():
        yield


@pytest.fixture
def member(tmp_path):
    """`member(seed, **settings)` saves a tiny network that says something of its own."""

    def save(seed, *, classes=NAMES, temperature=1.0, **settings):
        config = tiny_config(dropout=0.0)
        card = tiny_card(config, classes=classes, calibration={"temperature": temperature, "clips": 30})
        card = replace(card, config=card.config.updated(**settings))
        model = tiny_model(config, classes=len(classes), seed=seed)
        with torch.no_grad():
            for parameter in model.head.parameters():
                parameter.mul_(5 - 4 * seed)  # untrained, all would say nearly the same of everything
        return save_checkpoint(tmp_path / f"network {seed}", model, card)

    return save


@pytest.fixture
def ensemble(tmp_path):
    """`ensemble(folders, weights)` writes them as one checkpoint."""

    def write(folders, weights, **changes):
        members = tuple(Member(weight, f"tiny {n}", f"{n}" * 32) for n, weight in enumerate(weights))
        card = replace(load_card(folders[0]), members=members, calibration={}, **changes)
        out = tmp_path / "ensemble"
        out.mkdir()
        write_ensemble(out, folders, card)
        return out

    return write


@pytest.fixture
def two(member, ensemble):
    """An ensemble of two, the second of which weighs three times as much."""
    return ensemble([member(0), member(2)], (0.25, 0.75))


@pytest.fixture
def wave(sound):
    return 0.5 * sound.chirp(100, 1900, 3.3, rate=RATE)


def vector(part):
    return np.array([part.probabilities[name] for name in NAMES])


def change_card(folder, **changes):
    data = json.loads((folder / CARD).read_text("utf-8"))
    (folder / CARD).write_text(json.dumps(data | changes), "utf-8")


# --- predicting -------------------------------------------------------------------------------------


def test_a_clip_gets_the_weighted_mean_of_the_members_probabilities(two, member, tmp_path, wave):
    own = [Predictor(tmp_path / f"network {seed}").predict_waveform(wave) for seed in (0, 2)]
    found = open_predictor(two).predict_waveform(wave)
    assert vector(found) == pytest.approx(0.25 * vector(own[0]) + 0.75 * vector(own[1]))
    assert abs(vector(own[0]) - vector(own[1])).max() > 0.1  # or there would be nothing to average
    assert found.emotion == max(found.probabilities, key=found.probabilities.get)
    assert found.remarks == own[0].remarks


def test_windows_that_are_the_same_are_averaged_one_by_one(two, tmp_path, wave):
    own = [Predictor(tmp_path / f"network {seed}").predict_waveform(wave).windows for seed in (0, 2)]
    found = open_predictor(two).predict_waveform(wave).windows
    assert len(found) > 2
    for window, first, second in zip(found, *own, strict=True):
        assert (window.start, window.end) == (first.start, first.end)
        assert vector(window) == pytest.approx(0.25 * vector(first) + 0.75 * vector(second))


def test_members_may_have_their_own_windows_and_mel_bands(member, ensemble, tmp_path, wave):
    other = member(2, window_seconds=2.0, hop_seconds=0.75, n_mels=20)
    folder = ensemble([member(0), other], (0.5, 0.5))
    own = [Predictor(tmp_path / f"network {seed}").predict_waveform(wave) for seed in (0, 2)]
    found = open_predictor(folder).predict_waveform(wave)
    assert vector(found) == pytest.approx((vector(own[0]) + vector(own[1])) / 2)
    assert [w.start for w in found.windows] == [w.start for w in own[0].windows]
    for window, first in zip(found.windows, own[0].windows, strict=True):
        second = 2 * vector(window) - vector(first)  # what is taken for the other's answer at that time
        assert second.sum() == pytest.approx(1)
        heard = np.array([vector(w) for w in own[1].windows])
        assert (heard.min(axis=0) - 1e-9 <= second).all()
        assert (second <= heard.max(axis=0) + 1e-9).all()


def test_each_member_has_its_own_temperature_and_the_ensemble_one_more(member, ensemble, tmp_path, wave):
    folder = ensemble([member(0, temperature=3.0), member(2)], (0.5, 0.5))
    plain = vector(open_predictor(folder).predict_waveform(wave))
    own = [Predictor(tmp_path / f"network {seed}").predict_waveform(wave) for seed in (0, 2)]
    assert plain == pytest.approx((vector(own[0]) + vector(own[1])) / 2)
    change_card(folder, calibration={"temperature": 2.0, "clips": 40})
    milder = plain**0.5 / (plain**0.5).sum()
    assert vector(open_predictor(folder).predict_waveform(wave)) == pytest.approx(milder)


def test_a_member_without_weight_is_not_asked(member, ensemble, wave, tmp_path):
    predictor = open_predictor(ensemble([member(0), member(1), member(2)], (0.0, 1.0, 0.0)))
    assert len(predictor.networks) == 1
    alone = Predictor(tmp_path / "network 1").predict_waveform(wave)
    assert vector(predictor.predict_waveform(wave)) == pytest.approx(vector(alone))


def test_files_and_bytes_are_predicted_as_by_a_single_network(two, wave, write_audio, tmp_path):
    predictor = open_predictor(two)
    clip = write_audio(tmp_path / "clip.wav", wave, RATE)
    whole = predictor.predict(clip)
    assert predictor.predict(clip.read_bytes()) == whole
    (tmp_path / "broken.wav").write_bytes(b"no audio")
    found = list(predictor.predict_many([clip, tmp_path / "broken.wav", clip], workers=2))
    assert vector(found[0][1]) == pytest.approx(vector(whole), abs=1e-5)
    assert isinstance(found[1][1], AudioError)


def test_checkpoints_of_one_network_and_of_ensembles_open(two, member):
    assert isinstance(open_predictor(two), Ensemble)
    assert type(open_predictor(member(1))) is Predictor


def test_an_ensemble_where_one_network_is_needed_is_refused_with_the_members(two):
    with pytest.raises(CheckpointError, match=r"is an ensemble; give one of its networks, .*member-1"):
        load_checkpoint(two)
    assert load_checkpoint(two / "member-1")


# --- the folder -------------------------------------------------------------------------------------


def test_an_ensemble_holds_its_members_and_can_be_moved(two, tmp_path, wave):
    before = open_predictor(two).predict_waveform(wave)
    assert sorted(path.name for path in two.iterdir()) == [CARD, PAGE, "member-1", "member-2"]
    moved = shutil.move(two, tmp_path / "elsewhere")
    for seed in (0, 2):
        shutil.rmtree(tmp_path / f"network {seed}")
    assert open_predictor(moved).predict_waveform(wave) == before


def test_its_card_names_members_and_weights(two):
    card = load_card(two)
    assert card.title == "ensemble of 2 · unknown data"
    assert [member.weight for member in card.members] == [0.25, 0.75]
    text = page(card)
    assert "- member: tiny 1, run 11111111, weight 75%" in text
    assert "- network:" not in text


def test_it_is_found_once_among_checkpoints(two, member, tmp_path):
    names = [path.name for path, _ in find_checkpoints(tmp_path)]
    assert names == ["ensemble", "network 0", "network 2"]


def test_a_copy_in_half_precision_is_half_as_large_and_predicts_nearly_the_same(two, tmp_path, wave):
    card = copy_checkpoint(two, tmp_path / "half", half=True, notes="By half.")
    assert load_card(tmp_path / "half") == card
    assert card.notes.startswith("By half.")
    for name in ("member-1", "member-2"):
        kept = load_file(tmp_path / "half" / name / WEIGHTS)
        assert {t.dtype for t in kept.values()} == {torch.float16, torch.int64}
    found, before = (vector(open_predictor(path).predict_waveform(wave)) for path in (tmp_path / "half", two))
    assert found == pytest.approx(before, abs=1e-2)


# --- what is wrong ----------------------------------------------------------------------------------


def rows(*weights):
    return [{"weight": weight, "title": "tiny", "run": "1"} for weight in weights]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (rows(1.0), "1 members should be 2 to 16, or none"),
        (rows(*[1 / 17] * 17), "17 members should be 2 to 16, or none"),
        ({"a": 1}, "members={'a': 1} should be a list"),
        (None, "members=None should be a list"),
        (rows(0.5, 0.6), r"weights \[0.5, 0.6\] should sum to 1"),
        (rows(0.0, 0.0), "should sum to 1"),
        (rows(1.5, -0.5), "a weight from 0 to 1"),
        (rows(float("nan"), 1.0), "a weight from 0 to 1"),
        (rows(float("inf"), 1.0), "a weight from 0 to 1"),
        (rows(True, 0.0), "a weight from 0 to 1"),
        (rows("1", 0.0), "a weight from 0 to 1"),
        (["../secret", "b"], "member '../secret' should have title, run and a weight"),
        ([*rows(0.5), {"weight": 0.5, "title": "x", "run": "1", "path": "/etc"}], "should have title, run"),
        ([*rows(0.5), {"weight": 0.5, "title": 5, "run": "1"}], "should have title, run"),
    ],
)
def test_an_error_in_the_members_of_a_card_is_named(two, members, message):
    change_card(two, members=members)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_card(two)
    assert len(str(caught.value)) < 500
    assert MOST_MEMBERS == 16


def test_a_missing_member_is_named(two, tmp_path):
    shutil.rmtree(two / "member-2")
    with pytest.raises(CheckpointError, match=r"member-2: not a checkpoint"):
        load_card(two)
    shutil.rmtree(two / "member-1")
    with pytest.raises(CheckpointError, match="ensemble: not a checkpoint"):
        open_predictor(two)
    assert "ensemble" not in [path.name for path, _ in find_checkpoints(tmp_path)]


def test_a_network_without_weights_is_not_an_ensemble(two):
    change_card(two, members=[])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is missing"):
        load_card(two)


@pytest.mark.parametrize("name", ["member-2", f"member-2/{CARD}", f"member-2/{WEIGHTS}"])
def test_a_member_that_is_a_link_is_refused(two, tmp_path, name):
    outside = shutil.move(two / name, tmp_path / "outside")
    (two / name).symlink_to(outside)
    with pytest.raises(CheckpointError, match="member-2 is a link or contains one; copy the files"):
        load_card(two)


def test_an_ensemble_in_an_ensemble_is_refused_without_looking_further(two, tmp_path):
    inner = shutil.copytree(two, tmp_path / "inner")
    shutil.rmtree(two / "member-1")
    shutil.move(inner, two / "member-1")
    with pytest.raises(CheckpointError, match="member-1: it is an ensemble;"):
        load_card(two)


def test_members_need_the_same_classes_and_sample_rate(two, member):
    change_card(two / "member-2", classes=["Sad", "Happy"])
    with pytest.raises(CheckpointError, match=r"member-2: its classes \['Sad', 'Happy'\] are not"):
        load_card(two)
    shutil.rmtree(two / "member-2")
    shutil.copytree(member(3, sample_rate=8000), two / "member-2")
    with pytest.raises(CheckpointError, match="its sample rate is 8000 Hz, not 4000 Hz as of the ensemble"):
        load_card(two)
    shutil.rmtree(two / "member-2")
    shutil.copytree(member(4, resampler="sinc"), two / "member-2")
    with pytest.raises(CheckpointError, match="its resampler is sinc, not soxr as of the ensemble"):
        load_card(two)


def test_damaged_weights_of_a_member_are_refused_when_it_is_opened(two):
    (two / "member-2" / WEIGHTS).write_bytes(b"no tensors")
    with pytest.raises(CheckpointError, match="member-2"):
        open_predictor(two)


def test_members_that_do_not_fit_are_not_written(member, ensemble, tmp_path):
    with pytest.raises(CheckpointError, match="its classes"):
        ensemble([member(0), member(1, classes=("A", "B"))], (0.5, 0.5))
