"""Checks the input of networks that were trained on spectrograms. `mer.config.inputs` has its settings."""

from typing import Any

import torch

from mer.config.inputs import required_input
from mer.utils.errors import BackboneError

__all__ = ["first_channel"]


INPUT = required_input("musicnn_msd")


def first_channel(
    images: torch.Tensor, least: int, name: str, settings: dict[str, Any] = INPUT
) -> torch.Tensor:
    """The first channel of a network's input, (n, 1, bands, frames). The channels are equal.

    Parameters
    ----------
    images
        Should be of shape (n, channels, bands, frames).
    least
        Smallest number of frames that the network takes.
    name
        The network, for the message.
    settings
        The input that the network requires; its number of bands is `n_mels`.

    Raises
    ------
    BackboneError
        If the images have another shape, or too few frames.
    """
    if images.ndim != 4 or images.shape[2] != settings["n_mels"]:
        shape = " x ".join(str(int(side)) for side in images.shape)
        raise BackboneError(
            f"{name} cannot take {shape} values; give images (n, channels, {settings['n_mels']}, frames)"
        )
    if images.shape[3] < least:
        seconds = least * settings["hop_length"] / settings["sample_rate"]
        raise BackboneError(
            f"{name}: {int(images.shape[3])} frames are too few; give at least {least} ({seconds:.2f} s)"
        )
    return images[:, :1]
