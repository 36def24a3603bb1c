"""Control runs: material from which nothing can be learned, so that no score may lie above guessing.

A pipeline that scores above guessing on shuffled labels lets test labels through, or tests on what it
learned from (Ojala and Garriga, "Permutation tests for studying classifier performance", JMLR, 2010); one
that does so on silence or noise hears something besides the music, such as a clip's length.
"""

from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

__all__ = ["CONTROLS", "donors", "entry", "stand_in"]

# The settings of `control` but for "none", in words.
CONTROLS = {"labels": "shuffled labels", "silence": "silence", "noise": "noise"}
LEVEL = 0.1  # root mean square of the noise, where 1 is full scale


def stand_in(control: str, waveform: np.ndarray, file_hash: str) -> np.ndarray:
    """What is heard instead of a clip's waveform (samples,): silence or white noise of its length, or itself.

    The same file has the same noise at any time.
    """
    if control == "silence":
        return np.zeros_like(waveform)
    if control == "noise":
        rng = np.random.default_rng(int(file_hash[:16], 16))
        return (LEVEL * rng.standard_normal(len(waveform))).astype(np.float32)
    return waveform


def entry(control: str, file_hash: str) -> str:
    """The name under which the store keeps what is worked out of a clip, or of what stands in for it."""
    return f"{file_hash}-{control}" if control in ("silence", "noise") else file_hash


def donors(labels: Sequence[str], songs: Sequence[str], *, seed: int) -> list[int]:
    """For each clip the clip whose label it gets when labels are shuffled over songs.

    Clips of a song share a label afterwards: the most frequent one of the song that theirs was exchanged for.
    Hashes of names decide which (cf. `mer.data.splits`), so neither order nor versions of libraries matter.
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
    """One of some clips with the most frequent label; the alphabet decides between equals."""
    counts = Counter(labels[i] for i in indices)
    label = min(counts, key=lambda name: (-counts[name], name))
    return next(i for i in indices if labels[i] == label)
