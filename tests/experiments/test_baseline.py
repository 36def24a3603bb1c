"""The SVM beside a network: it learns, never from test clips, and is worked out once for all runs."""

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mer.experiments import baseline
from mer.experiments.baseline import GRID, USUAL, baseline_rows, fitted, with_baseline
from mer.experiments.prepared import PreparedClips, Spec, prepare
from mer.metrics.predictions import score_rows
from tests.run_helpers import tiny_config


def silent(title, done, total):
    pass


@pytest.fixture(scope="module")
def material(song_corpus, tmp_path_factory):
    """Clips and their statistics; what the SVM says of them is kept in each test's own home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MER_HOME", str(tmp_path_factory.mktemp("material")))
        return prepare(Spec(str(song_corpus), tiny_config()))


@pytest.fixture
def split(material):
    return material.split(material.config)


@pytest.fixture
def spoiled(monkeypatch):
    """`spoiled()`: from now on, fitting an SVM is a TypeError."""

    def spoil():
        monkeypatch.setattr(baseline, "fitted", None)

    return spoil


def relabelled(material: PreparedClips, indices) -> PreparedClips:
    """The same with Happy for Sad, and Sad for Happy, in some clips."""
    dataset = material.report.dataset
    clips = [
        replace(clip, label={"Happy": "Sad", "Sad": "Happy"}[clip.label]) if i in indices else clip
        for i, clip in enumerate(dataset.clips)
    ]
    report = replace(material.report, dataset=replace(dataset, clips=tuple(clips)))
    return replace(material, report=report)


def test_high_and_low_tones_are_told_apart(material, split):
    rows = baseline_rows(material, split, silent)
    assert [row["clip"] for row in rows] == [material.report.dataset.clips[i].id for i in split.test]
    assert all(row["predicted"] == row["label"] for row in rows)
    assert all(sum(row["probabilities"].values()) == pytest.approx(1) for row in rows)


def test_labels_of_test_clips_do_not_reach_it(material, split):
    rows = baseline_rows(material, split, silent)
    again = baseline_rows(relabelled(material, split.test), split, silent)
    assert [row["probabilities"] for row in again] == [row["probabilities"] for row in rows]
    assert all(row["predicted"] != row["label"] for row in again)


def test_it_learns_from_training_and_validation_clips(material, split):
    rows = baseline_rows(relabelled(material, {*split.train, *split.validation}), split, silent)
    assert all(row["predicted"] != row["label"] for row in rows)


def test_the_same_clips_and_split_share_one(material, split, spoiled):
    rows = baseline_rows(material, split, silent)
    spoiled()
    assert baseline_rows(material, split, silent) == rows


@pytest.mark.parametrize("change", ["labels", "songs", "parts"])
def test_other_labels_songs_or_parts_have_one_of_their_own(material, split, spoiled, change):
    baseline_rows(material, split, silent)
    spoiled()
    if change == "labels":
        material = relabelled(material, {split.train[0]})
    elif change == "songs":
        clips = material.report.dataset.clips
        parted = replace(material.report.dataset, clips=(replace(clips[0], song="another"), *clips[1:]))
        material = replace(material, report=replace(material.report, dataset=parted))
    else:
        split = replace(split, train=split.train[1:], test=(*split.test, split.train[0]))
    with pytest.raises(TypeError):
        baseline_rows(material, split, silent)


@pytest.mark.parametrize("content", ["", "{}", "[]", '[{"clip": "another"}]', "[1]"])
def test_a_damaged_file_is_made_again(material, split, own_home, content):
    rows = baseline_rows(material, split, silent)
    (kept,) = (own_home / "baselines").iterdir()
    kept.write_text(content)
    assert baseline_rows(material, split, silent) == rows


def test_it_can_be_stopped_and_leaves_nothing_half_done(material, split, own_home):
    def stop(title, done, total):
        if title == baseline.TITLE:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        baseline_rows(material, split, stop)
    assert not (own_home / "baselines").exists()
    assert baseline_rows(material, split, silent)


def test_its_scores_stand_beside_those_of_the_network(material, split):
    rows = baseline_rows(material, split, silent)
    scores = score_rows(rows, material.classes)
    found = with_baseline({"accuracy": 0.3}, rows, rows, material.classes)
    assert (found["accuracy"], found["svm"]["accuracy"]) == (0.3, 1.0)
    assert found["svm"]["intervals"]["song_accuracy"] == scores["intervals"]["song_accuracy"]
    assert with_baseline({"accuracy": 0.3}, rows, [], material.classes) == {"accuracy": 0.3}


def test_songs_that_only_it_or_only_the_network_gets_right_are_counted(material, split):
    rows = baseline_rows(material, split, silent)
    first, second = material.classes
    other = {first: second, second: first}
    own = [
        row
        | {"predicted": other[row["predicted"]]}
        | {"probabilities": {name: row["probabilities"][other[name]] for name in material.classes}}
        for row in rows
    ]
    songs = len({row["song"] for row in rows})
    found = with_baseline({}, own, rows, material.classes)["svm"]
    assert (found["only_network"], found["only_svm"]) == (0, songs)
    found = with_baseline({}, rows, rows, material.classes)["svm"]
    assert (found["only_network"], found["only_svm"]) == (0, 0)


@contextmanager
def choices():
    """The (labels, folds) of each setting that is scored; the second is scored best, and no SVM is fitted."""
    seen = []

    def score(model, sound, labels, cv):
        seen.append((labels, cv))
        return np.array([float(len(seen) == 2)])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sklearn.model_selection.cross_val_score", score)
        patch.setattr("sklearn.pipeline.Pipeline.fit", lambda model, sound, labels: model)
        yield seen


def has(model, setting):
    return setting.items() <= model.get_params().items()


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9)), min_size=1, max_size=60))
def test_no_song_is_on_both_sides_where_the_setting_is_chosen(clips):
    labels, songs = (np.array(column) for column in zip(*clips, strict=True))
    with choices() as seen:
        model = fitted(np.zeros((len(clips), 3)), labels, [str(song) for song in songs], silent)
    assert has(model, GRID[1] if seen else USUAL)
    for scored, folds in seen:
        assert np.array_equal(scored, labels)
        for known, tested in folds:
            assert not set(songs[known]) & set(songs[tested])
            assert set(labels[known]) == set(labels)
            assert len(known) + len(tested) == len(labels)


def test_with_too_few_songs_to_choose_by_the_usual_setting_is_taken():
    labels, sound = np.array([0, 0, 1, 1]), np.zeros((4, 3))
    assert has(fitted(sound, labels, ["a", "a", "b", "b"], silent), USUAL)


def test_of_many_clips_some_songs_are_enough_to_choose_by(monkeypatch):
    labels = np.arange(120) % 2
    monkeypatch.setattr(baseline, "ENOUGH", 40)
    with choices() as seen:
        fitted(np.zeros((120, 3)), labels, [str(n // 4) for n in range(120)], silent)
    assert [len(scored) for scored, _ in seen] == [40] * len(GRID)
