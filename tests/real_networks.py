"""Networks of the zoo with random weights that cost little to draw."""

import math

import torch

from mer.config.inputs import required_input
from mer.models.build import build_classifier
from mer.models.classifier import Classifier

DRAWN = 1 << 16


def real_classifier(name: str, *, classes: int, **settings) -> Classifier:
    """A classifier on the CPU. Its weights repeat one short random draw, scaled by the inputs of each layer.

    Drawing all 138 million weights of vgg16 takes seconds. Do not use it in tests of the initialisation.
    """
    with torch.device("meta"):
        model = build_classifier(name, classes=classes, weights="none", **settings)
    model.to_empty(device="cpu")
    noise = torch.randn(DRAWN)
    with torch.no_grad():
        for path, tensor in model.state_dict().items():
            if tensor.dim() > 1:
                _tile(tensor.view(-1), noise * math.sqrt(2 / tensor[0].numel()))
            else:
                tensor.fill_(1 if path.endswith("running_var") or is_scale(model, path) else 0)
    return model


def example_images(
    name: str, n: int = 2, *, height: int = 64, width: int = 64, device: str = "cpu"
) -> torch.Tensor:
    """Random images for a network, with the rows that it requires, and at least as many columns."""
    if needed := required_input(name):
        rows = needed["n_mels"]
        height, width = rows, max(width, width * rows // height)
    return torch.rand(n, 3, height, width, device=device)


def is_scale(model: Classifier, path: str) -> bool:
    """True for the weight of a normalisation layer, which is one-dimensional."""
    return path.endswith(".weight") and model.get_parameter(path).dim() == 1


def _tile(flat: torch.Tensor, noise: torch.Tensor) -> None:
    """Fill a vector with repetitions of a shorter one."""
    whole = len(flat) // DRAWN * DRAWN
    flat[:whole].view(-1, DRAWN).copy_(noise.expand(whole // DRAWN, DRAWN))
    flat[whole:].copy_(noise[: len(flat) - whole])
