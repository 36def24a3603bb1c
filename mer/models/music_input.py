"""The input of the networks that were trained on music (`musicnn`, `music_vgg`)."""

from dataclasses import dataclass
from typing import Literal

import torch

from mer.utils.errors import BackboneError

__all__ = ["INPUT", "MusicInput", "require_log_mel"]


@dataclass(frozen=True, slots=True)
class MusicInput:
    """Settings of the log-mel images that the networks were trained on.

    The images are not resized. Row 0 is the lowest mel band, as in `mer.audio.mel`.

    Parameters
    ----------
    sample_rate
        Samples per second of the mono sound, Hz.
    n_fft, hop_length
        Samples per Fourier transform (Hann window, centred), and from one frame to the next.
    padding
        What is put before the first and after the last sample, n_fft // 2 samples each.
    power
        Exponent of the magnitude of the spectrum.
    n_mels, f_min, f_max, scale, norm
        Mel bands: number, lowest and highest frequency in Hz, scale, normalisation of the filters.
    gain
        The value of an image is log10(1 + gain * power).
    frames
        Frames of the windows in training, 3 s.
    """

    sample_rate: int = 16_000
    n_fft: int = 512
    hop_length: int = 256
    padding: Literal["zeros"] = "zeros"
    power: float = 2.0
    n_mels: int = 96
    f_min: float = 0.0
    f_max: float = 8000.0
    scale: Literal["slaney"] = "slaney"
    norm: Literal["slaney"] = "slaney"
    gain: float = 10_000.0
    frames: int = 187


INPUT = MusicInput()


def require_log_mel(images: torch.Tensor, least: int, name: str) -> None:
    """Check the shape of a network's input.

    Parameters
    ----------
    images
        Should be of shape (n, 1, 96, frames).
    least
        Smallest number of frames that the network takes.
    name
        The network, for the message.

    Raises
    ------
    BackboneError
        If the shape is another, or there are too few frames.
    """
    if images.ndim != 4 or images.shape[1] != 1 or images.shape[2] != INPUT.n_mels:
        shape = " x ".join(str(int(side)) for side in images.shape)
        raise BackboneError(f"{name} cannot take {shape} values; give images (n, 1, {INPUT.n_mels}, frames)")
    if images.shape[3] < least:
        seconds = least * INPUT.hop_length / INPUT.sample_rate
        raise BackboneError(
            f"{name}: {int(images.shape[3])} frames are too few; give at least {least} ({seconds:.2f} s)"
        )
