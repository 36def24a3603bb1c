"""Find clips that are excerpts of one song, from their sound alone.

There are two kinds of evidence. Both come from one power spectrum (librosa's STFT, mel and constant-Q
frequencies).

"same audio": two clips contain the same part of a recording. The feature is the log-level difference between
neighbouring bands of 32 mel bands, relative to the half second around it. It is correlated between all pairs
of clips at all lags. It is close to the band-energy differences of Haitsma and Kalker, "A Highly Robust Audio
Fingerprinting System" (ISMIR 2002), but real-valued. Gain has no effect on it.

"sounds alike": two clips have similar pitches, rhythm and timbre, as excerpts of one song do. The score is
the sum of three cosine similarities, relative to each clip's similarity to all others (symmetric score
normalisation, as in speaker verification). Average linkage over the scores prevents a chain of chance
similarities from joining the whole data set.

Figures below were measured by benchmarks/similarity.py on Emotify: 896 ten-second clips of 300 songs,
divided by song into two halves, in four divisions (seeds 1 to 4). Ranges are over all eight halves. These are
not independent tests: features, weights and thresholds were chosen after seeing both halves. The clips of one
song come from one file with one encoding, so recall is optimistic; other data may differ in level,
codec or mix. Four pairs of songs that align at one offset were counted as one recording. "Same audio"
tolerates MP3, Ogg Vorbis, resampling, gain and noise at 20 dB, but not a change of speed or key.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import librosa
import numpy as np
from scipy import fft, ndimage
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree
from scipy.spatial.distance import squareform
from threadpoolctl import threadpool_limits

from mer.utils.errors import AudioError, DataError

__all__ = ["SAME_AUDIO", "SOUNDS_ALIKE", "Groups", "Link", "fingerprint", "group"]

SAME_AUDIO = 0.4
"""Lowest correlation for the evidence "same audio", 0 to 1.

The clips must overlap by at least 1.2 s; the correlation is reduced if they overlap by less than 3 s.

Excerpts of 6 to 8 s that share 20 to 80 %, one of them degraded: recall 0.986 to 0.996, and the offset is
nearly always right within 0.1 s. Of about 400,000 pairs of excerpts of different songs in one half of the
data, 0 or 1 is linked (below 3e-6). If the half contains the electronic songs 228 and 230, 10 or 11 pairs
are linked (3e-5): these songs share loops without a constant offset and may be two mixes. Results are worse
on synthetic music of a few single notes.
"""

SOUNDS_ALIKE = 3.0
"""Lowest score for the evidence "sounds alike" (other excerpts of one song), in standard deviations.

