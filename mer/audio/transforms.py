"""Transforms from images to network input: random augmentation for training, none for evaluation.

Images are standardised log-mels (n, bands, time), so masked values are 0, the mean. All random numbers come
from torch's global generator on the CPU, which training seeds for each epoch.
"""

import torch

from mer.audio.mel import Standardizer, as_input
from mer.config.sections import AugmentConfig

__all__ = ["EvalTransform", "TrainTransform", "mask", "mixup", "shift"]


def shift(images: torch.Tensor, largest: float) -> torch.Tensor:
    """Shift each image (n, bands, time) circularly in time, by up to `largest` of its width either way."""
    n, bands, width = images.shape
    offsets = ((torch.rand(n) * 2 - 1) * largest * width).round().long()
    source = ((torch.arange(width) - offsets[:, None]) % width).to(images.device)
    return images.gather(2, source[:, None, :].expand(n, bands, width))


def mask(images: torch.Tensor, *, dim: int, count: int, largest: float) -> torch.Tensor:
    """Set random stretches of time or frequency to 0, as SpecAugment does.

    Parameters
    ----------
    images
        Standardised images, of shape (n, bands, time).
    dim
        Axis to mask: 1 for frequency, 2 for time.
    count
        Number of stretches in each image.
    largest
        Longest stretch as a share of the axis, in [0, 1].

    References
    ----------
    Park et al., 2019.
    """
    n, size = len(images), images.shape[dim]
    position = torch.arange(size) + 0.5  # bin centres, so that both ends are equally likely to be masked
    kept = torch.ones(n, size, dtype=torch.bool)
    for _ in range(count):
        width = torch.rand(n, 1) * largest * size
        start = torch.rand(n, 1) * (size - width)
        kept &= (position < start) | (position >= start + width)
    return images * kept.unsqueeze(3 - dim).to(images.device)


def mixup(inputs: torch.Tensor, targets: torch.Tensor, alpha: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Mix each example with a random other one of the batch.

    Parameters
    ----------
    inputs
        Network inputs of shape (n, 3, size, size), with three equal channels.
    targets
        Class shares of shape (n, classes).
    alpha
        Shares are drawn from Beta(alpha, alpha); above 0.

    Returns
    -------
    tuple[torch.Tensor, torch.Tensor]
        Mixed inputs and targets.

    References
    ----------
    Zhang et al., 2018.
    """
    share = torch.distributions.Beta(alpha, alpha).sample((len(inputs),)).to(inputs.device)
    other = torch.randperm(len(inputs)).to(inputs.device)

    def blend(x: torch.Tensor) -> torch.Tensor:
        return torch.lerp(x[other], x, share.view(-1, *[1] * (x.ndim - 1)))

    return blend(inputs[:, :1]).expand_as(inputs), blend(targets)


class EvalTransform:
    """Images in dB (n, size, size) -> network input (n, 3, size, size), without randomness."""

    is_random = False

    def __init__(self, standardizer: Standardizer) -> None:
        self.standardizer = standardizer

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Standardise and copy to three channels."""
        return as_input(self.standardizer(images))


class TrainTransform(EvalTransform):
    """As `EvalTransform`, with the random shifts and masks of the config."""

    def __init__(self, standardizer: Standardizer, config: AugmentConfig) -> None:
        super().__init__(standardizer)
        self.config = config
        self.is_random = bool(config.time_masks or config.frequency_masks or config.time_shift)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Standardise, shift, mask, copy to three channels."""
        x, config = self.standardizer(images), self.config
        if config.time_shift:
            x = shift(x, config.time_shift)
        if config.time_masks:
            x = mask(x, dim=2, count=config.time_masks, largest=config.time_mask_share)
        if config.frequency_masks:
            x = mask(x, dim=1, count=config.frequency_masks, largest=config.frequency_mask_share)
        return as_input(x)
