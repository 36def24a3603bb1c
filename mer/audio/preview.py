"""The steps from a file to what the network sees, one by one, for people to look at."""

from dataclasses import dataclass

import numpy as np
import torch

from mer.audio.decode import Audio, Source, decode, window_starts, windows
from mer.audio.mel import Standardizer, images, log_mel
from mer.audio.resampling import resample
from mer.audio.waveforms import as_whole
from mer.config.sections import AudioConfig, MelConfig

__all__ = ["Steps", "frequency_ticks", "steps"]

MOST_WINDOWS = 10**9  # more than any clip has
TICKS = (125, 250, 500, 1000, 2000, 4000, 8000)  # Hz


def frequency_ticks(hertz: np.ndarray) -> tuple[list[float], list[str]]:
    """Where on an axis of bands, centred at `hertz` and counted from 0, to write which frequency."""
    ticks = [tick for tick in TICKS if hertz[0] <= tick <= 1.03 * hertz[-1]]
    places = np.interp(ticks, hertz, np.arange(len(hertz))).round(2).tolist()
    return places, [f"{tick // 1000}k" if tick >= 1000 else str(tick) for tick in ticks]


@dataclass(frozen=True, slots=True)
class Steps:
    """One window of one clip at each step.

    `raw` is the clip as decoded; `resampled`, shape (samples,), the whole clip at the config's rate;
    `window`, shape (window samples,), starts at `start` seconds and holds `padding` seconds that were
    filled in; `level` is its log-mel, shape (n_mels, frames), in dB; `image`, shape (size, size), the same
    resized; `standardized` is that image as `standardizer` makes it.
    """

    raw: Audio
    resampled: np.ndarray
    window: np.ndarray
    start: float
    padding: float
    n_windows: int
    level: np.ndarray
    image: np.ndarray
    standardizer: Standardizer
    standardized: np.ndarray


def steps(
    source: Source,
    *,
    audio: AudioConfig,
    mel: MelConfig,
    standardizer: Standardizer | None = None,
    window: int = 0,
    name: str | None = None,
) -> Steps:
    """All steps of the window of that number, from 0; the last one if there are fewer.

    Without a `standardizer` the clip's own statistics stand in for those of a training part. Raises
    AudioError, and ConfigError for a number below 0.
    """
    window = as_whole(window, "window", low=0, high=MOST_WINDOWS)
    raw = decode(source, name=name)
    resampled = resample(raw.waveform, rate=raw.rate, audio=audio)
    starts = window_starts(len(resampled), audio)
    number = min(window, len(starts) - 1)
    cut = list(windows(resampled, audio, checked=True))[number]
    pictures = images(resampled, audio=audio, mel=mel, checked=True)
    standardizer = standardizer or Standardizer.fit([pictures])
    picture = pictures[number].astype(np.float32)
    start = starts[number] / audio.sample_rate
    return Steps(
        raw=raw,
        resampled=resampled,
        window=cut,
        start=start,
        padding=max(0.0, audio.window_seconds - len(resampled) / audio.sample_rate),
        n_windows=len(starts),
        level=log_mel(cut, sample_rate=audio.sample_rate, config=mel, checked=True).numpy(),
        image=picture,
        standardizer=standardizer,
        standardized=standardizer(torch.from_numpy(picture)).numpy(),
    )
