"""Warns about sound for which a predicted emotion cannot be trusted, such as silence or noise.

Levels are in dBFS: 0 is a full-scale sample. The thresholds were set on 400 excerpts of 10 s of the music
of Emotify (Aljanabi, Wiering & Veltkamp, 2016) and on synthetic noise; `remarks` gives the rates.
"""

import numpy as np

from mer.audio.waveforms import as_rate, as_samples

__all__ = ["remarks"]

LEAST_SECONDS = 1.0  # about half a bar; less holds neither harmony nor rhythm
FRAME_SECONDS = 0.05
SILENCE_DBFS = -60.0  # noise floor of a recording of fair quality
MOST_SILENCE = 0.8  # share of frames; at most 0.43 in the 400 excerpts
QUIET_DBFS = -40.0  # peak level; at least -28 in the 400 excerpts
FULL_SCALE = 0.99  # below 1, because resampling lowers clipped peaks a little
MOST_CLIPPED = 0.01  # share of samples; at most 0.0003 in the 400 excerpts, 0.015 if clipped by 6 dB

# Noise. In a narrow band of Gaussian noise of any colour, the powers of the spectrum's bins are exponentially
# distributed. Their flatness (geometric mean divided by arithmetic mean) is 0.56, and slightly more over few
# bins. Tones lower it towards 0 and beats raise it towards 1. Noise has it at all times and in all bands.
SPECTRUM_SECONDS = 0.256  # 4 Hz between bins, which separates the partials of a low voice
BAND_HERTZ = 125.0  # 32 bins: enough to measure flatness, and narrow enough that coloured noise is level
LOWEST, HIGHEST = 100.0, 3500.0  # Hz, the range of melody; above it music resembles noise
LEAST_FLATNESS_THEN = 0.53  # 10th percentile over time; noise has 0.53 to 0.60, the median excerpt 0.25
LEAST_FLATNESS_THERE = 0.51  # 10th percentile over bands
MOST_FLATNESS = 0.61  # mean; drums have more
AUDIBLE = 1e-4  # of the loudest spectrum's power; a spectrum with less is a pause

STEADY_SECONDS = 2.0  # music may hold a chord for a shorter time
STEADY_DB = 1.4  # standard deviation of band levels over time; noise at most 1.15, 2 s of music at least 1.7
MOST_SPECTRA = 512  # about a minute of sound; longer clips are sampled


def remarks(waveform: np.ndarray, *, sample_rate: int, checked: bool = False) -> tuple[str, ...]:
    """Warn about sound that is unlike music or badly recorded.

    The warnings are for sound that is shorter than 1 s, over 80% silent, below -40 dBFS, clipped in over 1%
    of its samples, like noise, or steady like a hum. At 16 kHz, false warnings of noise or steadiness occur
    for 1 of the 400 excerpts (3 if cut to 2 s), 2 of the other 496, and none of 100 demo clips. All test
    noises of 2 to 10 s are found: white, pink, brown, band-limited, like a crowd, or mixed with mains hum.

    Parameters
    ----------
    waveform
        Samples; see `mer.audio.waveforms.as_samples`. May be empty.
    sample_rate
        Samples per second, Hz.
    checked
        True if `as_samples` has already been called.

    Returns
    -------
    tuple[str, ...]
        Plain sentences; none if there is nothing to warn about.

    Raises
    ------
    AudioError, ConfigError
        If the waveform or the rate cannot be used.
    """
    if not checked:
        waveform, sample_rate = as_samples(waveform, least=0), as_rate(sample_rate)
    seconds = len(waveform) / sample_rate
    if seconds < LEAST_SECONDS:
        return (f"It is {seconds:.1f} s long, too short to tell music by.", *_levels(waveform, sample_rate))
    return (*_levels(waveform, sample_rate), *_noise(waveform, sample_rate))


def _levels(waveform: np.ndarray, sample_rate: int) -> list[str]:
    """Remarks on silence, loudness and clipping."""
    size = min(len(waveform), round(FRAME_SECONDS * sample_rate))
    if size == 0:
        return []
    frames = waveform[: len(waveform) // size * size].reshape(-1, size)
    quiet = np.mean(np.square(frames).mean(axis=1) < 10 ** (SILENCE_DBFS / 10))
    level = np.abs(waveform)
    peak = 20 * np.log10(max(float(level.max()), 1e-10))
    clipped = np.mean(level >= FULL_SCALE)
    found = []
    if quiet > MOST_SILENCE:
        found.append(f"{quiet:.0%} of it is silence.")
    if peak < QUIET_DBFS:
        found.append(f"It is very quiet: its peak is {peak:.0f} dBFS.")
    if clipped > MOST_CLIPPED:
        found.append(f"It is clipped: {clipped:.0%} of its samples are stuck at full scale.")
    return found


def _noise(waveform: np.ndarray, sample_rate: int) -> list[str]:
    """Remarks on sound that is like noise or steady; none on silence."""
    if not waveform.any():
        return []
    power = _spectra(waveform, sample_rate)
    flatness = np.exp(np.log(power).mean(axis=2)) / power.mean(axis=2)
    then, there = (np.percentile(flatness.mean(axis=axis), 10) for axis in (1, 0))
    if then >= LEAST_FLATNESS_THEN and there >= LEAST_FLATNESS_THERE and flatness.mean() <= MOST_FLATNESS:
        return ["It sounds like noise rather than music."]
    bands = power.mean(axis=2)
    spread = np.average(10 * np.log10(bands).std(axis=0), weights=np.sqrt(bands.mean(axis=0)))
    if len(waveform) >= STEADY_SECONDS * sample_rate and spread < STEADY_DB:
        return ["It hardly changes: a steady tone, hum or noise rather than music."]
    return []


def _spectra(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """Power spectra of the audible moments, of shape (moments, bands, bins)."""
    size = round(SPECTRUM_SECONDS * sample_rate)
    frames = np.lib.stride_tricks.sliding_window_view(waveform, size)[:: size // 2]
    frames = frames[:: -(-len(frames) // MOST_SPECTRA)] * np.hanning(size).astype(np.float32)
    spectrum = np.fft.rfft(frames, axis=1)
    power = spectrum.real**2 + spectrum.imag**2
    total = power.sum(axis=1)
    bins = round(BAND_HERTZ * SPECTRUM_SECONDS)
    first = round(LOWEST * SPECTRUM_SECONDS)
    bands = int((min(HIGHEST, 0.45 * sample_rate) - LOWEST) / BAND_HERTZ)
    heard = power[total >= AUDIBLE * total.max(), first : first + bands * bins]
    return heard.reshape(len(heard), bands, bins) + 1e-20  # keeps logarithms finite
