"""Controls take away what can be learned, and no more; what scores above guessing all the same is found."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mer.data.cache.controls import CONTROLS, donors, entry, stand_in
from mer.experiments.experiment import Experiment
from mer.experiments.prepared import Spec, prepare
from mer.experiments.verdicts import Control, control_of, guess_of
from mer.models.card import load_card, page
from mer.runs.results import read_predictions
from mer.runs.results import test_key as key_of
from mer.runs.store import RunStore
from mer.utils.errors import RunError
from tests.run_helpers import tiny_config

HASH = "0123456789abcdef0123456789abcdef01234567"
some_clips = st.lists(st.tuples(st.sampled_from("ABC"), st.integers(0, 9)), min_size=1, max_size=40)


def columns(clips):
    labels, songs = zip(*clips, strict=True)
    return list(labels), [f"song {song}" for song in songs]


@given(some_clips, st.integers(0, 2**32 - 1))
def test_shuffled_labels_are_those_of_another_song_for_the_whole_song(clips, seed):
    labels, songs = columns(clips)
    givers = donors(labels, songs, seed=seed)
    given_to = dict(zip(songs, givers, strict=True))
    assert [given_to[song] for song in songs] == givers, "clips of a song share a label"
    assert sorted(songs[giver] for giver in given_to.values()) == sorted(given_to), "each song gives once"


@given(some_clips, st.integers(0, 2**32 - 1))
def test_songs_of_one_label_keep_how_many_there_are_of_each(clips, seed):
    labels, songs = columns(clips)
    before = dict(zip(songs, labels, strict=True))
    labels = [before[song] for song in songs]
    givers = donors(labels, songs, seed=seed)
    after = {song: labels[giver] for song, giver in zip(songs, givers, strict=True)}
    assert Counter(before.values()) == Counter(after.values())


@given(some_clips, st.randoms())
def test_the_order_of_clips_does_not_matter(clips, random):
    def shuffled(order):
        labels, songs = columns([clips[i] for i in order])
        return {song: labels[giver] for song, giver in zip(songs, donors(labels, songs, seed=3), strict=True)}

    order = list(range(len(clips)))
    random.shuffle(order)
    assert shuffled(order) == shuffled(range(len(clips)))


def test_another_seed_shuffles_differently():
    songs = [f"song {n}" for n in range(30)]
    assert len({tuple(donors(songs, songs, seed=seed)) for seed in range(5)}) == 5


def test_a_stand_in_has_the_length_of_the_clip_and_other_sound(sound):
    wave = sound.tone(seconds=0.7)
    silence, noise = stand_in("silence", wave, HASH), stand_in("noise", wave, HASH)
    assert (silence.shape, silence.dtype) == (noise.shape, noise.dtype) == (wave.shape, np.float32)
    assert not silence.any()
    assert (noise == stand_in("noise", -wave, HASH)).all()
    assert not (noise == stand_in("noise", wave, HASH[::-1])).any()
    assert np.abs(noise).max() < 1
    assert stand_in("labels", wave, HASH) is stand_in("none", wave, HASH) is wave


def test_a_stand_in_has_entries_of_its_own_in_the_store():
    assert len({entry(control, HASH) for control in ("none", "silence", "noise")}) == 3
    assert entry("labels", HASH) == entry("none", HASH) == HASH


@pytest.fixture
def material(runs_home, song_corpus):
    """Material of a control on the clips of the session."""
    return lambda control: prepare(Spec(str(song_corpus), tiny_config(control=control)))


def images(material):
    return material.windows(range(len(material.report.facts))).gathered


def test_silence_has_one_image_and_noise_another_for_each_clip(material):
    silent, noisy = images(material("silence")), images(material("noise"))
    assert (silent == silent[0, 0, 0]).all()
    assert len({row.tobytes() for row in noisy}) == len(noisy)


def test_a_control_leaves_the_features_of_the_clips_as_they_were(material):
    before = images(material("none"))
    for control in CONTROLS:
        images(material(control))
    assert (images(material("none")) == before).all()
    assert (images(material("labels")) == before).all()


def test_a_control_shares_no_embeddings_with_the_clips(material):
    hashes = [set(material(control).windows(range(16)).hashes) for control in ("none", "silence", "noise")]
    assert len(set.union(*hashes)) == sum(map(len, hashes)) == 3 * 16


def test_shuffled_labels_are_the_same_for_all_clips_of_a_song(material):
    plain, mixed = (material(control).report.dataset.clips for control in ("none", "labels"))
    assert [clip.id for clip in plain] == [clip.id for clip in mixed]
    assert [clip.label for clip in plain] != [clip.label for clip in mixed]
    assert len({(clip.song, clip.label) for clip in mixed}) == 8


@pytest.fixture(scope="module")
def noise_run(module_home, song_corpus):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MER_HOME", str(module_home))
        spec = Spec(str(song_corpus), tiny_config(control="noise", baseline=True, epochs=1))
        return Experiment().train(spec)


def test_the_name_of_a_control_run_says_that_it_is_one(noise_run, runs_home):
    runs = RunStore.open()
    run = runs.get(noise_run.run_id)
    assert run.name.endswith("control: noise")
    assert run.control == "noise"
    card = load_card(runs.folder(run.id, "checkpoint"))
    assert "control: noise" in card.title
    assert "**A control run (noise): its answers mean nothing.**" in page(card)


def test_control_runs_are_ranked_among_each_other(noise_run, runs_home):
    run = RunStore.open().get(noise_run.run_id)
    config = run.spec["config"] | {"split": run.spec["config"]["split"] | {"control": "none"}}
    plain = replace(run, spec=run.spec | {"config": config})
    assert plain.control == ""
    assert key_of(plain) != key_of(run)


def test_a_control_run_and_its_svm_each_have_a_verdict(noise_run, runs_home):
    rows = read_predictions(RunStore.open(), noise_run.run_id)
    found = control_of("noise", noise_run.run_id, noise_run.metrics, rows)
    assert set(found.scores) == {"network", "SVM"}
    assert found.guess == 0.5


def row(song, label, classes="AB"):
    return {"clip": song, "song": song, "label": label, "probabilities": dict.fromkeys(classes, 1)}


def test_guessing_reaches_the_largest_class_of_the_songs_or_chance():
    assert guess_of([row("1", "A"), row("2", "A"), row("2", "A"), row("3", "B")]) == pytest.approx(2 / 3)
    assert guess_of([row(str(n), "ABCD"[n], "ABCDEF") for n in range(4)]) == 1 / 4
    assert guess_of([row("1", "A"), row("2", "B"), row("2", "B"), row("2", "B")]) == 1 / 2


def test_guessing_without_predictions_is_refused():
    with pytest.raises(RunError, match="no predictions; train it again"):
        guess_of([])


def test_only_a_whole_interval_above_guessing_counts():
    right = {"network": 18, "SVM": 17}
    found = Control("noise", "r", right, 25, guess=0.5)
    assert found.above == ("network",)
    assert {name: score.low > 0.5 for name, score in found.scores.items()} == {"network": True, "SVM": False}
    assert Control("noise", "r", right, 25, guess=0.2).to_dict()["above"] == ["network", "SVM"]
