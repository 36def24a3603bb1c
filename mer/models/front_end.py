"""Joined networks that need different spectrograms: each makes its own from the waveform of a window.

The waveform is the image of the window (`shape="waveform"`), with one row. Descriptors of the sound, the
input of the SVM that each run is compared with, can take the place of a network.
"""

import numpy as np
import torch
from torch import nn

from mer.audio.mel import LogMel, Standardizer
from mer.audio.resampling import resample
from mer.audio.transforms import EvalTransform
from mer.config.inputs import required_input
from mer.config.sections import Config
from mer.data.cache.descriptors import RATE, SIZE, descriptors

__all__ = ["Descriptors", "FrontEnd"]


class FrontEnd(nn.Module):
    """Waveforms as images (n, 3, 1, samples) -> the input (n, 3, rows, columns) of a network.

    A network for images gets the default images, each standardised by itself; a network for music or sound
    gets the spectrogram that its weights require.

    Parameters
    ----------
    network
        Name of the network.
    """

    def __init__(self, network: str) -> None:
        super().__init__()
        self.config = Config().updated(backbone=network)
        self.transform = EvalTransform(Standardizer(per_window=not required_input(network)))
        with torch.device("cpu"):  # filters have values, which torch's meta device does not compute
            self.log_mel = LogMel(self.config.audio.sample_rate, self.config.mel)

    def extra_repr(self) -> str:
        """The settings. They are part of the key of stored embeddings."""
        per_window = self.transform.standardizer.per_window
        return f"{self.config.audio.sample_rate}, {self.config.mel}, per_window={per_window}"

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Compute the images of waveforms, and standardise them."""
        windows = waveforms[:, 0, 0]
        if windows.is_meta:
            images = windows.new_empty(len(windows), *self.config.input_shape)
        else:
            images = self.log_mel(windows)
        return self.transform(images)


class Descriptors(nn.Module):
    """Waveforms as images (n, 3, 1, samples) at 16 kHz -> descriptors (n, 229).

    They are those of `mer.data.cache.descriptors`, of each window instead of the whole clip, and of sound up
    to 8 kHz.
    """

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Compute the descriptors on the CPU."""
        if waveforms.is_meta:
            return waveforms.new_empty(len(waveforms), SIZE)
        usual = Config().audio
        heard = usual.replace(sample_rate=RATE)
        rows = [
            descriptors(resample(window, rate=usual.sample_rate, audio=heard))
            for window in waveforms[:, 0, 0].cpu().numpy()
        ]
        return torch.from_numpy(np.stack(rows)).to(waveforms.device)
