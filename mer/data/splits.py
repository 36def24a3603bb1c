"""Stratified parts that never part a song; the same seed gives the same parts for ever.

Order comes from BLAKE2 hashes of names, not from a random generator, so that neither the order of the
clips nor the version of a library changes a split. Method: greedy assignment of whole groups to the
part that is most in need of their classes (cf. Sechidis et al., "On the stratification of multi-label
data", ECML 2011).
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from math import fsum

from mer.config.sections import SplitConfig
from mer.data.clips import Clip
from mer.utils.errors import SplitError

__all__ = ["Split", "hash_names", "partition", "require_no_folds", "require_usable", "split_clips"]


@dataclass(frozen=True, slots=True)
class Split:
    """Indices of clips, ascending, in each part; arrays where there are very many."""

    train: Sequence[int]
    validation: Sequence[int]
    test: Sequence[int]

    def to_hash(self, clips: Sequence[Clip]) -> str:
        """Hash of the test clips' names: runs with the same hash were judged on the same clips."""
        return hash_names(clips[i].id for i in self.test)


def hash_names(names: Iterable[str]) -> str:
    """Hash of some clips' names, in whatever order."""
    return blake2b("\n".join(sorted(names)).encode(), digest_size=8).hexdigest()


def partition(
    labels: Sequence[str], groups: Sequence[str], shares: Sequence[float], *, seed: int
) -> list[list[int]]:
    """Divide clips into parts of the given `shares` (sum 1), whole groups at a time.

    Each class is spread by the same shares, as far as groups allow. Larger groups are placed first;
    equal ones in an order that `seed` decides. Returns ascending indices for each part.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        members[group].append(index)
    order = sorted(members, key=lambda group: (-len(members[group]), _rank(seed, group)))
    total = Counter(labels)
    filled = [Counter() for _ in shares]
    parts: list[list[int]] = [[] for _ in shares]

    def claim(part: int) -> tuple[float, float, bytes]:
        """How much a part needs the group at hand: its classes first, then clips at all, then chance."""
        size = filled[part].total() / (shares[part] * len(labels))
        return _need(counts, filled[part], total, shares[part]), -size, _rank(seed, f"{part}/{group}")

    for group in order:
        counts = Counter(labels[i] for i in members[group])
        best = max(range(len(shares)), key=claim)
        filled[best].update(counts)
        parts[best].extend(members[group])
    return [sorted(part) for part in parts]


def _rank(seed: int, name: str) -> bytes:
    return blake2b(name.encode(), digest_size=8, salt=seed.to_bytes(8, "little")).digest()


def _need(counts: Counter, filled: Counter, total: Counter, share: float) -> float:
    """How far a part is from its share of the classes of a group, relative to that share.

    fsum is exact: neither the order of the clips nor the version of Python moves its last bit.
    """
    return fsum(n * (1 - filled[label] / (share * total[label])) for label, n in counts.items())


def split_clips(clips: Sequence[Clip], config: SplitConfig) -> Split:
    """Train, validation and test parts: hold-out or one of k folds, or what the manifest says.

    Clips without a song are groups of their own. Raises SplitError if a part would be empty, a class
    would be missing from the training part, or the manifest parts a song.
    """
    if any(clip.split for clip in clips):
        parts = _given(clips, config)
    else:
        everything = list(range(len(clips)))
        if config.folds:
            folds = _divide(clips, everything, [1 / config.folds] * config.folds, config)
            test = folds[config.fold]
        else:
            _, test = _divide(clips, everything, [1 - config.test, config.test], config)
        rest = sorted(set(everything) - set(test))
        parts = Split(*_take_validation(clips, rest, config), tuple(test))
    missing = {clip.label for clip in clips} - {clips[i].label for i in parts.train}
    groups = len(set(_groups(clips, config)))
    require_usable(parts, missing, clips=len(clips), groups=groups, config=config)
    return parts


def _groups(clips: Sequence[Clip], config: SplitConfig) -> list[str]:
    """The song where songs count and one is known, else the clip itself."""
    return [f"song {c.song}" if config.group_by_song and c.song else f"clip {c.id}" for c in clips]


def _divide(
    clips: Sequence[Clip], indices: Sequence[int], shares: Sequence[float], config: SplitConfig
) -> list[list[int]]:
    chosen = [clips[i] for i in indices]
    parts = partition([c.label for c in chosen], _groups(chosen, config), shares, seed=config.seed)
    return [[indices[i] for i in part] for part in parts]


def _take_validation(
    clips: Sequence[Clip], rest: Sequence[int], config: SplitConfig
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if not config.validation:
        return tuple(rest), ()
    train, validation = _divide(clips, rest, [1 - config.validation, config.validation], config)
    return tuple(train), tuple(validation)


def _given(clips: Sequence[Clip], config: SplitConfig) -> Split:
    """The manifest's own split; a clip without one trains, validation is taken from those if not given."""
    require_no_folds(config)
    parts = {"train": [], "validation": [], "test": []}
    for index, clip in enumerate(clips):
        parts[clip.split or "train"].append(index)
    train, validation = tuple(parts["train"]), tuple(parts["validation"])
    if not validation:
        train, validation = _take_validation(clips, train, config)
    split = Split(train, validation, tuple(parts["test"]))
    _require_whole_songs(clips, split, config)
    return split


def _require_whole_songs(clips: Sequence[Clip], split: Split, config: SplitConfig) -> None:
    groups = _groups(clips, config)
    home: dict[str, str] = {}
    for part in ("train", "validation", "test"):
        for index in getattr(split, part):
            if home.setdefault(groups[index], part) != part:
                raise SplitError(
                    f"the manifest has clips of {clips[index].song!r} in {home[groups[index]]} and {part}, "
                    f"which flatters scores; correct {clips[index].id!r}, or allow it with --no-group-by-song"
                )


def require_usable(
    split: Split, missing: Iterable[str], *, clips: int, groups: int, config: SplitConfig
) -> None:
    """Raise SplitError if a part is empty that should not be, or classes are `missing` from the training."""
    for name, wanted in (("train", True), ("validation", config.validation > 0), ("test", True)):
        if wanted and not len(getattr(split, name)):
            raise SplitError(
                f"the {name} part would be empty with {clips} clips in {groups} groups; "
                "add clips or songs, or change the shares"
            )
    if missing := sorted(missing):
        raise SplitError(
            f"no {', '.join(missing)} clip in the training part; "
            "add songs of that class, or split without grouping (--no-group-by-song)"
        )


def require_no_folds(config: SplitConfig) -> None:
    """Raise SplitError if folds are asked for where the manifest has decided."""
    if config.folds:
        raise SplitError(
            f"folds={config.folds}, but the manifest has a split of its own; use folds=0 or empty that column"
        )
