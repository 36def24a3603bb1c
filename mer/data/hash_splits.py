"""Splits by hash: the part of a clip follows from its song's name and the seed alone.

So no list of all clips is needed, clips that are added later move none, and no song is in two parts. The
shares hold as well as a throw of dice for each song keeps them: of n songs of equal size, a share p within
about 2 * sqrt(p (1 - p) / n). Classes are spread by the same dice, not evened out as in `mer.data.splits`.
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
    """64 bits that stand for a name; a song and a clip of the same name have different ones."""
    return int.from_bytes(blake2b(f"{kind} {name}".encode(), digest_size=8).digest(), "little")


def _dice(keys: np.ndarray, seed: int, use: str) -> np.ndarray:
    """A number in [0, 1) for each key, float64: SplitMix64's finaliser (Steele, Lea and Flood, 2014)."""
    z = keys ^ np.uint64(key(f"seed {seed}", use))
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return (z >> np.uint64(11)) * 2.0**-53


def divide(groups: np.ndarray, config: SplitConfig) -> np.ndarray:
    """The number of each clip's part in PARTS, int8 (clips,), from the key of its song, uint64 (clips,)."""
    place = _dice(groups, config.seed, "test")
    test = np.floor(place * config.folds) == config.fold if config.folds else place < config.test
    chosen = _dice(groups, config.seed, "validation") < config.validation
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
    """The parts of clips: by hash, or as `given` by number (clips,), NO_SPLIT where nothing is.

    As where manifests are small, a clip without a part trains beside some that have one, and validation is
    taken from the training part if none is given. `name` names a clip by its number, for messages. Raises
    SplitError as `mer.data.splits.split_clips`.
    """
    parts = divide(groups, config)
    if (given != NO_SPLIT).any():
        require_no_folds(config)
        parts = np.where(given == NO_SPLIT, 0, given).astype(np.int8)
        if not (parts == 1).any() and config.validation:
            chosen = _dice(groups, config.seed, "validation") < config.validation
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
    parted = np.flatnonzero(same & (parts[order][1:] != parts[order][:-1]))
    if len(parted):
        one, other = order[parted[0]], order[parted[0] + 1]
        raise SplitError(
            f"the manifest has clips of one song in {PARTS[parts[one]]} ({name(one)!r}) and "
            f"{PARTS[parts[other]]} ({name(other)!r}), which flatters scores; correct one, or allow it with "
            "--no-group-by-song"
        )
