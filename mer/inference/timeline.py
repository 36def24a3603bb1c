"""Emotion over time at a fixed rate, to be aligned with other signals: EEG, fMRI, ratings.

A value belongs to the middle of the window that it was worked out from, and so to what is heard for half a
window before and after. Near the ends of the sound, where no whole window fits, there are no values.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mer.audio.decode import load
from mer.utils.csv import as_csv
from mer.utils.errors import AudioError, ConfigError
from mer.utils.files import write_atomic

if TYPE_CHECKING:
    from mer.inference.predictor import Listener

__all__ = ["MAX_RATE", "timeline", "write_timeline"]

MAX_RATE = 10.0  # values per second; windows that begin closer to each other hear the same


def timeline(predictor: "Listener", source: Path | bytes, *, rate: float) -> Iterator[dict[str, Any]]:
    """Rows {time, start, end, emotion, p_<class> for each class}, `1 / rate` s apart; times in s.

    `rate` is in values per second, at most 10. Raises ConfigError for another, AudioError for a file that
    cannot be used or is shorter than a window.
    """
    audio = predictor.card.config.audio
    spans = [network.card.config.audio.window_seconds for network in predictor.networks]
    longest, hertz = max(spans), audio.sample_rate
    if not (math.isfinite(rate) and 1 / longest <= rate <= MAX_RATE):
        raise ConfigError(f"rate={rate:g} a second is out of range: {1 / longest:g} <= rate <= {MAX_RATE:g}")
    waveform = load(source, audio)
    seconds = len(waveform) / hertz
    if seconds < longest:
        name = str(source) if isinstance(source, Path) else "clip"
        raise AudioError(f"{name}: {seconds:.1f} s, shorter than the model's window of {longest:g} s")
    count = math.floor((seconds - longest) * rate + 1e-6) + 1
    times = [longest / 2 + number / rate for number in range(count)]
    courses = [
        network.windows(waveform, [round((time - span / 2) * hertz) for time in times])  # no drift
        for network, span in zip(predictor.networks, spans, strict=True)
    ]
    for time, *windows in zip(times, *courses, strict=True):
        answers = [np.array([list(window.probabilities.values())]) for window in windows]
        shares = dict(zip(predictor.card.classes, predictor.joined(answers)[0].tolist(), strict=True))
        yield {
            "time": round(time, 6),
            "start": round(time - longest / 2, 6),
            "end": round(time + longest / 2, 6),
            "emotion": max(shares, key=shares.get),
        } | {f"p_{label}": round(share, 6) for label, share in shares.items()}


def write_timeline(predictor: "Listener", source: Path, out: Path, *, rate: float) -> int:
    """Write the rows as CSV, all or nothing; returns their number. Raises StorageError besides."""
    rows = list(timeline(predictor, source, rate=rate))
    write_atomic(out, as_csv(rows))
    return len(rows)
