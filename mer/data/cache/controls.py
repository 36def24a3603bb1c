"""Control runs, on data from which nothing can be learned, so scores must not exceed chance.

A score above chance on shuffled labels means that test labels leak, or that training clips are tested on
(Ojala and Garriga, "Permutation tests for studying classifier performance", JMLR, 2010). A score above chance
on silence or noise means that the network uses something other than the music, such as a clip's length.
"""

from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

__all__ = ["CONTROLS", "donors", "entry", "stand_in"]

# Values of the setting `control` other than "none", and their names in texts.
CONTROLS = {"labels": "shuffled labels", "silence": "silence", "noise": "noise"}
LEVEL = 0.1  # root mean square of the noise; full scale is 1


def stand_in(control: str, waveform: np.ndarray, file_hash: str) -> np.ndarray:
    """The waveform to use for a clip in a control run.

    Parameters
    ----------
    control
        "silence" or "noise" replaces the waveform; any other value leaves it as it is.
    waveform
        The clip's own waveform, float32 (samples,).
    file_hash
        Hash of the clip's file. It seeds the noise, so a file always gets the same noise.

    Returns
    -------
    np.ndarray
        Silence, white noise or the clip itself, of the same length.
    """
    if control == "silence":
        return np.zeros_like(waveform)
    if control == "noise":
        rng = np.random.default_rng(int(file_hash[:16], 16))
        return (LEVEL * rng.standard_normal(len(waveform))).astype(np.float32)
    return waveform


def entry(control: str, file_hash: str) -> str:
    """The name of a clip's entry in the store. Silence and noise have entries of their own."""
    return f"{file_hash}-{control}" if control in ("silence", "noise") else file_hash


def donors(labels: Sequence[str], songs: Sequence[str], *, seed: int) -> list[int]:
    """Shuffle labels between songs: for each clip, the index of the clip whose label it gets.

    All clips of a song get the most frequent label of one song, which by chance may be the song itself. The
    permutation follows from hashes of the songs' names (as in `mer.data.splits`), so it depends neither on
    the order of the clips nor on versions of libraries.

    Parameters
    ----------
    labels, songs
        Label and song of each clip.
    seed
        Seed of the permutation.

    Returns
    -------
    list of int
        One index into `labels` per clip.
    """
    members: dict[str, list[int]] = {}
    for index, song in enumerate(songs):
        members.setdefault(song, []).append(index)
    salt = seed.to_bytes(8, "little")
    order = sorted(members, key=lambda song: blake2b(song.encode(), digest_size=8, salt=salt).digest())
    giver = dict(zip(sorted(members), order, strict=True))
    first = {song: _typical(labels, indices) for song, indices in members.items()}
    return [first[giver[song]] for song in songs]


def _typical(labels: Sequence[str], indices: Sequence[int]) -> int:
    """Index of a clip with the most frequent label among some clips; ties go to the first in the alphabet."""
    counts = Counter(labels[i] for i in indices)
    label = min(counts, key=lambda name: (-counts[name], name))
    return next(i for i in indices if labels[i] == label)
