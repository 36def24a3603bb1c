"""Listening sessions: listeners hear clips without their names and choose the emotion that each one induces.

    MER_HOME/listening/<key>/session.json    title, classes and clips
    MER_HOME/listening/<key>/clips/          copies of the clips, under numbers
    MER_HOME/listening/<key>/votes.sqlite    the listeners, and one row per listener and clip
    MER_HOME/listening/<key>/labels.csv      the votes as a manifest, written by `export`
    MER_HOME/listening/<key>/dataset.json    what that data set is called, and whether it is synthetic

Many listeners vote at once, from several processes, so the votes are in SQLite with a write-ahead log. A vote
that was answered is on disk. A session does not depend on the data set that its clips came from.
"""

import json
import re
import secrets
import shutil
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mer.data.clips import LONGEST_NAME, Clip
from mer.data.folders import CARD
from mer.utils.csv import as_csv
from mer.utils.errors import DataError, StorageError
from mer.utils.files import home, new_folder, write_atomic, writing
from mer.utils.text import composed, visible

__all__ = ["MOST_CLIPS", "SURE", "Piece", "Session", "Vote", "create", "find", "known", "remove"]

KEY = re.compile(r"[0-9a-f]{8}")
MOST_CLIPS, MOST_LISTENERS = 60, 500
LONGEST_NICKNAME = 30  # characters
SURE = ("guessing", "fairly sure", "sure")  # how sure a listener is, from 0
NOTES = "Labels are the votes of listeners who heard the clips without their names."
WAIT = 30.0  # s that a vote waits while others are written
TABLES = """
CREATE TABLE listeners (
    token TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE COLLATE NOCASE, joined REAL NOT NULL
);
CREATE TABLE votes (
    token TEXT NOT NULL REFERENCES listeners, clip INTEGER NOT NULL, emotion TEXT NOT NULL,
    sure INTEGER NOT NULL, time REAL NOT NULL, PRIMARY KEY (token, clip)
);
"""


@dataclass(frozen=True, slots=True)
class Piece:
    """One clip of a session: its file in the session's folder, its former name, its label and its song."""

    file: str
    name: str
    label: str
    song: str


@dataclass(frozen=True, slots=True)
class Vote:
    """What a listener chose for the clip with this number; `sure` is a place in `SURE`."""

    listener: str
    clip: int
    emotion: str
    sure: int


@dataclass(frozen=True, slots=True)
class Session:
    """A listening session.

    Parameters
    ----------
    key
        8 hexadecimal digits, for the address of its page. Who knows them may vote.
    title
        Its name in lists.
    classes
        The emotions to choose from, in order.
    pieces
        Its clips, in order.
    created
        Unix time, s.
    """

    key: str
    title: str
    classes: tuple[str, ...]
    pieces: tuple[Piece, ...]
    created: float

    @property
    def folder(self) -> Path:
        """The folder with all of its files."""
        return _root() / self.key

    def path(self, number: int) -> Path:
        """The audio file of a clip."""
        return self.folder / self.pieces[number].file

    def join(self, nickname: str) -> str:
        """Add a listener.

        Parameters
        ----------
        nickname
            1 to 30 characters; no other listener of this session may have it.

        Returns
        -------
        str
            A secret by which `vote` knows the listener.

        Raises
        ------
        DataError
            If the nickname is empty, too long or taken, or if there are 500 listeners.
        """
        name, token = _nickname(nickname), secrets.token_hex(8)
        with self._votes() as votes:
            (count,) = votes.execute("SELECT count(*) FROM listeners").fetchone()
            if count >= MOST_LISTENERS:
                raise DataError(f"{count} listeners have joined already; open another session for more")
            try:
                votes.execute("INSERT INTO listeners VALUES (?, ?, ?)", (token, name, time.time()))
            except sqlite3.IntegrityError as error:
                raise DataError(f"{name!r} is taken; add a letter or a number to your nickname") from error
        return token

    def listener(self, token: str) -> str | None:
        """The nickname of a listener; None if nobody has this token."""
        with self._votes() as votes:
            found = votes.execute("SELECT name FROM listeners WHERE token = ?", (token,)).fetchone()
        return found[0] if found else None

    def vote(self, token: str, number: int, emotion: str, sure: int) -> None:
        """Record a listener's choice for a clip; a former choice for it is replaced.

        Parameters
        ----------
        token
            From `join`.
        number
            Number of the clip, from 0.
        emotion
            One of `classes`.
        sure
            A place in `SURE`.

        Raises
        ------
        DataError
            If the listener, the clip or the emotion is unknown.
        """
        if not 0 <= number < len(self.pieces) or emotion not in self.classes or not 0 <= sure < len(SURE):
            raise DataError(f"{emotion!r} for clip {number + 1} is no vote of this session; reload the page")
        row = (token, number, emotion, sure, time.time())
        with self._votes() as votes:
            try:
                votes.execute("INSERT OR REPLACE INTO votes VALUES (?, ?, ?, ?, ?)", row)
            except sqlite3.IntegrityError as error:
                raise DataError("this session does not know you; join it again") from error

    def votes(self, token: str = "") -> list[Vote]:
        """All votes by nickname and clip, or those of one listener."""
        which = "WHERE token = ?" if token else ""
        query = (
            f"SELECT name, clip, emotion, sure FROM votes JOIN listeners USING (token) {which} ORDER BY 1, 2"  # noqa: S608 - both forms are written here
        )
        with self._votes() as votes:
            return [Vote(*row) for row in votes.execute(query, (token,) if token else ())]

    def counts(self) -> list[dict[str, int]]:
        """For each clip, the number of votes for each class."""
        found = [dict.fromkeys(self.classes, 0) for _ in self.pieces]
        for vote in self.votes():
            found[vote.clip][vote.emotion] += 1
        return found

    def export(self) -> Path:
        """Write the clips that have votes as a manifest with a column of votes for each class.

        Its columns `vote_<class>` can be the labels of a training; `label` is the former label.

        Returns
        -------
        Path
            The CSV file, in the session's folder.

        Raises
        ------
        DataError
            If nobody has voted.
        """
        rows = [
            {"path": piece.file, "song": piece.song, "label": piece.label, "name": piece.name}
            | {f"vote_{name}": number for name, number in counts.items()}
            for piece, counts in zip(self.pieces, self.counts(), strict=True)
            if any(counts.values())
        ]
        if not rows:
            raise DataError(f"nobody has voted in {self.title!r} yet; open its link and vote first")
        path = self.folder / "labels.csv"
        write_atomic(path, as_csv(rows))
        return path

    @property
    def label_column(self) -> str:
        """The columns of votes in the manifest, as `mer.data.vote_columns` reads them."""
        return ",".join(f"{name}=vote_{name}" for name in self.classes)

    @contextmanager
    def _votes(self) -> Iterator[sqlite3.Connection]:
        """The database, for one transaction. Raises StorageError."""
        place = self.folder / "votes.sqlite"
        address = f"{place.absolute().as_uri()}?mode=rw"  # never makes a new file
        try:
            with closing(sqlite3.connect(address, uri=True, timeout=WAIT)) as votes, votes:
                votes.execute("PRAGMA foreign_keys = ON")
                yield votes
        except sqlite3.DatabaseError as error:
            raise StorageError(
                f"{place}: {error}; check the disk and the permissions of its folder"
            ) from error


