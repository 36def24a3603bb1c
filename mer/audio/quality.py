"""What can be heard of an input that no prediction of its emotion should be trusted on.

Levels are in dBFS: 0 is a full-scale sample. The thresholds were set on 400 excerpts of 10 s of the music
of Emotify (Aljanabi, Wiering & Veltkamp, 2016) and on synthetic noise; `remarks` gives the rates.
"""

import numpy as np

__all__ = ["remarks"]

LEAST_SECONDS = 1.0  # half a bar or so: no harmony and no rhythm fits into less
FRAME_SECONDS = 0.05
SILENCE_DBFS = -60.0  # the noise floor of a fair recording
MOST_SILENCE = 0.8  # of all frames; the most in the 400 excerpts is 0.43
QUIET_DBFS = -40.0  # of the peak; the quietest of the 400 excerpts peaks at -28
FULL_SCALE = 0.99  # resampling rounds the corners of clipped peaks
MOST_CLIPPED = 0.01  # of all samples; 0.0003 at most in the 400 excerpts, 0.015 if clipped 6 dB too hot

# Noise. In a narrow band of Gaussian noise of any colour, the powers of a spectrum's bins are exponentially
# distributed: their flatness (geometric by arithmetic mean) is 0.56, and a little more over few bins.
# Tones push it towards 0, beats towards 1; noise keeps it at all times and in all bands.
SPECTRUM_SECONDS = 0.256  # 4 Hz between bins: the partials of a low voice lie apart
BAND_HERTZ = 125.0  # 32 bins: enough to tell a flatness, narrow enough for any colour to be level
LOWEST, HIGHEST = 100.0, 3500.0  # Hz: where melody lies; above, music is like noise too
LEAST_FLATNESS_THEN = 0.53  # at 9 in 10 moments; noise has 0.53 to 0.60, the median excerpt 0.25
LEAST_FLATNESS_THERE = 0.51  # in 9 of 10 bands
MOST_FLATNESS = 0.61  # on average; above it is drums
AUDIBLE = 1e-4  # share of the loudest moment's power under which a moment is a pause

STEADY_SECONDS = 2.0  # a chord may well be held for less
STEADY_DB = 1.4  # spread of the bands' levels in time; noise has at most 1.15, 2 s of music at least 1.7
MOST_SPECTRA = 512  # a minute of sound; of longer clips this many moments are looked at


def remarks(waveform: np.ndarray, *, sample_rate: int) -> tuple[str, ...]:
    """Plain sentences on a waveform, float of shape (samples,) in [-1, 1]; none if nothing is amiss.

    It is remarked on if shorter than 1 s, over 80% silent, below -40 dBFS, clipped in over 1% of its
    samples, like noise, or steady like a hum. At `sample_rate` 16 kHz, "noise" and "steady" together are
    said of 1 of those 400 excerpts (3 if only 2 s of each are heard), of 2 of the other 496, and of none
    of 100 demo clips; and of all noises of 2 to 10 s that are white, pink, brown, in a band, like a crowd, or
    mixed with a mains hum.
    """
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
    """Remarks on sound that is no music; none on silence."""
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
    """Power of the audible moments, in bands: (moments, bands, bins)."""
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
    return heard.reshape(len(heard), bands, bins) + 1e-20  # so that silence has a logarithm
