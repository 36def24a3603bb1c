"""Stratified splits that keep songs whole. The same seed always gives the same split.

The order in which songs are placed comes from BLAKE2 hashes of names, not from a random generator, so a split
depends neither on the order of the clips nor on the version of a library. Method: greedy assignment of whole
groups to the part that most needs their classes (cf. Sechidis et al., "On the stratification of multi-label
data", ECML 2011).
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from math import fsum

from mer.config.sections import SplitConfig
from mer.data.clips import Clip
from mer.utils.errors import SplitError

__all__ = [
    "Split",
    "hash_names",
    "inner_folds",
    "partition",
    "require_no_folds",
    "require_usable",
    "split_clips",
    "split_fault",
]


@dataclass(frozen=True, slots=True)
class Split:
    """Ascending indices of the clips in each part: tuples, or arrays for splits by hash."""

    train: Sequence[int]
    validation: Sequence[int]
    test: Sequence[int]

    def to_hash(self, clips: Sequence[Clip]) -> str:
        """Hash of the test clips' names. Runs with the same hash were tested on the same clips."""
        return hash_names(clips[i].id for i in self.test)


def hash_names(names: Iterable[str]) -> str:
    """Hash of names, independent of their order."""
    return blake2b("\n".join(sorted(names)).encode(), digest_size=8).hexdigest()


def partition(
    labels: Sequence[str], groups: Sequence[str], shares: Sequence[float], *, seed: int
) -> list[list[int]]:
    """Divide clips into parts, keeping groups whole.

    Each class is divided by the same shares, as far as groups allow. Larger groups are placed first, and
    groups of equal size in an order that `seed` decides.

    Parameters
    ----------
    labels, groups
        Class and group of each clip.
    shares
        Share of each part; they sum to 1.
    seed
        Decides ties.

    Returns
    -------
    list of list of int
        Ascending indices of the clips in each part.
    """
    members = _members(groups, seed)
    total = Counter(labels)
    filled = [Counter() for _ in shares]
    parts: list[list[int]] = [[] for _ in shares]

    def priority(part: int) -> tuple[float, float, bytes]:
        """Sort key: the part with the largest gets the group. Ties in the first are decided by the next.

        The key holds the shortfall of the group's classes, the emptiness of the part, and a hash.
        """
        size = filled[part].total() / (shares[part] * len(labels))
        return _shortfall(counts, filled[part], total, shares[part]), -size, _rank(seed, f"{part}/{group}")

    for group in members:
        counts = Counter(labels[i] for i in members[group])
        best = max(range(len(shares)), key=priority)
        filled[best].update(counts)
        parts[best].extend(members[group])
    return [sorted(part) for part in parts]


def inner_folds(
    labels: Sequence[str], groups: Sequence[str], count: int
) -> list[tuple[list[int], list[int]]]:
    """Divide training clips into folds, to choose settings by.

    Parameters
    ----------
    labels, groups
        Class and group (song) of each clip.
    count
        Number of folds.

    Returns
    -------
    list of tuple
        (indices to learn from, indices to test on) of each fold, ascending; no group is in both. Folds that
        leave a class without a clip to learn from are left out.
    """
    found = []
    for part in partition(labels, groups, [1 / count] * count, seed=0):
        tested = set(part)
        rest = [i for i in range(len(labels)) if i not in tested]
        if part and {labels[i] for i in rest} == set(labels):
            found.append((rest, part))
    return found


