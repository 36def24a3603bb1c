"""Networks for tagging sound events, trained on AudioSet ("PANNs"): Cnn14 and MobileNetV1.

Log-mel images (n, channels, 64, frames) -> batch norm of each band -> features (n, width, 2, steps), where a
step is 32 frames -> mean over bands, then maximum plus mean over time (n, width) -> a linear layer with ReLU,
the embedding (n, width) -> logits of 527 tags.

References
----------
Kong et al., "PANNs: Large-scale pretrained audio neural networks for audio pattern recognition", IEEE/ACM
TASLP 2020, arXiv:1912.10211. Howard et al., "MobileNets", 2017, arXiv:1704.04861.
"""

import re
from itertools import pairwise

import torch
from torch import nn

from mer.config.inputs import required_input
from mer.models.music_input import first_channel

__all__ = ["LEAST_FRAMES", "PANN", "TAGS", "PeakAndMean", "cnn14", "mobilenet", "own_tensors"]

BANDS = 64
LEAST_FRAMES = 32  # five poolings, each by 2
TAGS = 527
CNN14_CHANNELS = (1, 64, 128, 256, 512, 1024, 2048)
MOBILENET_BLOCKS = (  # channels, and the factor of the pooling
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1), (512, 1), (512, 1), (512, 1),
    (512, 1), (1024, 2), (1024, 1),
)  # fmt: skip
CNN14_LAYERS = {"conv1": 0, "bn1": 1, "conv2": 3, "bn2": 4}  # published name: place in a block
CNN14_NAME = re.compile(r"conv_block(\d)\.(conv1|bn1|conv2|bn2)\.(\w+)")


class PeakAndMean(nn.Module):
    """Map (n, channels, rows, columns) -> (n, channels): mean over rows, then maximum plus mean over time."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Pool over frequency and time."""
        sequence = features.mean(dim=2)
        return sequence.amax(dim=2) + sequence.mean(dim=2)


class PANN(nn.Module):
    """A network with its tag layer: images (n, channels, 64, frames) -> logits (n, outputs).

    The stages are `bn0`, `features` and `back`. `back` ends in the tag layer, `back.4`; with that replaced by
    an identity the network returns the embedding. The feature map has 2 rows, and one column for 32 frames.

    Parameters
    ----------
    name
        Name in the zoo.
    features
        From normalised images (n, 1, 64, frames) to the feature map.
    width
        Channels of the feature map, and size of the embedding.
    outputs
        Number of logits.
    """

    def __init__(self, name: str, features: nn.Sequential, width: int, outputs: int = TAGS) -> None:
        super().__init__()
        self.name, self.bn0, self.features = name, nn.BatchNorm2d(BANDS), features
        self.back = nn.Sequential(
            PeakAndMean(), nn.Dropout(0.5), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs)
        )

    def as_input(self, images: torch.Tensor) -> torch.Tensor:
        """The part of images that the network takes, (n, 1, 64, frames).

        Raises
        ------
        BackboneError
            If the images do not have 64 bands and at least 32 frames.
        """
        return first_channel(images, LEAST_FRAMES, self.name, required_input(self.name))

    def feature_map(self, images: torch.Tensor) -> torch.Tensor:
        """The output of `features`, (n, width, 2, frames // 32). Raises as `as_input`."""
        return self.features(self.bn0(self.as_input(images).transpose(1, 2)).transpose(1, 2))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (n, outputs)."""
        return self.back(self.feature_map(images))


def _normalised(inputs: int, outputs: int, kernel: int, *pool: nn.Module, groups: int = 1) -> list[nn.Module]:
    """Convolution that keeps the size, an optional pooling, batch norm and ReLU."""
    return [
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False),
        *pool,
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    ]


def cnn14() -> PANN:
    """Cnn14, 81 million parameters: six blocks of two convolutions, with embeddings of 2048 values."""
    blocks = []
    for inputs, outputs in pairwise(CNN14_CHANNELS):
        is_last = outputs == CNN14_CHANNELS[-1]
        pool = nn.Identity() if is_last else nn.AvgPool2d(2)
        layers = [*_normalised(inputs, outputs, 3), *_normalised(outputs, outputs, 3)]
        blocks.append(nn.Sequential(*layers, pool, nn.Dropout(0.2)))
    return PANN("panns_cnn14", nn.Sequential(*blocks), CNN14_CHANNELS[-1])


def mobilenet() -> PANN:
    """MobileNetV1, 5 million parameters: depthwise convolutions, with embeddings of 1024 values.

    Where the original has a stride of 2, a mean pooling follows the convolution.
    """
    inputs = 32
    blocks = [nn.Sequential(*_normalised(1, inputs, 3, nn.AvgPool2d(2)))]
    for outputs, factor in MOBILENET_BLOCKS:
        depthwise = _normalised(inputs, inputs, 3, nn.AvgPool2d(factor), groups=inputs)
        blocks.append(nn.Sequential(*depthwise, *_normalised(inputs, outputs, 1)))
        inputs = outputs
    return PANN("panns_mobilenet", nn.Sequential(*blocks), inputs)


def own_tensors(published: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Published tensors of either network under the names of `PANN`.

    The published networks read images (frames, bands), so their kernels are transposed.
    """
    return {
        _own_name(name): tensor.transpose(2, 3).contiguous() if tensor.dim() == 4 else tensor
        for name, tensor in published.items()
    }


def _own_name(name: str) -> str:
    if block := CNN14_NAME.fullmatch(name):
        return f"features.{int(block[1]) - 1}.{CNN14_LAYERS[block[2]]}.{block[3]}"
    for theirs, ours in (("fc1.", "back.2."), ("fc_audioset.", "back.4.")):
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name
