"""A clip's sound in some hundred numbers, for classical methods: mel bands, MFCC, chroma and onsets.

What genre and emotion were told by before networks (Tzanetakis and Cook, "Musical genre classification of
audio signals", IEEE Trans. Speech Audio Process., 2002; Yang and Chen, "Machine recognition of music emotion:
a review", ACM TIST, 2012). librosa computes all of it from one spectrum, but for the onsets.
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

_SETTINGS = {"version": VERSION, "descriptors": 1}  # raise it when the numbers change
RATE = 22_050  # Hz, whatever the network hears

_N_FFT = 2048
_HOP = 512
LONGEST = 120.0  # s of a clip that count
_BANDS, _CEPSTRA, _CHROMA = 40, 20, 12
_AROUND, _ABOVE = 4, 0.07  # frames to both sides of an onset, and how far it stands out of them
SIZE = 2 * (_BANDS + 3 * _CEPSTRA + _CHROMA) + 5


def descriptors(waveform: np.ndarray) -> np.ndarray:
    """Statistics of a mono waveform (samples,) at 22,050 Hz, of which the first 120 s count: float32 (229,).

    Mean and standard deviation over time of 40 mel bands in dB, of 20 MFCC with their first and second
    derivatives, and of 12 chroma; then mean, deviation and largest value of the onset strength, onsets a
    second, and the tempo in octaves above 60 a minute. Finite for any waveform of 0.5 s or more, silence too.
    Raises AudioError for a shorter one, or what `mer.audio.waveforms.as_samples` refuses.
    """
    import librosa  # takes a second
    from threadpoolctl import threadpool_limits

    wave = as_samples(waveform, least=round(MIN_SECONDS * RATE))[: int(LONGEST * RATE)]
    with threadpool_limits(1, "blas"):  # on products this small, threads only wait for one another
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
    """Onsets and tempo of mel bands in dB (bands, frames)."""
    import librosa

    strength = librosa.onset.onset_strength(S=level, sr=RATE, hop_length=_HOP)
    (tempo,) = librosa.feature.tempo(onset_envelope=strength, sr=RATE, hop_length=_HOP)
    onsets = count_onsets(strength)
    return [strength.mean(), strength.std(), strength.max(), onsets / seconds, np.log2(tempo / 60)]


def count_onsets(strength: np.ndarray) -> int:
    """Number of onsets in an onset strength (frames,) at 43 frames a second.

    The rules of Boeck, Krebs and Schedl, "Evaluating the online capabilities of onset detection methods",
    ISMIR, 2012: on the scale from the least to the greatest strength, an onset is no lower than the frame
    before, 0.07 above the mean of 100 ms to both sides, and not next to another. The count is that of
    librosa's `onset_detect`, which may end the process: numba keeps what it compiled for it in files that
    two processes, the first to want it, can leave unfit for each other (numba issue 10128).
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
    """Under which descriptors of a run with these settings are kept; of them only `resampler` counts."""
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
    """Descriptors of clips, given as path and hash of the file: float32 (clips, 229).

    What the store has is taken from there; the rest is worked out by processes and kept. Raises AudioError
    if a clip cannot be read any more. With a `control`, those of what stands in for it. Of
    `audio` only `resampler` counts.
    """
    shelf = Shelf.of(store.root / "descriptors", settings(audio))
    found = [_kept(shelf.path(entry(control, file_hash))) for _, file_hash in clips]
    missing = [clip for clip, row in zip(clips, found, strict=True) if row is None]
    make = partial(_make, store, shelf, audio.replace(sample_rate=RATE), control)
    made = iter(process_map(make, missing, workers=workers, progress=progress))
    shelf.mark_used()
    return np.stack([next(made) if row is None else row for row in found])


def undescribed(
    store: FeatureStore, hashes: Sequence[str], *, audio: AudioConfig, control: str = "none"
) -> list[bool]:
    """Of each file, by its hash, whether there are no descriptors yet; damage is not looked for."""
    shelf = Shelf.of(store.root / "descriptors", settings(audio))
    return [not shelf.path(entry(control, file_hash)).exists() for file_hash in hashes]


def _kept(place: Path) -> np.ndarray | None:
    """Descriptors, if they are there and whole."""
    try:
        found = read_array(place)
    except (OSError, ValueError):
        return None
    return found if found.shape == (SIZE,) else None


def _make(
    store: FeatureStore, shelf: Shelf, audio: AudioConfig, control: str, clip: tuple[Path, str]
) -> np.ndarray:
    """Work out and keep the descriptors of one clip, unless another process has done it meanwhile."""
    path, file_hash = clip
    place = shelf.path(entry(control, file_hash))
    with store.lock(f"descriptors-{file_hash[:2]}"):
        found = _kept(place)
        if found is None:
            wave = load(path, audio)
            found = descriptors(stand_in(control, wave, file_hash))
            write_array(place, found)
    return found
