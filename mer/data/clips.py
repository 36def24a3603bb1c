"""What every source of data becomes: clips with a label, and a song where one is known."""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from mer.utils.errors import DataError

__all__ = [
    "AUDIO_SUFFIXES",
    "LONGEST_NAME",
    "MER500_CLASSES",
    "PLAN",
    "Clip",
    "Dataset",
    "class_order",
    "is_hidden",
    "is_sharded",
    "require_trainable",
]

MER500_CLASSES = ("Romantic", "Happy", "Sad", "Devotional", "Party")
AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".oga", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".snd"})
PLAN = "plan.json"  # in the folder of a sharded set: what was asked for
LONGEST_NAME = 200  # letters of the name of a class, a song, a data set


def is_sharded(path: Path) -> bool:
    """True for the folder of a sharded set (`mer.data.shards`), finished or not."""
    return (path / PLAN).is_file()


def is_hidden(relative: Path) -> bool:
    """True for what operating systems leave lying about."""
    return any(part.startswith(".") or part == "__MACOSX" for part in relative.parts)


@dataclass(frozen=True, slots=True)
class Clip:
    """One labelled audio file.

    `id` is its path relative to the data set, with forward slashes: what reports and CSV files show.
    `song` is None where nobody knows which song the excerpt is from. `split` is "train", "validation"
    or "test" where the manifest decides, else None. `votes`, where listeners voted, has their shares for the
    classes of the data set in order, summing to 1; `label` then is the class with the most.
    """

    id: str
    path: Path
    label: str
    song: str | None = None
    split: str | None = None
    votes: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Dataset:
    """Clips and what is known of them as a whole.

    `classes` is the order of the network's outputs: `order` where there is one (as of columns of votes),
    MER500's own where the labels are MER500's, else alphabetical. `notes` (what the labels mean, say) go into
    the cards of models. `left_out` holds (id, reason) of files that were seen but are no clips.
    """

    name: str
    root: Path
    clips: tuple[Clip, ...]
    synthetic: bool = False
    licence: str | None = None
    notes: str = ""
    left_out: tuple[tuple[str, str], ...] = ()
    order: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """Labels in the order of the network's outputs."""
        if self.order:
            return self.order
        return class_order({clip.label for clip in self.clips})

    @property
    def songs_known(self) -> bool:
        """True if every clip names its song."""
        return bool(self.clips) and all(clip.song is not None for clip in self.clips)

    def class_counts(self) -> dict[str, int]:
        """Number of clips per class, in the order of `classes`."""
        counts = Counter(clip.label for clip in self.clips)
        return {name: counts[name] for name in self.classes}

    def with_songs(self, songs: dict[str, str]) -> "Dataset":
        """The same data with `songs` (clip id -> song) filled in where a clip names none."""
        clips = tuple(replace(clip, song=clip.song or songs.get(clip.id)) for clip in self.clips)
        return replace(self, clips=clips)

    def require_trainable(self) -> "Dataset":
        """Return self, or raise DataError if there are < 2 classes or < 2 clips in a class."""
        require_trainable(self.root, self.class_counts())
        return self


def class_order(labels: set[str]) -> tuple[str, ...]:
    """Labels in the order of a network's outputs: MER500's own where they are MER500's, else alphabetical."""
    if labels <= set(MER500_CLASSES):
        return tuple(name for name in MER500_CLASSES if name in labels)
    return tuple(sorted(labels))


def require_trainable(root: Path, counts: dict[str, int]) -> None:
    """Raise DataError unless there are 2 classes or more, with 2 usable clips or more each."""
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
