"""Mixes the channels of a clip."""

import numpy as np

from mer.audio.phase import cancels, loudest, powers
from mer.audio.waveforms import scaled

__all__ = ["Mix", "mix"]


def mix(samples: np.ndarray, channel: int | None = None) -> np.ndarray:
    """Mean over the channels, or one of them.

    Parameters
    ----------
    samples
        Shape (frames, channels): floats with full scale at 1, or int8, int16, int32 or uint8.
    channel
        The only channel to use.

    Returns
    -------
    np.ndarray
        float32 of shape (frames,), full scale at 1.
    """
    if channel is not None:
        samples = np.ascontiguousarray(samples[:, channel : channel + 1])
    channels, full_scale = samples.shape[1], 1
    if samples.dtype == np.int16 and channels <= 2:
        full_scale = 32768  # multiplied below, which is faster
    elif samples.dtype != np.float32:
        samples = scaled(samples).astype(np.float32)
    if channels > 2:
        return samples.mean(axis=1)
    wave = samples[:, 0].astype(np.float32, copy=channels > 1)
    if channels == 2:  # `mean` over so short an axis takes ten times as long
        wave += samples[:, 1]
    wave *= np.float32(1 / (channels * full_scale))  # a power of two: exact
    return wave


class Mix:
    """Mixes a clip part by part, and notices whether its channels are in opposite phase.

    Parameters
    ----------
    channel
        The only channel to use. Default: the mean.
    """

    def __init__(self, channel: int | None = None) -> None:
        self.channel = channel
        self._added, self._each = 0.0, np.zeros(0)

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Mix a part, (frames, channels); see `mix`."""
        if self.channel is None and samples.shape[1] > 1:
            added, each = powers(scaled(samples))
            if len(each) != len(self._each):  # the number of channels may change
                self._added, self._each = 0.0, np.zeros(len(each))
            self._added, self._each = self._added + added, self._each + each
        channel = None if self.channel is None else min(self.channel, samples.shape[1] - 1)
        return mix(samples, channel)

    @property
    def better(self) -> int | None:
        """The loudest channel if the channels cancel each other, so that the mean should not be used."""
        opposite = self._each.any() and cancels(self._added, self._each)
        return loudest(self._each) if opposite else None
