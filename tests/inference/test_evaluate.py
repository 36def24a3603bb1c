"""A checkpoint judged on other data: labels by name, songs as groups, whatever the order of either."""

import pytest

from mer.inference.evaluate import evaluate_checkpoint
from mer.inference.predictor import Predictor
from mer.models.checkpoint import save_checkpoint
from mer.utils.errors import CheckpointError, DataError
from tests.tiny_backbone import tiny_card, tiny_config, tiny_model, tiny_zoo

CLASSES = ("Sad", "Party", "Happy")  # neither MER500's order nor the alphabet's


@pytest.fixture(autouse=True)
def tiny_in_the_zoo():
    with tiny_zoo():
        yield


@pytest.fixture
def checkpoint(tmp_path):
    return save_as(tmp_path / "checkpoint", CLASSES)


def save_as(folder, classes):
    """A tiny network of three classes whose outputs are named like this."""
    config = tiny_config(freeze="head")
    model = tiny_model(config, classes=3)
    return save_checkpoint(folder, model, tiny_card(config, classes=classes))


def write_manifest(root, rows, header="path,label,song"):
    (root / "manifest.csv").write_text("\n".join([header, *rows]) + "\n")
    return root


@pytest.fixture
def songs(tiny_corpus):
    """The corpus with a manifest: two songs of each class, of two clips and of one."""
    rows = [f"{label}/{k}.wav,{label},{label} song {k // 2}" for label in ("Happy", "Sad") for k in range(3)]
    return write_manifest(tiny_corpus, rows)


def predicted(checkpoint, root):
    predictor = Predictor(checkpoint)
    return {path.relative_to(root).as_posix(): predictor.predict(path) for path in root.rglob("*.wav")}


def test_the_scores_are_those_of_the_single_predictions(checkpoint, songs):
    scores = evaluate_checkpoint(checkpoint, songs)
    answers = predicted(checkpoint, songs)
    right = [name.startswith(answer.emotion) for name, answer in answers.items()]
    assert scores["accuracy"] == pytest.approx(sum(right) / 6)
    assert scores["classes"] == list(CLASSES)
    for row, label in enumerate(CLASSES):
        own = [answer.emotion for name, answer in answers.items() if name.startswith(label)]
        assert scores["confusion"][row] == [own.count(column) for column in CLASSES]
    assert (scores["n_clips"], scores["n_songs"]) == (6, 4)


def test_labels_are_matched_by_name_whatever_their_order(checkpoint, songs, tmp_path):
    """Renaming two outputs and exchanging the labels of the data accordingly changes no score."""
    scores = evaluate_checkpoint(checkpoint, songs)
    renamed = save_as(tmp_path / "renamed", ("Happy", "Party", "Sad"))
    rows = [
        f"{label}/{k}.wav,{other},{label} song {k // 2}"
        for label, other in (("Happy", "Sad"), ("Sad", "Happy"))
        for k in range(3)
    ]
    exchanged = evaluate_checkpoint(renamed, write_manifest(songs, rows))
    assert exchanged["confusion"] == scores["confusion"]
    assert exchanged["accuracy"] == scores["accuracy"]
    assert exchanged["intervals"] == scores["intervals"]


def test_a_class_that_the_data_lacks_has_no_support(checkpoint, songs):
    table = evaluate_checkpoint(checkpoint, songs)["per_class"]
    assert [table[name]["support"] for name in CLASSES] == [3, 0, 3]


def test_data_of_a_single_class_can_be_evaluated(checkpoint, songs):
    scores = evaluate_checkpoint(
        checkpoint, write_manifest(songs, [f"Sad/{k}.wav,Sad,song {k}" for k in range(3)])
    )
    assert scores["majority"] == 1
    assert sum(scores["confusion"][0]) == scores["n_clips"] == 3


def test_a_label_that_the_checkpoint_does_not_know_is_named_with_those_it_does(checkpoint, songs):
    write_manifest(songs, ["Happy/0.wav,Joyful,a", "Sad/0.wav,Sad,b"])
    message = (
        r"label 'Joyful' is none of the checkpoint's classes \(Sad, Party, Happy\); rename it, or choose"
    )
    with pytest.raises(DataError, match=message):
        evaluate_checkpoint(checkpoint, songs)


def test_labels_may_be_in_another_column(checkpoint, songs):
    rows = ["Happy/0.wav,x,Happy,a", "Sad/0.wav,x,Sad,b"]
    write_manifest(songs, rows, header="path,label,mood,film")
    with pytest.raises(DataError, match="label 'x' is none"):
        evaluate_checkpoint(checkpoint, songs / "manifest.csv")
    scores = evaluate_checkpoint(checkpoint, songs / "manifest.csv", label_column="mood", song_column="film")
    assert (scores["n_clips"], scores["n_songs"]) == (2, 2)


def test_clips_that_cannot_be_used_are_left_out(checkpoint, songs):
    (songs / "Sad" / "0.wav").write_bytes(b"no audio")
    assert evaluate_checkpoint(checkpoint, songs)["n_clips"] == 5


def test_data_without_a_usable_clip_is_refused(checkpoint, songs):
    for path in songs.rglob("*.wav"):
        path.write_bytes(b"no audio")
    with pytest.raises(DataError, match="no usable clip; the first problem: "):
        evaluate_checkpoint(checkpoint, songs)


def test_without_grouping_each_clip_of_an_unknown_song_stands_for_itself(checkpoint, tiny_corpus):
    assert evaluate_checkpoint(checkpoint, tiny_corpus, group_by_song=False)["n_songs"] == 6


def test_evaluating_twice_gives_the_same_and_reads_the_audio_once(checkpoint, songs, monkeypatch):
    first = evaluate_checkpoint(checkpoint, songs)
    monkeypatch.setattr("mer.data.cache.store.decode", None)
    assert evaluate_checkpoint(checkpoint, songs) == first


def test_progress_is_told(checkpoint, songs):
    told = []
    evaluate_checkpoint(checkpoint, songs, notify=lambda *news: told.append(news))
    assert ("preparing clips", 6, 6) in told


def test_a_wrong_checkpoint_and_wrong_data_are_refused(checkpoint, songs, tmp_path):
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        evaluate_checkpoint(tmp_path / "nothing", songs)
    with pytest.raises(DataError, match="no such file or folder"):
        evaluate_checkpoint(checkpoint, tmp_path / "nothing")
