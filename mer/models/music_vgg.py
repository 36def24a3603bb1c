"""A small VGG for music tagging: five 3 x 3 convolutions of 128 filters on a log-mel image.

Log-mel images (n, channels, 96, frames) -> five blocks -> fifth pooling (n, 128, 1, steps) ->
logits of 50 tags. In every block the order is convolution, bias, ReLU, batch norm, maximum pooling, dropout.
Two networks were trained, whose poolings differ: on MagnaTagATune ("mtt") and on the Million Song Dataset
("msd"). A feature map with the poolings of one has no meaning with the weights of the other.

References
----------
Pons and Serra, "musicnn: pre-trained convolutional neural networks for music audio tagging", 2019,
arXiv:1909.06654. Simonyan and Zisserman, "Very deep convolutional networks", ICLR 2015.
"""

import torch
from torch import nn

from mer.models.max_pooled import max_pooled, takes_shortcut
from mer.models.music_input import first_channel
from mer.utils.errors import BackboneError

__all__ = ["POOLINGS", "MusicVGG", "StepMeans", "averaged_output"]

EPS = 1e-3  # added to the variance in every batch norm
FILTERS = 128
TRAINED_STEPS = 2  # time steps after the fifth pooling of 187 frames

Pooling = tuple[tuple[int, int], tuple[int, int]]  # window and stride, each (bands, frames)

_HALF, _QUARTER = ((2, 2), (2, 2)), ((4, 4), (4, 4))
POOLINGS: dict[str, tuple[Pooling, ...]] = {
    "mtt": (((1, 4), (2, 2)), _HALF, _HALF, _HALF, _QUARTER),
    "msd": (((1, 4), (1, 4)), ((4, 1), (4, 1)), _HALF, _HALF, _QUARTER),
}


def _convolution(channels: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels, FILTERS, 3, padding=1),
        nn.ReLU(),
        nn.BatchNorm2d(FILTERS, eps=EPS),
    ]


class StepMeans(nn.Module):
    """Map (n, channels, 1, time) -> (n, steps * channels): runs of `steps` time steps, averaged over time.

    With one step this is the mean over time. With more, a linear layer after it gives the mean of its outputs
    for all runs of successive time steps; with exactly `steps` time steps, the map is flattened.
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def forward(self, sequence: torch.Tensor) -> torch.Tensor:
        """Pool over time."""
        sequence, runs = sequence.squeeze(2), sequence.shape[3] - self.steps + 1
        parts = [sequence[:, :, step : step + runs].mean(dim=2) for step in range(self.steps)]
        return torch.cat(parts, dim=1)


class MusicVGG(nn.Module):
    """The VGG with its tag layer: images (n, channels, 96, frames) -> logits (n, outputs).

    The stages are `block1` to `block5`, `pool` and `output`. The fifth pooling is in `pool`, so the output of
    `block5` has frequency and time: (n, 128, 6, columns). Grad-CAM's map then has 6 rows. One column stands
    for 16 frames. With `output.1` replaced by an identity the network returns the output of `pool`, 128
    numbers per step.

    Parameters
    ----------
    corpus
        "msd" or "mtt": the poolings to use.
    steps
        Time steps after the fifth pooling that the tag layer reads. 2: as it was trained. 1: their mean over
        time, which is the embedding; `averaged_output` adapts the weights.
    outputs
        Number of logits.

    Raises
    ------
    BackboneError
        If there are no poolings of that name.
    """

    features = FILTERS

    def __init__(self, corpus: str, *, steps: int = TRAINED_STEPS, outputs: int = 50) -> None:
        super().__init__()
        if corpus not in POOLINGS:
            raise BackboneError(f"music_vgg: unknown corpus {corpus!r}; choose one of: {', '.join(POOLINGS)}")
        self.corpus = corpus
        pools = [nn.MaxPool2d(window, stride) for window, stride in POOLINGS[corpus]]
        self.norm = nn.BatchNorm2d(1, eps=EPS)
        self.block1 = nn.Sequential(*_convolution(1), pools[0], nn.Dropout(0.25))
        self.block2 = nn.Sequential(*_convolution(FILTERS), pools[1], nn.Dropout(0.25))
        self.block3 = nn.Sequential(*_convolution(FILTERS), pools[2], nn.Dropout(0.25))
        self.block4 = nn.Sequential(*_convolution(FILTERS), pools[3], nn.Dropout(0.25))
        self.block5 = nn.Sequential(*_convolution(FILTERS))
        self.pool = nn.Sequential(pools[4], StepMeans(steps))
        self.output = nn.Sequential(nn.Dropout(0.5), nn.Linear(steps * FILTERS, outputs))
        self.least_frames = _least_frames(POOLINGS[corpus], steps)

    def as_input(self, images: torch.Tensor) -> torch.Tensor:
        """The part of images that the network takes, (n, 1, 96, frames).

        Raises
        ------
        BackboneError
            If the images do not have 96 bands and at least `least_frames` frames.
        """
        return first_channel(images, self.least_frames, f"vgg_{self.corpus}")

    def feature_map(self, images: torch.Tensor) -> torch.Tensor:
        """The output of `block5`, (n, 128, 6, columns); one column stands for 16 frames.

        Raises as `as_input`.
        """
        x = self.norm(self.as_input(images))
        if takes_shortcut(self):  # the layout with channels last is the fastest for few images
            x = x.contiguous(memory_format=torch.channels_last)
        for block in (self.block1, self.block2, self.block3, self.block4):
            x = _shortcut(block, x) if takes_shortcut(block) else block(x)
        return self.block5(x)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """The mean over time of the fifth pooling, (n, 128), whatever the number of steps."""
        return self.pool[0](self.feature_map(images)).mean(dim=(2, 3))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (n, outputs)."""
        return self.output(self.pool(self.feature_map(images)))


def _shortcut(block: nn.Sequential, images: torch.Tensor) -> torch.Tensor:
    """The output of a block without its dropout. Rows that the pooling skips are not computed."""
    convolution, _, norm, pool, _ = block
    rows, columns = pool.kernel_size
    skip, step = pool.stride if rows == 1 else (1, pool.stride[1])
    if skip > 1:
        pool = nn.MaxPool2d((rows, columns), (1, step))
    return max_pooled(convolution, norm, pool, images, stride=skip)


def _least_frames(poolings: tuple[Pooling, ...], steps: int) -> int:
    """Frames that leave `steps` time steps after all poolings."""
    frames = steps
    for (_, window), (_, stride) in reversed(poolings):
        frames = (frames - 1) * stride + window
    return frames


def averaged_output(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights of a network with `steps=2` for one with `steps=1`.

    The new tag layer reads the mean over time. Its logits equal the old ones if all time steps are equal.
    """
    return tensors | {"output.1.weight": tensors["output.1.weight"].unflatten(1, (-1, FILTERS)).sum(dim=1)}
