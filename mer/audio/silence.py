"""Finds the silence in a waveform, in frames of 50 ms."""

import numpy as np

__all__ = ["FRAME_SECONDS", "ends", "pauses", "quiet_frames"]

FRAME_SECONDS = 0.05
SILENCE_DBFS = -60.0  # root mean square of a frame; noise floor of a recording of fair quality


def quiet_frames(waveform: np.ndarray, rate: int) -> tuple[np.ndarray, int]:
    """Whether each frame of a waveform is silent, without its DC, and the samples in a frame.

    The last frame may reach back into the one before it.
    """
    size = max(1, min(len(waveform), round(FRAME_SECONDS * rate)))
    whole = waveform[: len(waveform) // size * size].reshape(-1, size)
    power = np.einsum("ij,ij->i", whole, whole) / size - np.square(whole.mean(axis=1))
    if len(waveform) % size:
        last = waveform[-size:]
        power = np.append(power, np.dot(last, last) / size - np.square(last.mean()))
    return power < 10 ** (SILENCE_DBFS / 10), size


def ends(quiet: np.ndarray) -> tuple[int, int]:
    """Number of silent frames at the start and at the end; all are at the start if there are no others."""
    heard = np.flatnonzero(~quiet)
    return (int(heard[0]), len(quiet) - 1 - int(heard[-1])) if len(heard) else (len(quiet), 0)


def pauses(quiet: np.ndarray, seconds: float) -> float:
    """Duration of all silences of at least `seconds`, s."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], quiet, [False]])))
    lengths = FRAME_SECONDS * (edges[1::2] - edges[::2])
    return float(lengths[lengths > seconds - FRAME_SECONDS / 2].sum())
