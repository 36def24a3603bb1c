"""Listening sessions: clips under numbers, votes that are not lost, and the votes as a data set."""

import shutil
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from mer.data.clips import Clip
from mer.data.listening import Vote, create, find, known, remove
from mer.data.load import load_dataset
from mer.utils.errors import DataError, StorageError


@pytest.fixture
def clips(tiny_corpus):
    return load_dataset(tiny_corpus).clips


@pytest.fixture
def session(own_home, clips):
    return create("What do we hear?", clips[:4], ("Happy", "Sad"))


def test_a_session_is_found_again_with_all_that_it_knows(session):
    assert find(session.key) == session
    assert known() == [session]
    assert [piece.label for piece in session.pieces] == ["Happy", "Happy", "Happy", "Sad"]


def test_the_file_of_a_clip_shows_neither_its_name_nor_its_label(session, clips):
    for number, clip in enumerate(clips[:4]):
        path = session.path(number)
        assert path.read_bytes() == clip.path.read_bytes()
        assert path.relative_to(session.folder).as_posix() == f"clips/{number + 1:02d}.wav"


def test_a_session_outlives_the_data_set_that_its_clips_came_from(own_home, tiny_corpus, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(tiny_corpus, moved)
    session = create("x", load_dataset(moved).clips[:2], ("Happy", "Sad"))
    shutil.rmtree(moved)
    assert all(session.path(number).is_file() for number in range(2))


def test_a_later_choice_replaces_the_former_one(session):
    token = session.join("Asha")
    session.vote(token, 0, "Sad", 0)
    session.vote(token, 0, "Happy", 2)
    assert session.votes() == session.votes(token) == [Vote("Asha", 0, "Happy", 2)]
    assert session.counts()[0] == {"Happy": 1, "Sad": 0}


def test_a_listener_is_known_by_the_token_alone(session):
    token = session.join("  Asha   K. ")
    assert session.listener(token) == "Asha K."
    assert session.listener("0" * 16) is None


@pytest.mark.parametrize("taken", ["Asha", "asha", " Asha "])
def test_a_nickname_belongs_to_one_listener(session, taken):
    session.join("Asha")
    with pytest.raises(DataError, match="is taken; add a letter"):
        session.join(taken)


@pytest.mark.parametrize("name", ["", "   ", "x" * 31])
def test_an_unusable_nickname_is_refused(session, name):
    with pytest.raises(DataError, match="use 1 to 30 characters"):
        session.join(name)


@pytest.mark.parametrize("vote", [(4, "Sad", 1), (-1, "Sad", 1), (0, "Angry", 1), (0, "Sad", 3)])
def test_a_vote_for_what_is_not_in_the_session_is_refused(session, vote):
    token = session.join("Asha")
    with pytest.raises(DataError, match="is no vote of this session"):
        session.vote(token, *vote)
    assert session.votes() == []


def test_a_stranger_cannot_vote(session):
    with pytest.raises(DataError, match="join it again"):
        session.vote("0" * 16, 0, "Sad", 1)
    assert session.votes() == []


@pytest.mark.promise("Thirty listeners who vote at once lose no vote.", measured="30 at once, 8 votes each")
def test_thirty_listeners_who_vote_at_once_lose_nothing(own_home, clips):
    session = create("x", (clips * 2)[:8], ("Happy", "Sad"))

    def listener(number):
        mine = find(session.key)
        token = mine.join(f"listener {number}")
        for clip in range(8):
            mine.vote(token, clip, ("Happy", "Sad")[(number + clip) % 2], clip % 3)

    with ThreadPoolExecutor(30) as pool:
        list(pool.map(listener, range(30)))
    assert session.counts() == [{"Happy": 15, "Sad": 15}] * 8
    assert {vote.listener for vote in session.votes()} == {f"listener {number}" for number in range(30)}


@pytest.mark.promise("A vote that was answered survives the death of the server.")
def test_a_vote_survives_a_process_that_is_killed_right_after_it(session):
    code = (
        "import os, signal, sys; from mer.data.listening import find; session = find(sys.argv[1]); "
        "session.vote(session.join('Asha'), 1, 'Sad', 1); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, session.key], check=False)
    assert session.votes() == [Vote("Asha", 1, "Sad", 1)]


def test_the_votes_of_synthetic_clips_are_marked_as_synthetic(own_home, clips):
    session = create("x", clips[:2], ("Happy", "Sad"), about={"synthetic": True, "licence": "CC0"})
    session.vote(session.join("Asha"), 0, "Sad", 1)
    data = load_dataset(session.export(), label_column=session.label_column)
    assert (data.name, data.synthetic, data.licence) == ("Votes: x", True, "CC0")


def test_the_votes_are_a_data_set_whose_labels_are_shares(session):
    asha, ravi = session.join("Asha"), session.join("Ravi")
    for clip, (one, other) in enumerate([("Happy", "Happy"), ("Happy", "Sad"), ("Sad", "Sad")]):
        session.vote(asha, clip, one, 1)
        session.vote(ravi, clip, other, 1)
    data = load_dataset(session.export(), label_column=session.label_column)
    assert [clip.votes for clip in data.clips] == [(1.0, 0.0), (0.5, 0.5), (0.0, 1.0)]
    assert [clip.path for clip in data.clips] == [session.path(number) for number in range(3)]
    assert [clip.song for clip in data.clips] == [piece.song for piece in session.pieces[:3]]


def test_without_votes_there_is_nothing_to_export(session):
    with pytest.raises(DataError, match="nobody has voted"):
        session.export()
    assert not (session.folder / "labels.csv").exists()


@pytest.mark.parametrize("key", ["", "../other", "zzzzzzzz", "0" * 8, "0" * 9])
def test_an_unknown_session_is_refused(own_home, key):
    with pytest.raises(DataError, match="no listening session"):
        find(key)


def test_a_removed_session_is_gone_and_others_stay(session, clips):
    other = create("y", clips[:1], ("Happy", "Sad"))
    remove(session.key)
    assert known() == [other]
    assert not session.folder.exists()


def test_a_folder_that_holds_no_session_is_left_out(session):
    for name, text in {"broken": "{", "list": "[]", "other": '{"pieces": [{"a": 1}]}'}.items():
        (session.folder.parent / name).mkdir()
        (session.folder.parent / name / "session.json").write_text(text)
    assert known() == [session]


def test_a_session_without_its_votes_names_the_file(session):
    (session.folder / "votes.sqlite").unlink()
    with pytest.raises(StorageError, match=r"votes\.sqlite: unable to open"):
        session.votes()
    (session.folder / "votes.sqlite").write_bytes(b"x" * 4096)
    with pytest.raises(StorageError, match=r"votes\.sqlite: file is not a database"):
        session.votes()


@pytest.mark.parametrize(
    ("title", "count", "classes"),
    [
        ("", 1, ("a", "b")),
        ("x", 0, ("a", "b")),
        ("x", 61, ("a", "b")),
        ("x", 1, ("a",)),
        ("x", 1, ("a,b", "c")),
    ],
)
def test_a_session_that_cannot_be_voted_on_is_refused(own_home, clips, title, count, classes):
    with pytest.raises(DataError):
        create(title, (clips * 20)[:count], classes)
    assert known() == []


def test_a_clip_that_is_gone_is_named_and_nothing_is_left(own_home, tmp_path, clips):
    gone = Clip("gone.wav", tmp_path / "gone.wav", "Happy")
    with pytest.raises(DataError, match=r"gone\.wav can no longer be read"):
        create("x", [*clips[:1], gone], ("Happy", "Sad"))
    assert not list((own_home / "listening").iterdir())


def test_the_log_of_the_votes_is_written_ahead(session):
    with sqlite3.connect(session.folder / "votes.sqlite") as votes:
        assert votes.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    votes.close()
