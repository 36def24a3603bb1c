"""Build a classifier from settings, with its weights."""

from pathlib import Path
from typing import Any

import torch

from mer.config.inputs import PRETRAINED
from mer.config.sections import TrainConfig
from mer.models.classifier import Classifier
from mer.models.joined import get_backbone
from mer.models.released import ReleasedClassifier
from mer.models.weights import fill

__all__ = ["build_classifier", "configured_classifier", "require_classifier"]


def build_classifier(name: str, *, classes: int, weights: str, **settings: Any) -> Classifier:
    """Build a classifier from the name of its backbone.

    Parameters
    ----------
    name
        Name of the backbone.
    classes
        Number of classes.
    weights
        See `configured_classifier`.
    **settings
        Further fields of TrainConfig.

    Raises
    ------
    BackboneError, WeightsError
        If there is no such network, or no such weights.
    """
    return configured_classifier(TrainConfig(backbone=name, weights=weights, **settings), classes=classes)


def configured_classifier(config: TrainConfig, *, classes: int, weights: str | None = None) -> Classifier:
    """The classifier that the settings of a run describe.

    Parameters
    ----------
    config
        Settings of the network and of its training.
    classes
        Number of classes.
    weights
        "imagenet", "music" or "audioset" (those of the backbone), "none" (random), or a file with the state
        dict of the whole network, including its output layer. Default: `config.weights`.

    Raises
    ------
    BackboneError, WeightsError
        If there is no such network, or no such weights.
    """
    backbone, weights = get_backbone(config.backbone), weights or config.weights
    body = backbone.build()
    if weights in PRETRAINED:
        backbone.source.into(body)
    elif weights != "none":
        device = next(body.parameters()).device
        fill(body, backbone.read(Path(weights), device), weights)
    released = config.outputs == "imagenet" or config.always_training
    kind = ReleasedClassifier if released else Classifier
    return kind(backbone, body, classes=classes, config=config)


def require_classifier(config: TrainConfig, *, classes: int, shape: tuple[int, int]) -> None:
    """Check that `configured_classifier` can make a network that takes images (rows, columns) of that shape.

    Nothing is computed: the check runs on torch's meta device, where tensors have shapes but no values.
    Weights that are not on this machine are downloaded.

    Parameters
    ----------
    config
        Settings of the network and of its training.
    classes
        Number of classes.
    shape
        Rows and columns of an image.

    Raises
    ------
    BackboneError, WeightsError
        If there is no such network, it does not take such images, or there are no such weights.
    """
    with torch.device("meta"):
        configured_classifier(config, classes=classes).require_input(shape)
