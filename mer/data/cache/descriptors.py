"""Descriptors: 229 statistics of a clip's sound for classical methods (mel bands, MFCC, chroma, rhythm).

Genre and emotion were recognised from such descriptors before neural networks (Tzanetakis and Cook, "Musical
genre classification of audio signals", IEEE Trans. Speech Audio Process., 2002; Yang and Chen, "Machine
recognition of music emotion: a review", ACM TIST, 2012). librosa computes everything from one spectrum,
except the number of onsets.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from mer.audio.decode import load
from mer.audio.waveforms import MIN_SECONDS, as_samples
from mer.config.sections import AudioConfig
from mer.data.cache.arrays import Shelf, read_array, write_array
from mer.data.cache.controls import entry, stand_in
from mer.data.cache.store import VERSION, FeatureStore
from mer.utils.parallel import Progress, process_map

__all__ = ["LONGEST", "RATE", "SIZE", "count_onsets", "describe", "descriptors", "settings", "undescribed"]

_SETTINGS = {"version": VERSION, "descriptors": 1}  # raise "descriptors" when the numbers change
RATE = 22_050  # Hz, independent of the network's sample rate

_N_FFT = 2048
_HOP = 512
LONGEST = 120.0  # s; the rest of a clip is ignored
_BANDS, _CEPSTRA, _CHROMA = 40, 20, 12
_AROUND, _ABOVE = 4, 0.07  # frames on both sides of an onset, and how far it must exceed their mean
SIZE = 2 * (_BANDS + 3 * _CEPSTRA + _CHROMA) + 5


def descriptors(waveform: np.ndarray) -> np.ndarray:
    """Descriptors of a waveform.

    Parameters
    ----------
    waveform
        Mono, shape (samples,), at 22,050 Hz, at least 0.5 s. Only the first 120 s are used.

    Returns
    -------
    np.ndarray
        float32 (229,), always finite, even for silence. First the means, then the standard deviations over
        time of 40 mel bands in dB, 20 MFCC, their first and second derivatives, and 12 chroma. Then mean,
        standard deviation and maximum of the onset strength, onsets per second, and the tempo in octaves
        above 60 beats per minute.

    Raises
    ------
    AudioError
        If the waveform is too short, or `mer.audio.waveforms.as_samples` refuses it.
    """
    import librosa  # takes a second
    from threadpoolctl import threadpool_limits

    wave = as_samples(waveform, least=round(MIN_SECONDS * RATE))[: int(LONGEST * RATE)]
    with threadpool_limits(1, "blas"):  # threads only slow down products this small
        power = np.abs(librosa.stft(wave, n_fft=_N_FFT, hop_length=_HOP)) ** 2
        mel = librosa.feature.melspectrogram(S=power, sr=RATE, n_mels=_BANDS)
        chroma = librosa.feature.chroma_stft(S=power, sr=RATE, n_chroma=_CHROMA, tuning=0.0)
    level = librosa.power_to_db(mel)
    cepstra = librosa.feature.mfcc(S=level, n_mfcc=_CEPSTRA)
    moves = [librosa.feature.delta(cepstra, order=order) for order in (1, 2)]
    series = np.concatenate([level, cepstra, *moves, chroma])
    found = np.concatenate([series.mean(axis=1), series.std(axis=1), _rhythm(level, len(wave) / RATE)])
    return found.astype(np.float32)


def _rhythm(level: np.ndarray, seconds: float) -> list[float]:
    """The last five descriptors, from mel bands in dB (bands, frames) of a clip of that length."""
    import librosa

    strength = librosa.onset.onset_strength(S=level, sr=RATE, hop_length=_HOP)
    (tempo,) = librosa.feature.tempo(onset_envelope=strength, sr=RATE, hop_length=_HOP)
    onsets = count_onsets(strength)
    return [strength.mean(), strength.std(), strength.max(), onsets / seconds, np.log2(tempo / 60)]


def count_onsets(strength: np.ndarray) -> int:
    """Number of onsets.

    Strengths are scaled so that the lowest is 0 and the highest is 1. A frame is an onset if it is not lower
    than the frame before, at least 0.07 above the mean of 100 ms on both sides, and not next to another
    onset.

    The count is that of librosa's `onset_detect`. That function is not used because it can crash the process:
    numba caches its compiled code in files, and two processes that compile it for the first time at once can
    write files that do not fit together (numba issue 10128).

    Parameters
    ----------
    strength
        Onset strength, shape (frames,), at 43 frames per second.

    References
    ----------
    Boeck, Krebs and Schedl, "Evaluating the online capabilities of onset detection methods", ISMIR, 2012.
    """
    scale = np.ptp(strength)
    if not scale:
        return 0
    level = (strength - strength.min()) / scale
    around = sliding_window_view(np.pad(level, _AROUND, constant_values=np.nan), 2 * _AROUND + 1)
    rising = np.diff(level, prepend=level[0]) >= 0
    last, count = -2, 0
    for frame in np.flatnonzero(rising & (level >= np.nanmean(around, axis=1) + _ABOVE)):
        if frame - last > 1:
            last, count = frame, count + 1
    return count


def settings(audio: AudioConfig) -> dict[str, Any]:
    """The settings that identify a shelf of descriptors. They use only `resampler` of `audio`."""
    return _SETTINGS | {name: value for name, value in audio.to_key().items() if name == "resampler"}


def describe(
    store: FeatureStore,
    clips: Sequence[tuple[Path, str]],
    *,
    audio: AudioConfig,
    control: str = "none",
    workers: int | None = None,
    progress: Progress | None = None,
) -> np.ndarray:
    """Descriptors of clips, read from the store, or computed in worker processes and added to it.

    Parameters
    ----------
    store
        The feature store.
    clips
        Path and file hash of each clip.
    audio
        Only `resampler` matters.
    control
        A control of `mer.data.cache.controls`: describe silence or noise in place of the clips.
    workers
        Number of processes. Default: one per core.
    progress
        Called as `progress(done, total)`, with the clips that were not in the store.

    Returns
    -------
    np.ndarray
        float32 (clips, 229).

    Raises
    ------
    AudioError
        If a clip can no longer be read.
    """
    shelf = Shelf.of(store.root / "descriptors", settings(audio))
    found = [_read(shelf.path(entry(control, file_hash))) for _, file_hash in clips]
    missing = [clip for clip, row in zip(clips, found, strict=True) if row is None]
    make = partial(_compute, store, shelf, audio.replace(sample_rate=RATE), control)
    made = iter(process_map(make, missing, workers=workers, progress=progress))
    shelf.mark_used()
    return np.stack([next(made) if row is None else row for row in found])


def undescribed(
    store: FeatureStore, hashes: Sequence[str], *, audio: AudioConfig, control: str = "none"
) -> list[bool]:
    """For each file hash, true if the store has no descriptors yet. Damaged entries are not detected.

    Parameters
    ----------
    store
        The feature store.
    hashes
        File hashes of the clips.
    audio, control
        See `describe`.
    """
    shelf = Shelf.of(store.root / "descriptors", settings(audio))
    return [not shelf.path(entry(control, file_hash)).exists() for file_hash in hashes]


def _read(place: Path) -> np.ndarray | None:
    """The descriptors in a file, or None if it is missing or damaged."""
    try:
        found = read_array(place)
    except (OSError, ValueError):
        return None
    return found if found.shape == (SIZE,) else None


def _compute(
    store: FeatureStore, shelf: Shelf, audio: AudioConfig, control: str, clip: tuple[Path, str]
) -> np.ndarray:
    """Compute and store the descriptors of one clip, unless another process has just done so."""
    path, file_hash = clip
    place = shelf.path(entry(control, file_hash))
    with store.lock(f"descriptors-{file_hash[:2]}"):
        found = _read(place)
        if found is None:
            wave = load(path, audio)
            found = descriptors(stand_in(control, wave, file_hash))
            write_array(place, found)
    return found
