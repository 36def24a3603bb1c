"""musicnn: a CNN for music tagging whose first filters have the shapes of timbres and rhythms.

Log-mel images (n, channels, 96, frames), see `music_input` -> front end (n, 561, 1, frames) -> middle
(n, 753, 1, frames) -> back end (n, 50), the logits of 50 tags. In every convolution the order is convolution,
bias, ReLU, batch norm.

References
----------
Pons et al., "End-to-end learning for music audio tagging at scale", ISMIR 2018.
Pons and Serra, "musicnn: pre-trained convolutional neural networks for music audio tagging", 2019,
arXiv:1909.06654.
"""

import torch
from torch import nn

from mer.models.max_pooled import max_pooled, takes_shortcut
from mer.models.music_input import first_channel

__all__ = ["LEAST_FRAMES", "FrontEnd", "MiddleEnd", "MusicNN", "TimePool"]

EPS = 1e-3  # added to the variance in every batch norm
LEAST_FRAMES = 7  # length of a timbral filter; the windows in training had 187
TIMBRAL = (38, 67)  # bands of the timbral filters: 40% and 70% of all bands
TIMBRAL_FILTERS, TIMBRAL_FRAMES = 204, 7
TEMPORAL = (128, 64, 32)  # frames of the temporal filters
TEMPORAL_FILTERS = 51
FRONT = len(TIMBRAL) * TIMBRAL_FILTERS + len(TEMPORAL) * TEMPORAL_FILTERS  # channels of the front end, 561
MIDDLE, LAYERS = 64, 3  # filters of each layer of the middle, and layers


def _convolution(channels: int, filters: int, kernel: tuple[int, int]) -> nn.Sequential:
    """Convolution, ReLU and batch norm; as many frames after it as before. `kernel` is (bands, frames)."""
    before, after = (kernel[1] - 1) // 2, kernel[1] // 2
    return nn.Sequential(
        nn.ZeroPad2d((before, after, 0, 0)),
        nn.Conv2d(channels, filters, kernel),
        nn.ReLU(),
        nn.BatchNorm2d(filters, eps=EPS),
    )


class FrontEnd(nn.Module):
    """Images (n, 1, 96, frames) -> (n, 561, 1, frames): five kinds of filters, each at its best frequency.

    The maximum over frequency makes the answer to a timbre independent of its pitch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1, eps=EPS)
        self.timbral = nn.ModuleList(
            _convolution(1, TIMBRAL_FILTERS, (bands, TIMBRAL_FRAMES)) for bands in TIMBRAL
        )
        self.temporal = nn.ModuleList(_convolution(1, TEMPORAL_FILTERS, (1, frames)) for frames in TEMPORAL)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The maximum over frequency of each filter."""
        images = self.norm(images)
        return torch.cat([_highest(branch, images) for branch in (*self.timbral, *self.temporal)], dim=1)


def _highest(branch: nn.Sequential, images: torch.Tensor) -> torch.Tensor:
    """The maximum over frequency of a branch's output."""
    if not takes_shortcut(branch):
        return _over_bands(branch(images))
    pad, convolution, _, norm = branch
    return max_pooled(convolution, norm, _over_bands, pad(images))


def _over_bands(features: torch.Tensor) -> torch.Tensor:
    return features.amax(dim=2, keepdim=True)


class MiddleEnd(nn.Module):
    """Front end (n, 561, 1, frames) -> (n, 753, 1, frames): the front end and three layers over time."""

    def __init__(self) -> None:
        super().__init__()
        sizes = [FRONT] + [MIDDLE] * (LAYERS - 1)
        self.layers = nn.ModuleList(_convolution(size, MIDDLE, (1, 7)) for size in sizes)

    def forward(self, front: torch.Tensor) -> torch.Tensor:
        """Concatenate the front end and the output of each layer; the later layers are residual."""
        first, *others = self.layers
        outputs = [first(front)]
        for layer in others:
            outputs.append(layer(outputs[-1]) + outputs[-1])
        return torch.cat([front, *outputs], dim=1)


class TimePool(nn.Module):
    """Map (n, channels, 1, frames) -> (n, 2 * channels): maximum and mean over time, in turn per channel."""

    def forward(self, sequence: torch.Tensor) -> torch.Tensor:
        """Pool over time."""
        sequence = sequence.squeeze(2)
        return torch.stack([sequence.amax(dim=2), sequence.mean(dim=2)], dim=2).flatten(1)


class MusicNN(nn.Module):
    """musicnn with its tag layer: images (n, channels, 96, frames) -> logits (n, outputs).

    The stages are `front`, `middle` and `back`. `back` ends in the tag layer, `back.7`; with that replaced by
    an identity the network returns the 200 numbers of the penultimate layer.

    For Grad-CAM, the output of `middle` is a map over time only (one row), because `front` takes the maximum
    over frequency. Only the branches of the front end have frequency. The output of `front.timbral.0`
    has 59 rows; row r stands for the bands r to r + 37. A map of it shows only a part of the evidence,
    since it lacks the other four branches.

    Parameters
    ----------
    outputs
        Number of logits.
    """

    features = 200

    def __init__(self, outputs: int = 50) -> None:
        super().__init__()
        pooled = 2 * (FRONT + LAYERS * MIDDLE)
        self.front, self.middle = FrontEnd(), MiddleEnd()
        self.back = nn.Sequential(
            TimePool(),
            nn.BatchNorm1d(pooled, eps=EPS),
            nn.Dropout(0.5),
            nn.Linear(pooled, self.features),
            nn.ReLU(),
            nn.BatchNorm1d(self.features, eps=EPS),
            nn.Dropout(0.5),
            nn.Linear(self.features, outputs),
        )

    def as_input(self, images: torch.Tensor) -> torch.Tensor:
        """The part of images that the network takes, (n, 1, 96, frames).

        Raises
        ------
        BackboneError
            If the images do not have 96 bands and at least 7 frames.
        """
        return first_channel(images, LEAST_FRAMES, "musicnn")

    def feature_map(self, images: torch.Tensor) -> torch.Tensor:
        """The output of `middle`, (n, 753, 1, frames). Raises as `as_input`."""
        return self.middle(self.front(self.as_input(images)))

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """The penultimate layer, (n, 200)."""
        return self.back[:6](self.feature_map(images))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (n, outputs)."""
        return self.back(self.feature_map(images))
