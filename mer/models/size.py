"""The number of parameters of a classifier: all of body and head, and those that training changes."""

from typing import NamedTuple

import torch
from torch import nn

from mer.config.sections import TrainConfig
from mer.models.build import configured_classifier

__all__ = ["Size", "planned_size", "size_of"]


class Size(NamedTuple):
    """Numbers of parameters: `total` of body and head, `trained` of those that training changes."""

    total: int
    trained: int


def size_of(model: nn.Module) -> Size:
    """The size of a network that was built for training."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return Size(sum(size for size, _ in sizes), sum(size for size, trains in sizes if trains))


def planned_size(config: TrainConfig, *, classes: int) -> Size:
    """The size of the network that settings describe, on torch's meta device: nothing is computed or loaded.

    Parameters
    ----------
    config
        Settings of the network and of its training.
    classes
        Number of classes.

    Raises
    ------
    BackboneError
        If there is no such network.
    """
    with torch.device("meta"):
        return size_of(configured_classifier(config, classes=classes, weights="none"))
