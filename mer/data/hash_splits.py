"""Splits by hash: the part of a clip depends only on its song's key and the seed.

No list of all clips is needed, added clips leave the parts of others unchanged, and no song is in two parts.
Each song is drawn independently, so the shares are approximate: with n songs of equal size, a share p is met
within about 2 * sqrt(p (1 - p) / n). Classes are not balanced between the parts, unlike in `mer.data.splits`.
"""

from collections.abc import Callable, Sequence
from hashlib import blake2b

import numpy as np

from mer.config.sections import SplitConfig
from mer.data.splits import Split, require_no_folds, require_usable
from mer.utils.errors import SplitError

__all__ = ["NO_SPLIT", "PARTS", "divide", "hash_split", "key"]

PARTS = ("train", "validation", "test")
NO_SPLIT = -1


def key(kind: str, name: str) -> int:
    """A 64-bit hash of a name. A song and a clip of the same name have different keys."""
    return int.from_bytes(blake2b(f"{kind} {name}".encode(), digest_size=8).digest(), "little")


def _uniform(keys: np.ndarray, seed: int, use: str) -> np.ndarray:
    """A pseudo-random number in [0, 1) for each key: SplitMix64's finaliser (Steele, Lea and Flood, 2014)."""
    z = keys ^ np.uint64(key(f"seed {seed}", use))
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return (z >> np.uint64(11)) * 2.0**-53


def divide(groups: np.ndarray, config: SplitConfig) -> np.ndarray:
    """Assign each clip to a part.

    With folds, validation is taken from the folds that follow, the nearest first, as in `mer.data.splits`,
    unless `config.validation_from` is "rest".

    Parameters
    ----------
    groups
        Key of each clip's song, uint64 of shape (clips,).
    config
        Shares, folds and seed.

    Returns
    -------
    np.ndarray
        Index in PARTS of each clip's part, int8 of shape (clips,).
    """
    place, chance = (_uniform(groups, config.seed, use) for use in ("test", "validation"))
    chosen = chance < config.validation
    if not config.folds:
        test = place < config.test
    else:
        steps = (np.floor(place * config.folds) - config.fold) % config.folds  # from this fold to the song's
        test = steps == 0
        if config.validation_from == "next":
            chosen = steps - 1 + chance < config.validation * (config.folds - 1)
    return np.where(test, 2, np.where(chosen, 1, 0)).astype(np.int8)


def hash_split(
    groups: np.ndarray,
    labels: np.ndarray,
    given: np.ndarray,
    config: SplitConfig,
    *,
    classes: Sequence[str],
    name: Callable[[int], str],
) -> Split:
    """Split clips by hash, or as the manifest says.

    If the manifest names the parts of some clips, the others are for training. If it names no validation
    clips, they are drawn from the training part. `mer.data.splits.split_clips` does the same.

    Parameters
    ----------
    groups
        Key of each clip's song, uint64 of shape (clips,).
    labels
        Class index of each clip, shape (clips,).
    given
        Index in PARTS that the manifest gives, or NO_SPLIT, shape (clips,).
    config
        Shares, folds and seed.
    classes
        Names of the classes, for error messages.
    name
        Returns the name of a clip by its index, for error messages.

    Returns
    -------
    Split
        Ascending indices of the clips in each part, as arrays.

    Raises
    ------
    SplitError
        If a part would be empty, the training part would lack a class, the manifest puts a song into two
        parts, or `config` has folds although the manifest has a split.
    """
    parts = divide(groups, config)
    if (given != NO_SPLIT).any():
        require_no_folds(config)
        parts = np.where(given == NO_SPLIT, 0, given).astype(np.int8)
        if not (parts == 1).any() and config.validation:
            chosen = _uniform(groups, config.seed, "validation") < config.validation
            parts[(parts == 0) & chosen] = 1
        _require_whole(groups, parts, name)
    split = Split(*(np.flatnonzero(parts == number) for number in range(len(PARTS))))
    missing = np.setdiff1d(labels, labels[split.train])
    songs = len(np.unique(groups))
    require_usable(split, [classes[i] for i in missing], clips=len(groups), groups=songs, config=config)
    return split


def _require_whole(groups: np.ndarray, parts: np.ndarray, name: Callable[[int], str]) -> None:
    """Raise SplitError if a song is in two parts."""
    order = np.lexsort((parts, groups))
    same = groups[order][1:] == groups[order][:-1]
    divided = np.flatnonzero(same & (parts[order][1:] != parts[order][:-1]))
    if len(divided):
        one, other = order[divided[0]], order[divided[0] + 1]
        raise SplitError(
            f"the manifest has clips of one song in {PARTS[parts[one]]} ({name(one)!r}) and "
            f"{PARTS[parts[other]]} ({name(other)!r}), which raises scores; correct one, or allow it with "
            "--no-group-by-song"
        )
