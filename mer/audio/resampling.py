"""Changes the sample rate. Memory stays bounded for every pair of rates, also without a common divisor.

"soxr" is libsoxr at high quality. "sinc" is windowed sinc interpolation (Smith, "Digital Audio Resampling",
1984). It equals torchaudio's default `Resample` up to rounding, and is used by checkpoints and runs that
predate the setting.
"""

import math
from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
import soxr
import torch
import torch.nn.functional as F

from mer.audio.signal import Band
from mer.audio.waveforms import as_rate, as_samples
from mer.config.sections import AudioConfig
from mer.utils.parallel import one_thread

__all__ = ["resample"]

QUALITY = "HQ"  # VHQ takes 1.4 times as long and differs by less than one step of 16 bits
# torchaudio's defaults
ZEROS = 6  # zero crossings on each side of the filter
ROLLOFF = 0.99  # cutoff as a share of the lower Nyquist frequency
ROWS = 16  # phases that are filtered together
AT_ONCE = 2**25  # samples per block, of input or output, whichever is longer
KEPT = 2**20  # filter banks with more coefficients are not cached


def resample(waveform: np.ndarray, *, rate: int, audio: AudioConfig, checked: bool = False) -> np.ndarray:
    """Resample a waveform to the sample rate of the settings.

    Parameters
    ----------
    waveform
        Samples at `rate`; see `mer.audio.waveforms.as_samples`.
    rate
        Sample rate of the waveform, Hz, a whole number from 1000 to 768,000.
    audio
        Settings, of which `sample_rate` and `resampler` are used.
    checked
        True if `as_samples` has already been called.

    Returns
    -------
    np.ndarray
        float32 of shape (samples * sample_rate / rate,), rounded. `waveform` itself if the rates are equal.

    Raises
    ------
    AudioError, ConfigError
        If the waveform or the rate cannot be used.

    References
    ----------
    R. Sykes, "The SoX Resampler library", https://sourceforge.net/projects/soxr/.
    J. O. Smith, "Digital Audio Resampling", 1984.

    """
    if not checked:
        waveform, rate = as_samples(waveform), as_rate(rate, "rate")
    target = audio.sample_rate
    if rate == target:
        return waveform
    if audio.resampler == "soxr":
        return soxr.resample(waveform, rate, target, quality=QUALITY)
    common = math.gcd(rate, target)
    return _sinc(waveform, rate // common, target // common)


def _sinc(waveform: np.ndarray, step: int, phases: int) -> np.ndarray:
    """Make `phases` samples from each frame of `step` samples, in blocks."""
    reach = _reach(step, phases)
    filters = _kept(step, phases) if phases * (2 * reach) + ROWS * step <= KEPT else None
    frames, margin = len(waveform) // step + 1, math.ceil(reach) + 1
    made = np.empty(-(-phases * len(waveform) // step), np.float32)
    at_once = max(1, AT_ONCE // max(step, phases))
    for first in range(0, frames, at_once):
        count = min(at_once, frames - first)
        part = _cut(waveform, first * step - margin, (first + count) * step + margin)
        bands = filters or _bands(step, phases)
        place = first * phases
        found = _filtered(part, bands, count, step, margin)
        made[place : place + len(found)] = found[: len(made) - place]
    return made


def _reach(step: int, phases: int) -> float:
    """Half the length of a filter, in samples of the waveform."""
    return ZEROS * step / (ROLLOFF * min(step, phases))


def _cut(waveform: np.ndarray, begin: int, end: int) -> torch.Tensor:
    """Samples `begin` to `end` of the waveform, with zeros outside it."""
    inside = waveform[max(begin, 0) : end]
    return torch.from_numpy(np.pad(inside, (max(-begin, 0), max(0, end - max(begin, 0) - len(inside)))))


def _filtered(part: torch.Tensor, bands: Iterable[Band], count: int, step: int, margin: int) -> np.ndarray:
    """Apply the filters to `count` frames of a part, of which the first begins at `margin`."""
    found = []
    with torch.inference_mode(), one_thread():
        for first, taps in bands:
            begin, width = margin + first, taps.shape[1]
            if width <= step:  # for wider filters BLAS would copy the overlapping frames
                frames = part.as_strided((count, width), (step, 1), begin)
                found.append(frames @ taps.T)
            else:
                sound = part[None, begin : begin + (count - 1) * step + width]
                found.append(F.conv1d(sound, taps[:, None], stride=step).T)
        return torch.cat(found, dim=1).flatten().numpy()


@lru_cache(maxsize=8)
def _kept(step: int, phases: int) -> tuple[Band, ...]:
    return tuple(_bands(step, phases))


def _bands(step: int, phases: int) -> Iterator[Band]:
    """The filters of all phases as (first sample, coefficients (up to 16 phases, samples))."""
    reach = _reach(step, phases)
    for begin in range(0, phases, ROWS):
        phase = np.arange(begin, min(begin + ROWS, phases), dtype=np.float32)
        centres = (phase / np.float32(phases)).astype(float) * step  # float32 first, as in torchaudio
        samples = np.arange(math.ceil(centres[0] - reach), math.floor(centres[-1] + reach) + 1)
        away = np.clip((samples - centres[:, None]) / reach * ZEROS, -ZEROS, ZEROS)
        taps = np.sinc(away) * np.cos(away * np.pi / (2 * ZEROS)) ** 2 * (ZEROS / reach)
        yield int(samples[0]), torch.from_numpy(taps.astype(np.float32))
