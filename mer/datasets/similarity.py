"""Which clips are excerpts of one song, told from their sound alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import librosa
import numpy as np
from scipy import fft, ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

__all__ = ["SAME_AUDIO", "SOUNDS_ALIKE", "Groups", "Link", "fingerprint", "group"]

SAME_AUDIO = 0.42
SOUNDS_ALIKE = 2.0

_RATE = 16_000
_N_FFT = 4096
_HOP = 640
_FPS = _RATE / _HOP
_BANDS = 32
_HEAD = 8  # rows of a fingerprint that hold the profile
_LONGEST = 30.0  # seconds of audio kept
_MIN_OVERLAP = 1.2  # seconds


@dataclass(frozen=True, slots=True)
class Link:
    """Two clips, `first` < `second` (positions in the list given), that seem to be of one song.

    `evidence` is "same audio" or "sounds alike". `offset`: second s of `first` is second s - offset of
    `second`; None for "sounds alike".
    """

    first: int
    second: int
    similarity: float
    evidence: str
    offset: float | None = None


@dataclass(frozen=True, slots=True)
class Groups:
    """`labels`: one group per clip, numbered from 0 by first appearance; `confidence`: one per group."""

    labels: tuple[int, ...]
    pairs: tuple[Link, ...]
    confidence: tuple[float, ...]


@lru_cache(maxsize=1)
def _filters() -> np.ndarray:
    return librosa.filters.mel(sr=_RATE, n_fft=_N_FFT, n_mels=_BANDS, fmin=150, fmax=5000)


def fingerprint(waveform: np.ndarray, rate: int = _RATE) -> np.ndarray:
    """What is kept of one clip: float16, shape (rows, 31)."""
    if rate != _RATE:
        waveform = librosa.resample(waveform, orig_sr=rate, target_sr=_RATE)
    audio = np.asarray(waveform, np.float32)[: int(_LONGEST * _RATE)]
    audio = np.pad(audio, (0, max(0, _N_FFT - audio.size)))
    power = np.abs(librosa.stft(audio, n_fft=_N_FFT, hop_length=_HOP)) ** 2
    bands = _filters() @ power
    level = np.log(bands + 1e-6 * bands.max() + 1e-12)
    moving = level - ndimage.uniform_filter1d(level, 13, axis=1, mode="nearest")
    edges = np.diff(moving, axis=0)
    frames = edges / np.sqrt((edges**2).sum(axis=0) + 1.0)
    head = np.zeros((_HEAD, _BANDS - 1))
    return np.concatenate([head, frames.T]).astype(np.float16)


def group(fingerprints: Sequence[np.ndarray], *, same_audio: float = SAME_AUDIO) -> Groups:
    """Group clips whose fingerprints share audio or sound alike."""
    n = len(fingerprints)
    pairs = _same_audio([f[_HEAD:] for f in fingerprints], same_audio) if n > 1 else ()
    ends = np.array([(p.first, p.second) for p in pairs], int).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(n, n))
    labels = connected_components(graph, directed=False)[1] if n else np.zeros(0, int)
    return Groups(tuple(map(int, labels)), tuple(pairs), tuple(1.0 for _ in set(labels)))


def _same_audio(frames: Sequence[np.ndarray], threshold: float) -> tuple[Link, ...]:
    lengths = np.array([len(f) for f in frames])
    n, size = len(frames), fft.next_fast_len(int(2 * lengths.max()), real=True)
    padded = np.zeros((n, size, _BANDS - 1), np.float32)
    for i, clip in enumerate(frames):
        padded[i, : len(clip)] = clip
    spectra = np.ascontiguousarray(fft.rfft(padded, axis=1).transpose(1, 0, 2))
    lag = fft.fftfreq(size, 1 / size)
    links = []
    for row in range(n - 1):
        product = np.einsum("fd,fnd->nf", spectra[:, row], spectra[:, row + 1 :].conj())
        total = fft.irfft(product, size, axis=1)
        overlap = np.minimum(lengths[row], lengths[row + 1 :, None] + lag) - np.maximum(lag, 0)
        score = np.where(overlap / _FPS >= _MIN_OVERLAP, total / np.maximum(overlap, 1), -1)
        best = score.argmax(axis=1)
        for k in np.flatnonzero(score[np.arange(len(best)), best] >= threshold):
            value = float(min(1, score[k, best[k]]))
            links.append(Link(row, row + 1 + int(k), value, "same audio", float(lag[best[k]] / _FPS)))
    return tuple(links)