Pairs of clips in one group, with both kinds of evidence, in halves of about 450 clips: precision 0.87 to
0.94, recall 0.75 to 0.85, so up to a quarter of the pairs is missed. Within one genre: precision 0.88 (pop)
to 0.97, recall 0.59 (classical) to 0.82. More clips give more wrong links: with all 896 clips at once, 0.82
of the "sounds alike" links are right. The largest group had 7 clips.
"""

# Confidence of "same audio": two correlations and the confidence at each, interpolated. They are set by hand,
# because there are too few errors to fit. Confidence of "sounds alike": slope and middle of a logistic curve
# over the score, medians of fits to one half in ten divisions. On the other halves, links with mean
# confidence 0.66, 0.76, 0.85, 0.94, 0.99 were right in 0.70, 0.70, 0.84, 0.94, 0.99 of cases.
_SAME_AUDIO_CONFIDENCE = ((0.4, 0.6), (0.9, 1.0))
_ALIKE_CONFIDENCE = (2.2, 2.78)

_RATE = 16_000  # Hz
_N_FFT = 4096
_HOP = 640
_FPS = _RATE / _HOP  # 25 frames per second
_LONGEST = 30.0  # s of a clip that are used
_SHORTEST = 0.5  # s, the shortest clip accepted
_MIN_OVERLAP = 23  # frames, 1.2 s, that two excerpts must share
_FULL_OVERLAP = 69  # frames, 3 s; a shorter overlap scales the correlation by sqrt(overlap / _FULL_OVERLAP)
_MIN_PROFILE = 3.0  # s; a shorter clip has no profile
_BANDS = 32
_COLUMNS = _BANDS - 1  # columns of a fingerprint
_PROFILE_ROWS = 18  # rows of a fingerprint that hold the profile; the others are frames
_WEIGHTS = (0.43, 0.32, 0.25)  # pitch, rhythm, timbre
_COHORT = (0.031, 0.128, 30)  # usual similarity of two songs: mean, deviation, weight in clips
_TOP = 20.0  # limit of scores, above any measured
_CELLS = 2**23  # lags x pairs held in memory at once


@dataclass(frozen=True, slots=True)
class Link:
    """Two clips that seem to be of one song.

    Parameters
    ----------
    first, second
        Indices of the clips, `first` < `second`.
    similarity
        For "same audio", the discounted correlation, SAME_AUDIO to 1. For "sounds alike", the score: standard
        deviations above the usual similarity of two songs of this data set.
    evidence
        "same audio" or "sounds alike".
    confidence
        Estimated probability that the link is right, 0 to 1.
    offset
        For "same audio", seconds: time t in `second` is time t + offset in `first`. Else None.
    """

    first: int
    second: int
    similarity: float
    evidence: str
    confidence: float
    offset: float | None = None


@dataclass(frozen=True, slots=True)
class Groups:
    """Clips grouped by song.

    Parameters
    ----------
    labels
        The group of each clip, numbered from 0 by first appearance.
    pairs
        The links that join the clips.
    confidence
        For each group, the confidence of the weakest link that holds it together, 0 to 1. A group of one
        clip has 1. It says nothing about missed links.
    """

    labels: tuple[int, ...]
    pairs: tuple[Link, ...]
    confidence: tuple[float, ...]


def fingerprint(waveform: np.ndarray, rate: int = _RATE) -> np.ndarray:
    """Compute the fingerprint of one clip, which `group` compares.

    It is deterministic. For 10 s of audio it takes 6 ms and 16 kB.

    Parameters
    ----------
    waveform
        Mono audio of shape (samples,), at least 0.5 s long. Only the first 30 s are used.
    rate
        Sample rate in Hz.

    Returns
    -------
    np.ndarray
        float16 of shape (18 + frames, 31), with 25 frames per second. The first 18 rows hold the profile.

    Raises
    ------
    AudioError
        If the waveform is not mono or is too short.
    """
    audio = np.asarray(waveform, np.float32)
    if audio.ndim != 1 or audio.size < _SHORTEST * rate:
        raise AudioError(
            f"waveform of shape {audio.shape} at {rate} Hz: give one channel of {_SHORTEST} s or more"
        )
    audio = audio[: int(_LONGEST * rate)]
    if rate != _RATE:
        audio = librosa.resample(audio, orig_sr=rate, target_sr=_RATE)
    power = np.abs(librosa.stft(audio, n_fft=_N_FFT, hop_length=_HOP, center=False)) ** 2
    coarse, fine, _ = _filters()
    level = _log(coarse @ power)
    frames = _frames(level)
    varies = (frames**2).sum(axis=1).mean() > 0.5
    parts = np.zeros(_PROFILE_ROWS * _COLUMNS, np.float32)
    if varies and len(frames) >= _MIN_PROFILE * _FPS:
        profile = _profile(power, level, _log(fine @ power))
        parts[: len(profile)] = profile
    return np.concatenate([parts.reshape(_PROFILE_ROWS, _COLUMNS), frames]).astype(np.float16)


@lru_cache(maxsize=1)
def _filters() -> tuple[csr_array, csr_array, np.ndarray]:
    """32 and 64 mel bands, sparse (bands, bins); 214 pitches, 36 per octave, as fractional bin numbers."""
    coarse = librosa.filters.mel(sr=_RATE, n_fft=_N_FFT, n_mels=_BANDS, fmin=150, fmax=5000)
    fine = librosa.filters.mel(sr=_RATE, n_fft=_N_FFT, n_mels=2 * _BANDS, fmin=50)
    steps = librosa.cqt_frequencies(214, fmin=65, bins_per_octave=36)
    return csr_array(coarse), csr_array(fine), steps * _N_FFT / _RATE


def _log(power: np.ndarray) -> np.ndarray:
    """Natural logarithm of `power`, with a floor 60 dB below its maximum."""
    return np.log(power + 1e-6 * power.max() + 1e-12)


def _frames(level: np.ndarray) -> np.ndarray:
    """Level differences of neighbouring bands, relative to the half second around: (frames, 31), RMS <= 1."""
    moving = level - ndimage.uniform_filter1d(level, 13, axis=1, mode="nearest")
    edges = np.diff(moving, axis=0).T
    frames = edges / np.sqrt((edges**2).sum(axis=1, keepdims=True) + 0.25)
    return frames / max(np.sqrt((frames**2).sum(axis=1).mean()), 0.3)


def _profile(power: np.ndarray, level: np.ndarray, fine: np.ndarray) -> np.ndarray:
    """Pitch, rhythm and timbre as one vector. The dot product of two is their weighted cosine similarity."""
    pitch = np.interp(_filters()[2], np.arange(len(power)), _log(power.mean(axis=1)))
    pitch -= ndimage.uniform_filter1d(pitch, 19, mode="nearest")
    onsets = np.maximum(np.diff(level, axis=1), 0)
    onsets = (onsets - onsets.mean(axis=1, keepdims=True)).reshape(4, _BANDS // 4, -1).mean(axis=1)
    echo = fft.irfft(np.abs(fft.rfft(onsets, 2048, axis=1)) ** 2, axis=1)
    rhythm = echo[:, 5:75] / (echo[:, :1] + 1e-9)
    timbre = np.diff(fine.mean(axis=1))
    parts = []
    for part, weight in zip((pitch, rhythm.ravel(), timbre), _WEIGHTS, strict=True):
        centred = part - part.mean()
        parts.append(centred * np.sqrt(weight) / (np.linalg.norm(centred) + 1e-9))
    return np.concatenate(parts)


def group(
    fingerprints: Sequence[np.ndarray], *, same_audio: float = SAME_AUDIO, sounds_alike: float = SOUNDS_ALIKE
) -> Groups:
    """Group clips whose fingerprints share audio or sound alike.

    The groups do not depend on the order of the clips. Silent, nearly constant and very short clips (below
    1.2 s for "same audio", 3 s for "sounds alike") are not linked. Time grows with the square of the number
    of clips: 500 clips of 10 to 22 s take 2 s on one core, 2,000 about 30 s.

    Parameters
    ----------
    fingerprints
        One array per clip, as `fingerprint` returns it.
    same_audio
        Lowest correlation that links two clips, 0 to 1.
    sounds_alike
        Lowest score that links two clips, in standard deviations; infinity for none.

    Raises
    ------
    DataError
        If an array is not a fingerprint.
    """
    n = len(fingerprints)
    for found in fingerprints:
        if found.ndim != 2 or found.shape[0] <= _PROFILE_ROWS or found.shape[1] != _COLUMNS:
            raise DataError(f"array of shape {found.shape} is not a fingerprint: make it with fingerprint()")
    if n < 2:
        return Groups((0,) * n, (), (1.0,) * n)
    with threadpool_limits(1, "blas"):  # more threads slow down such small products
        same = list(_same_audio([f[_PROFILE_ROWS:] for f in fingerprints], same_audio))
        score = _scores(np.stack([f[:_PROFILE_ROWS].ravel() for f in fingerprints]).astype(np.float32))
    pairs = sorted(same + _sounds_alike(score, same, sounds_alike), key=lambda p: (p.first, p.second))
    return _components(n, tuple(pairs))


def _same_audio(clips: Sequence[np.ndarray], threshold: float) -> Iterator[Link]:
    """Correlate all pairs of clips, each (frames, 31), at all lags.

    The offset is the lag with the highest correlation before the reduction for short overlaps.
    """
    lengths = np.array([len(clip) for clip in clips], np.float32)
    n, size = len(clips), fft.next_fast_len(int(2 * lengths.max()), real=True)
    spectra = np.empty((size // 2 + 1, n, _COLUMNS), np.complex64)
    for i, clip in enumerate(clips):
        spectra[:, i] = fft.rfft(clip.astype(np.float32), size, axis=0)
    conjugate = np.ascontiguousarray(spectra.conj().transpose(0, 2, 1))
    lag = (fft.fftfreq(size) * size).round().astype(np.float32)[:, None, None]
    step = max(1, _CELLS // (size * n))
    for start in range(0, n, step):
        rows = slice(start, min(n, start + step))
        total = fft.irfft(spectra[:, rows] @ conjugate[:, :, start:], size, axis=0, overwrite_x=True)
        overlap = np.minimum(lengths[rows, None], lengths[start:] + lag) - np.maximum(lag, 0)
        trust = np.sqrt(np.clip(overlap / _FULL_OVERLAP, _MIN_OVERLAP / _FULL_OVERLAP, 1))
        total *= np.where(overlap >= _MIN_OVERLAP, trust / np.maximum(overlap, 1), 0)
        best = total.max(axis=0)
        for i, j in np.argwhere(np.triu(best >= threshold, k=1)):
            where = lag[(total[:, i, j] / trust[:, i, j]).argmax(), 0, 0] / _FPS
            value = float(min(1.0, best[i, j]))
            sure = float(np.interp(value, *_SAME_AUDIO_CONFIDENCE))
            yield Link(start + int(i), start + int(j), value, "same audio", sure, float(where))


def _scores(profiles: np.ndarray) -> np.ndarray:
    """Score of each pair, (clips, clips): its similarity relative to both clips' similarities to all clips.

    If all songs of a data set sound alike, a link needs a higher similarity. Each clip's mean and standard
    deviation are mixed with fixed values that count as 30 clips, so that scores of few clips are stable.
    """
    similarity = profiles @ profiles.T
    known = np.diag(similarity) > 0.5
    similarity[~known] = similarity[:, ~known] = 0
    np.fill_diagonal(similarity, 0)
    mean, spread, weight = _COHORT
    count = max(int(known.sum()) - 1, 0) + weight
    centre = (similarity.sum(axis=1) + weight * mean) / count
    square = ((similarity**2).sum(axis=1) + weight * (mean**2 + spread**2)) / count
    width = np.sqrt(square - centre**2)
    standard = (similarity - centre[:, None]) / width[:, None]
    score = np.clip((standard + standard.T) / 2, -_TOP, _TOP)
    score[~known] = score[:, ~known] = -_TOP
    return score


def _sounds_alike(score: np.ndarray, same: Sequence[Link], threshold: float) -> list[Link]:
    """Pairs above `threshold`, within clusters whose average score is above it (no chaining)."""
    near = score.copy()
    for link in same:
        near[link.first, link.second] = near[link.second, link.first] = _TOP
    distance = _TOP - near
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(distance, checks=False), "average")
    cluster = fcluster(tree, _TOP - threshold, "distance")
    linked = np.triu((cluster[:, None] == cluster) & (near >= threshold) & (near < _TOP), k=1)
    slope, middle = _ALIKE_CONFIDENCE
    sure = 1 / (1 + np.exp(-slope * (score - middle)))
    return [
        Link(int(i), int(j), float(score[i, j]), "sounds alike", float(sure[i, j]))
        for i, j in np.argwhere(linked)
    ]


def _components(n: int, pairs: tuple[Link, ...]) -> Groups:
    """Groups as connected components of the links.

    A group's confidence is that of the weakest link in its spanning tree with the highest confidence.
    """
    doubt = np.array([2 - p.confidence for p in pairs])
    ends = np.array([(p.first, p.second) for p in pairs], int).reshape(-1, 2)
    graph = coo_array((doubt, (ends[:, 0], ends[:, 1])), shape=(n, n)).tocsr()
    found = connected_components(graph, directed=False)[1]
    _, first, labels = np.unique(found, return_index=True, return_inverse=True)
    labels = np.argsort(np.argsort(first))[labels]
    weakest = np.ones(len(first))
    tree = minimum_spanning_tree(graph).tocoo()
    np.minimum.at(weakest, labels[tree.coords[0]], 2 - tree.data)
    return Groups(tuple(labels.tolist()), pairs, tuple(weakest.tolist()))
