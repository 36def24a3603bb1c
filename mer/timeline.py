"""Emotion over time at a fixed rate, to be aligned with other signals: EEG, fMRI, ratings.

A value belongs to the middle of the window that it was worked out from, and so to what is heard for half a
window before and after. Near the ends of the sound, where no whole window fits, there are no values.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mer.audio import load
from mer.errors import AudioError, ConfigError
from mer.files import write_atomic
from mer.tables import as_csv

if TYPE_CHECKING:
    from mer.inference import Predictor

__all__ = ["MAX_RATE", "timeline", "write_timeline"]

MAX_RATE = 10.0  # values per second; windows that begin closer to each other hear the same


def timeline(predictor: "Predictor", source: Path | bytes, *, rate: float) -> Iterator[dict[str, Any]]:
    """Rows {time, start, end, emotion, p_<class> for each class}, `1 / rate` s apart; times in s.

    `rate` is in values per second, at most 10. Raises ConfigError for another, AudioError for a file that
    cannot be used or is shorter than a window.
    """
    audio = predictor.card.config.audio
    longest = audio.window_seconds
    if not (math.isfinite(rate) and 1 / longest <= rate <= MAX_RATE):
        raise ConfigError(f"rate={rate:g} a second is out of range: {1 / longest:g} <= rate <= {MAX_RATE:g}")
    waveform = load(source, audio)
    size, samples = round(longest * audio.sample_rate), len(waveform)
    if samples < size:
        name = str(source) if isinstance(source, Path) else "clip"
        seconds = samples / audio.sample_rate
        raise AudioError(f"{name}: {seconds:.1f} s, shorter than the model's window of {longest:g} s")
    count = math.floor((samples - size) * rate / audio.sample_rate) + 1
    starts = [round(number * audio.sample_rate / rate) for number in range(count)]  # no drift
    for number, window in enumerate(predictor.windows(waveform, starts)):
        shares = {f"p_{label}": round(share, 6) for label, share in window.probabilities.items()}
        yield {
            "time": round(number / rate + longest / 2, 6),
            "start": window.start,
            "end": window.end,
            "emotion": max(window.probabilities, key=window.probabilities.get),
        } | shares


def write_timeline(predictor: "Predictor", source: Path, out: Path, *, rate: float) -> int:
    """Write the rows as CSV, all or nothing; returns their number. Raises StorageError besides."""
    rows = list(timeline(predictor, source, rate=rate))
    write_atomic(out, as_csv(rows))
    return len(rows)
