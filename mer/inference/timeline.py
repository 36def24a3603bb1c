"""Emotion over time at a fixed rate, for alignment with other signals such as EEG, fMRI or ratings.

The time of a value is the middle of its window: the value describes the sound from half a window before to
half a window after. Near the ends of the sound, where no whole window fits, there are no values.
"""

import math
from collections.abc import Iterator
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from mer.audio.decode import Source, load
from mer.audio.waveforms import as_number, as_source
from mer.utils.csv import as_csv
from mer.utils.errors import AudioError
from mer.utils.files import as_path, write_atomic

if TYPE_CHECKING:
    from mer.inference.predictor import Listener

__all__ = ["MAX_RATE", "timeline", "write_timeline"]

MAX_RATE = 10.0  # values per second; closer windows would be almost identical


def timeline(predictor: "Listener", source: Source, *, rate: float) -> Iterator[dict[str, Any]]:
    """Predict windows at a fixed rate. Nothing is computed or raised before the first row is requested.

    Parameters
    ----------
    predictor
        A loaded checkpoint.
    source
        Path of an audio file, or its bytes.
    rate
        Values per second, from one per window to 10.

    Yields
    ------
    dict
        `time`, `start` and `end` of the window in seconds, `emotion`, and `p_<class>` for each class. For an
        ensemble whose windows differ in length, `start` and `end` are those of the longest.

    Raises
    ------
    ConfigError
        If `rate` is out of range.
    AudioError
        If the file cannot be used or is shorter than a window.
    """
    audio = predictor.card.config.audio
    spans = [network.card.config.audio.window_seconds for network in predictor.networks]
    longest, hertz = max(spans), audio.sample_rate
    rate = as_number(rate, "rate", low=1 / longest, high=MAX_RATE, unit=" a second")
    source = as_source(source)
    waveform = load(source, audio)
    seconds = len(waveform) / hertz
    if seconds < longest:
        name = "clip" if isinstance(source, bytes) else str(source)
        raise AudioError(f"{name}: {seconds:.1f} s, shorter than the model's window of {longest:g} s")
    count = math.floor((seconds - longest) * rate + 1e-6) + 1
    times = [longest / 2 + number / rate for number in range(count)]
    courses = [  # each start is rounded from its own time, so rounding errors do not add up
        network.windows(waveform, [round((time - span / 2) * hertz) for time in times])
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


def write_timeline(predictor: "Listener", source: Source, out: str | PathLike, *, rate: float) -> int:
    """Write the rows of `timeline` as a CSV file, and return their number.

    Parameters
    ----------
    predictor, source, rate
        See `timeline`.
    out
        The file. It is written whole or not at all.

    Raises
    ------
    ConfigError, AudioError
        See `timeline`.
    StorageError
        If the file cannot be written.
    """
    out = as_path(out, "out")
    rows = list(timeline(predictor, source, rate=rate))
    write_atomic(out, as_csv(rows))
    return len(rows)