def _members(groups: Iterable[str], seed: int) -> dict[str, list[int]]:
    """Ascending indices of each group: larger groups first, equal ones in an order that `seed` decides."""
    members: dict[str, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        members[group].append(index)
    order = sorted(members, key=lambda group: (-len(members[group]), _rank(seed, group)))
    return {group: members[group] for group in order}


def _rank(seed: int, name: str) -> bytes:
    """A hash that decides an order at random, the same on every machine."""
    return blake2b(name.encode(), digest_size=8, salt=seed.to_bytes(8, "little")).digest()


def _shortfall(counts: Counter, filled: Counter, total: Counter, share: float) -> float:
    """Shortfall of a part in the classes of a group.

    For each class, the shortfall is 1 for a part without clips of the class, 0 for a part that has its share,
    and negative above it. They are summed over the clips of the group. fsum is exact, so neither the order of
    the clips nor the version of Python changes the result.

    Parameters
    ----------
    counts, filled, total
        Clips of each class in the group, in the part, and in all parts.
    share
        Share of all clips that the part should have, 0 to 1.
    """
    return fsum(n * (1 - filled[label] / (share * total[label])) for label, n in counts.items())


def split_clips(clips: Sequence[Clip], config: SplitConfig) -> Split:
    """Split clips into train, validation and test parts: hold-out, one of k folds, or the manifest's split.

    A clip without a song is a group of its own.

    Parameters
    ----------
    clips
        The clips. If any has a `split`, the manifest decides.
    config
        Shares, folds and seed.

    Raises
    ------
    SplitError
        If a part would be empty, the training part would lack a class, the manifest puts a song into two
        parts, or `config` has folds although the manifest has a split.
    """
    if any(clip.split for clip in clips):
        parts = _split_of_manifest(clips, config)
    else:
        everything = list(range(len(clips)))
        if config.folds:
            folds = _divide(clips, everything, [1 / config.folds] * config.folds, config)
            test = folds[config.fold]
        else:
            _, test = _divide(clips, everything, [1 - config.test, config.test], config)
        if config.folds and config.validation_from == "next":
            learned = _take_from_next(clips, folds, config)
        else:
            learned = _take_validation(clips, sorted(set(everything) - set(test)), config)
        parts = Split(*learned, tuple(test))
    missing = {clip.label for clip in clips} - {clips[i].label for i in parts.train}
    groups = len(set(_groups(clips, config)))
    require_usable(parts, missing, clips=len(clips), groups=groups, config=config)
    return parts


def split_fault(clips: Sequence[Clip], config: SplitConfig) -> str:
    """Why clips cannot be split, also into any fold, in few words; "" if they can."""
    try:
        for fold in range(max(config.folds, 1)):
            split_clips(clips, replace(config, fold=fold))
    except SplitError as error:
        return str(error).split(";")[0]
    return ""


def _groups(clips: Sequence[Clip], config: SplitConfig) -> list[str]:
    """The group of each clip: its song, if known and songs are kept whole, else the clip itself."""
    return [f"song {c.song}" if config.group_by_song and c.song else f"clip {c.id}" for c in clips]


def _divide(
    clips: Sequence[Clip], indices: Sequence[int], shares: Sequence[float], config: SplitConfig
) -> list[list[int]]:
    """Divide the clips with these indices into parts with these shares."""
    chosen = [clips[i] for i in indices]
    parts = partition([c.label for c in chosen], _groups(chosen, config), shares, seed=config.seed)
    return [[indices[i] for i in part] for part in parts]


def _take_validation(
    clips: Sequence[Clip], rest: Sequence[int], config: SplitConfig
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Divide the clips outside the test part into a training and a validation part."""
    if not config.validation:
        return tuple(rest), ()
    train, validation = _divide(clips, rest, [1 - config.validation, config.validation], config)
    return tuple(train), tuple(validation)


def _take_from_next(
    clips: Sequence[Clip], folds: Sequence[Sequence[int]], config: SplitConfig
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Training and validation part of a fold.

    Validation songs are taken from the test parts of the folds that follow, the nearest first. A song is
    taken if the shortfall of its classes is larger in validation than in training. In folds beyond those that
    the share needs, a song is taken only if this still holds with the song counted in. Every class keeps a
    song in training.

    If songs have one class each, a class is less than one song off its share. If the next fold holds the
    whole share, no two folds have a validation song in common.
    """
    labels, share = [clip.label for clip in clips], config.validation
    turns = [folds[(config.fold + step) % config.folds] for step in range(1, config.folds)]
    rest = sorted(index for turn in turns for index in turn)
    total, taken, validation = Counter(labels[i] for i in rest), Counter(), set()
    for step, turn in enumerate(turns if share else ()):
        far = step >= share * len(turns)
        for members in _members(_groups([clips[i] for i in turn], config), config.seed).values():
            counts = Counter(labels[turn[i]] for i in members)
            left = total - taken - counts  # in training, if this song is taken
            filled = taken + counts if far and validation else taken  # validation needs a first song
            gap = _shortfall(counts, filled, total, share) - _shortfall(counts, left, total, 1 - share)
            if (gap > 0 or (far and gap == 0)) and all(left[label] for label in counts):
                taken.update(counts)
                validation.update(turn[i] for i in members)
    return tuple(i for i in rest if i not in validation), tuple(sorted(validation))


def _split_of_manifest(clips: Sequence[Clip], config: SplitConfig) -> Split:
    """The manifest's split. Clips without a part are for training.

    If no clip is for validation, the validation part is taken from the training part.
    """
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
    """Raise SplitError if a song is in two parts."""
    groups = _groups(clips, config)
    part_of: dict[str, str] = {}
    for part in ("train", "validation", "test"):
        for index in getattr(split, part):
            if part_of.setdefault(groups[index], part) != part:
                other = part_of[groups[index]]
                raise SplitError(
                    f"the manifest has clips of {clips[index].song!r} in {other} and {part}, "
                    f"which raises scores; correct {clips[index].id!r}, or allow it with --no-group-by-song"
                )


def require_usable(
    split: Split, missing: Iterable[str], *, clips: int, groups: int, config: SplitConfig
) -> None:
    """Raise SplitError if a needed part is empty or the training part lacks a class.

    Parameters
    ----------
    split
        The split to check.
    missing
        Classes without a clip in the training part.
    clips, groups
        Number of clips and groups, for the error message.
    config
        Tells whether a validation part is needed.
    """
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
    """Raise SplitError if `config` has folds. Call it if the manifest has a split of its own."""
    if config.folds:
        raise SplitError(
            f"folds={config.folds}, but the manifest has a split of its own; use folds=0 or empty that column"
        )