def create(
    title: str, clips: Sequence[Clip], classes: Sequence[str], *, about: Mapping[str, Any] | None = None
) -> Session:
    """Open a session with copies of some clips.

    Parameters
    ----------
    title
        Its name in lists, 1 to 200 characters.
    clips
        From 1 to 60 clips.
    classes
        The emotions to choose from, at least 2, without commas and equals signs.
    about
        Entries of the `dataset.json` of the exported votes, such as `synthetic` and `licence`.

    Raises
    ------
    DataError
        If there are too few or too many clips or classes, no title, or a clip can no longer be read.
    StorageError
        If the session cannot be written.
    """
    title = composed(visible(title)).strip()[:LONGEST_NAME]
    if odd := [name for name in classes if {",", "="} & set(name)]:
        raise DataError(f"the class {odd[0]!r} has a comma or an equals sign; rename it")
    if not title or len(classes) < 2 or not 0 < len(clips) <= MOST_CLIPS:
        raise DataError(
            f"a session needs a title, 1 to {MOST_CLIPS} clips and 2 or more emotions; it has {title!r}, "
            f"{len(clips)} and {len(classes)}"
        )
    pieces = tuple(
        Piece(f"clips/{number:02d}{clip.path.suffix.lower()}", clip.id, clip.label, clip.song or clip.id)
        for number, clip in enumerate(clips, 1)
    )
    session = Session(secrets.token_hex(4), title, tuple(classes), pieces, time.time())
    with writing(session.folder), new_folder(session.folder) as draft:
        (draft / "clips").mkdir()
        for clip, piece in zip(clips, pieces, strict=True):
            _copy(clip, draft / piece.file)
        write_atomic(draft / "session.json", json.dumps(asdict(session), indent=1, ensure_ascii=False))
        card = {**(about or {}), "name": f"Votes: {title}"[:LONGEST_NAME], "notes": NOTES}
        write_atomic(draft / CARD, json.dumps(card, indent=1, ensure_ascii=False))
        with closing(sqlite3.connect(draft / "votes.sqlite")) as votes:
            votes.execute("PRAGMA journal_mode = WAL")
            votes.executescript(TABLES)
    return session


def known() -> list[Session]:
    """All sessions, newest first; folders that hold none are left out."""
    found = [_read(place) for place in _root().glob("*/session.json")]
    return sorted(filter(None, found), key=lambda one: one.created, reverse=True)


def find(key: str) -> Session:
    """The session with this key. Raises DataError if there is none."""
    found = _read(_root() / key / "session.json") if KEY.fullmatch(key) else None
    if found is None:
        raise DataError(f"no listening session {key!r} here; ask for its link again")
    return found


def remove(key: str) -> None:
    """Delete a session with its clips and votes. Raises DataError if there is none."""
    shutil.rmtree(find(key).folder)


def _root() -> Path:
    return home() / "listening"


def _read(path: Path) -> Session | None:
    """A session from its file; None if it is not one."""
    try:
        data: dict[str, Any] = json.loads(path.read_text("utf-8"))
        pieces = tuple(Piece(**piece) for piece in data.pop("pieces"))
        return Session(
            **data | {"key": path.parent.name, "classes": tuple(data["classes"]), "pieces": pieces}
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _copy(clip: Clip, place: Path) -> None:
    try:
        shutil.copyfile(clip.path, place)
    except OSError as error:
        raise DataError(
            f"{clip.id} can no longer be read ({error.strerror}); check the data set again"
        ) from error


def _nickname(text: str) -> str:
    """A nickname without invisible characters. Raises DataError if it is empty or too long."""
    name = " ".join(composed(visible(text)).split())
    if not 0 < len(name) <= LONGEST_NICKNAME:
        raise DataError(f"{name[:40]!r} is not a nickname; use 1 to {LONGEST_NICKNAME} characters")
    return name
