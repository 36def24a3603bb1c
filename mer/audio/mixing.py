"""Mixes the channels of a clip."""

import numpy as np

from mer.audio.waveforms import scaled

__all__ = ["mix"]


def mix(samples: np.ndarray) -> np.ndarray:
    """Mean over the channels.

    Parameters
    ----------
    samples
        Shape (frames, channels): floats with full scale at 1, or int8, int16, int32 or uint8.

    Returns
    -------
    np.ndarray
        float32 of shape (frames,), full scale at 1.
    """
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
