"""Clips and data sets, the form that every data source is read into."""

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from string import whitespace

from mer.data.song_names import AUTO, NO_PATTERN, Naming, find_naming, name_songs
from mer.utils.errors import DataError
from mer.utils.text import composed

__all__ = [
    "LONGEST_NAME",
    "MER500_CLASSES",
    "PLAN",
    "Clip",
    "Dataset",
    "class_name",
    "class_order",
    "is_hidden",
    "is_sharded",
    "require_trainable",
    "twins",
]

MER500_CLASSES = ("Romantic", "Happy", "Sad", "Devotional", "Party")
PLAN = "plan.json"  # in the folder of a sharded set: its clips and settings
LITTER = {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini"}  # of macOS and Windows, in lower case
LONGEST_NAME = 200  # characters in the name of a class, song or data set


def is_sharded(path: Path) -> bool:
    """True if this is the folder of a sharded set (`mer.data.shards`), complete or not."""
    return (path / PLAN).is_file()


def is_hidden(relative: Path) -> bool:
    """True for hidden files and for those that operating systems add, such as __MACOSX."""
    return any(part.startswith(".") or part.casefold() in LITTER for part in relative.parts)


def class_name(text: str) -> str:
    """The name of a class as it was meant: composed (NFC), without spaces and invisible marks around it."""
    return composed(text).strip(f"{whitespace}\xa0\u200b\u2060\ufeff")


@dataclass(frozen=True, slots=True)
class Clip:
    """One labelled audio file.

    Parameters
    ----------
    id
        Its path relative to the data set, with forward slashes. Reports and CSV files show it.
    path
        The file.
    label
        Its class. With votes, the class with the largest share.
    song
        The song that the clip is from, or None if unknown.
    split
        "train", "validation" or "test" if the manifest says so, else None.
    votes
        If listeners voted: the distribution over the data set's classes, in order, summing to 1.
    """

    id: str
    path: Path
    label: str
    song: str | None = None
    split: str | None = None
    votes: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Dataset:
    """Clips, and what is known of them as a whole.

    Parameters
    ----------
    name, licence, notes
        Texts from `dataset.json`. The notes, such as what the labels mean, go into model cards.
    root
        The folder or file that was read.
    clips
        The clips.
    synthetic
        True if the clips were generated.
    left_out
        (id, reason) of each file that was found but is not a clip.
    order
        The order of the classes, if the source has one, such as columns of votes.
    remarks
        Sentences on what may be a mistake in the data set.
    naming
        The pattern of file names by which songs were named, or None.
    offered
        A pattern that file names may follow; it is only offered.
    """

    name: str
    root: Path
    clips: tuple[Clip, ...]
    synthetic: bool = False
    licence: str | None = None
    notes: str = ""
    left_out: tuple[tuple[str, str], ...] = ()
    order: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    naming: Naming | None = None
    offered: Naming | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Labels in the order of the network's outputs.

        That is `order` if it is set, else the order of `class_order`.
        """
        if self.order:
            return self.order
        return class_order({clip.label for clip in self.clips})

    @property
    def songs_known(self) -> bool:
        """True if there are clips and each has a song."""
        return bool(self.clips) and all(clip.song is not None for clip in self.clips)

    def class_counts(self) -> dict[str, int]:
        """Number of clips per class, in the order of `classes`."""
        counts = Counter(clip.label for clip in self.clips)
        return {name: counts[name] for name in self.classes}

    def with_songs(self, songs: dict[str, str]) -> "Dataset":
        """The same data set. Clips without a song get theirs from `songs` (clip id -> song)."""
        clips = tuple(replace(clip, song=clip.song or songs.get(clip.id)) for clip in self.clips)
        return replace(self, clips=clips)

    def named_by(self, pattern: str) -> "Dataset":
        """The same data set, with songs named by a pattern of file names (`mer.data.song_names`).

        Parameters
        ----------
        pattern
            A pattern; "auto" for a clear one, if no clip has a song; "none" for none. Songs that are known
            stay.

        Raises
        ------
        ConfigError
            If the pattern is not valid.
        """
        named = [(clip.id, clip.label) for clip in self.clips]
        if pattern == NO_PATTERN or (pattern == AUTO and any(clip.song for clip in self.clips)):
            return self
        naming, offered = find_naming(named) if pattern == AUTO else (name_songs(pattern, named), None)
        if naming is None:
            return replace(self, offered=offered)
        return replace(self.with_songs(naming.songs), naming=naming)

    def unnamed(self) -> "Dataset":
        """The same data set, without the songs of a pattern that was found."""
        if self.naming is None or not self.naming.automatic:
            return self
        return replace(self, clips=tuple(replace(clip, song=None) for clip in self.clips), naming=None)

    def require_trainable(self) -> "Dataset":
        """Return self. Raises DataError if there are < 2 classes or < 2 clips in a class."""
        require_trainable(self.root, self.class_counts())
        return self


def class_order(labels: set[str]) -> tuple[str, ...]:
    """Labels in the order of a network's outputs: MER500's order if all are MER500's, else alphabetical."""
    if labels <= set(MER500_CLASSES):
        return tuple(name for name in MER500_CLASSES if name in labels)
    return tuple(sorted(labels))


def twins(labels: set[str]) -> tuple[str, ...]:
    """A sentence for each two or more labels that differ only in capitals."""
    alike: dict[str, list[str]] = defaultdict(list)
    for label in sorted(labels):
        alike[label.casefold()].append(label)
    return tuple(
        f"The classes {' and '.join(map(repr, names))} differ only in capitals and count as "
        f"{len(names)} classes; rename them if they are one."
        for names in alike.values()
        if len(names) > 1
    )


def require_trainable(root: Path, counts: dict[str, int]) -> None:
    """Raise DataError unless there are at least 2 classes, each with at least 2 usable clips."""
    if len(counts) < 2:
        found = ", ".join(counts) or "none"
        raise DataError(
            f"{root}: {len(counts)} class with usable clips ({found}); "
            "at least 2 are needed: one folder (or label) per class"
        )
    for label, n in counts.items():
        if n < 2:
            raise DataError(
                f"{root}: class {label!r} has {n} usable clip; "
                "at least 2 are needed: add clips or leave the class out"
            )
