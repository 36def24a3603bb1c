"""Warns about sound for which a predicted emotion cannot be trusted, such as silence or noise.

Levels are in dBFS: 0 is a full-scale sample. The thresholds were set on 400 excerpts of 10 s of the music
of Emotify (Aljanabi, Wiering & Veltkamp, 2016) and on synthetic noise; `remarks` gives the rates.
"""

import numpy as np

from mer.audio.silence import FRAME_SECONDS, ends, pauses, quiet_frames
from mer.audio.waveforms import as_rate, as_samples

__all__ = ["of_music", "of_recording", "remarks"]

LEAST_SECONDS = 1.0  # about half a bar; less holds neither harmony nor rhythm
MOST_SILENCE = 0.8  # share of frames; at most 0.43 in the 400 excerpts
PAUSE = 1.0  # s; music itself has shorter ones
MOST_PAUSES = 0.25  # share of the clip
QUIET_DBFS = -40.0  # peak level; at least -28 in the 400 excerpts

# Clipping leaves runs of equal samples at the highest or lowest level, which may be any.
EQUAL = 1 - 1e-6  # of the level
LEAST_LEVEL = 0.2  # below it, rounding to 16 bits makes the crests of low tones flat too
RUN = 3  # samples
MOST_CLIPPED = 0.01  # share of samples

MOST_DC = 0.1  # power of the constant part, relative to the rest
LEAST_DC = 0.01  # full scale is 1

# A telephone carries 0.3 to 3.4 kHz. Music loses power gradually towards high frequencies, there it stops.
NARROW = 4000.0  # Hz
EDGE_BELOW, EDGE_ABOVE = (2500.0, 3300.0), (4200.0, 5400.0)  # Hz
LEAST_EDGE = 1e4  # of mean power, 40 dB
LEAST_BELOW = 1e-6  # of the strongest bin; with less there is nothing that could stop
EDGE_SECONDS = 0.064

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
    """Warn about sound that is unlike music (`of_music`) or badly recorded (`of_recording`).

    At 16 kHz, false warnings of noise or steadiness occur
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
    return (*of_music(waveform, sample_rate), *of_recording(waveform, sample_rate, used=sample_rate))


def of_music(waveform: np.ndarray, rate: int) -> tuple[str, ...]:
    """Warn about a waveform that is unlike music. It is not checked; see `remarks`.

    It is shorter than 1 s, over 80% silent, over 25% in pauses of a second or more, below -40 dBFS, like
    noise, or steady like a hum.
    """
    seconds = len(waveform) / rate
    if seconds < LEAST_SECONDS:
        return (f"It is {seconds:.1f} s long, too short to tell music by.", *_levels(waveform, rate))
    return (*_levels(waveform, rate), *_noise(waveform, rate))


def of_recording(waveform: np.ndarray, rate: int, *, used: int) -> tuple[str, ...]:
    """Warn about a waveform that is badly recorded. It is not checked; see `remarks`.

    Over 1% of its samples are clipped, its constant part (DC) has over 10% of the power of the rest, or its
    sound stops at 4 kHz. `rate` must be that of the file, since resampling hides clipping. `used` is the rate
    that the network uses; at 8 kHz or less it misses nothing.
    """
    if not len(waveform):
        return ()
    clipped, offset = _clipped(waveform), float(waveform.mean(dtype=np.float64))
    found = []
    if clipped > MOST_CLIPPED:
        found.append(f"It is clipped: {clipped:.0%} of its samples are stuck at one level.")
    if abs(offset) > LEAST_DC and offset**2 > MOST_DC * float(waveform.var(dtype=np.float64)):
        found.append(f"It has a constant part (DC) of {offset:.2f}, where 1 is full scale.")
    if used > 2 * NARROW and (rate <= 2 * NARROW or _stops(waveform, rate)):
        found.append(f"It has no sound above {min(rate / 2, NARROW) / 1000:g} kHz, as over a telephone.")
    return tuple(found)


def _clipped(waveform: np.ndarray) -> float:
    """Share of the samples that are in runs at the highest or at the lowest level."""
    total = 0
    for level, reached in ((waveform.max(), np.greater_equal), (waveform.min(), np.less_equal)):
        if abs(level) < LEAST_LEVEL:
            continue
        at = np.flatnonzero(reached(waveform, np.float32(EQUAL) * level))
        starts = np.flatnonzero(np.diff(at, prepend=-2) > 1)
        lengths = np.diff(starts, append=len(at))
        total += int(lengths[lengths >= RUN].sum())
    return total / len(waveform)


def _stops(waveform: np.ndarray, rate: int) -> bool:
    """True if there is sound up to the band of a telephone, and almost none above it."""
    size = round(EDGE_SECONDS * rate)
    if rate < 2 * EDGE_ABOVE[1] or len(waveform) < size:
        return False
    frames = np.lib.stride_tricks.sliding_window_view(waveform, size)[:: size // 2]
    frames = frames[:: -(-len(frames) // MOST_SPECTRA)] * np.hanning(size).astype(np.float32)
    power = np.square(np.abs(np.fft.rfft(frames, axis=1))).mean(axis=0)
    below, above = (
        power[round(low * EDGE_SECONDS) : round(high * EDGE_SECONDS)].mean()
        for low, high in (EDGE_BELOW, EDGE_ABOVE)
    )
    return bool(below > LEAST_BELOW * power.max() and below > LEAST_EDGE * above)


def _levels(waveform: np.ndarray, rate: int) -> list[str]:
    """Remarks on silence and loudness."""
    if not len(waveform):
        return []
    quiet, _ = quiet_frames(waveform, rate)
    peak = 20 * np.log10(max(float(waveform.max()), -float(waveform.min()), 1e-10))
    first, last = (FRAME_SECONDS * count for count in ends(quiet))
    found = []
    if quiet.mean() > MOST_SILENCE:
        found.append(f"{quiet.mean():.0%} of it is silence.")
    elif pauses(quiet, PAUSE) > MOST_PAUSES * len(waveform) / rate:
        found.append(
            f"{quiet.mean():.0%} of it is silence, of which {first:.1f} s at the start and {last:.1f} s at "
            "the end."
        )
    if peak < QUIET_DBFS:
        found.append(f"It is very quiet: its peak is {peak:.0f} dBFS.")
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
