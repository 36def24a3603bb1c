"""Losses against target distributions, and the probabilities that go with each."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from mer.config.sections import TrainConfig

__all__ = ["class_weights", "loss_function", "to_probabilities", "within"]

LEAST = 1e-12  # of a probability, so that it can be rescaled


def to_probabilities(logits: torch.Tensor, loss: str) -> torch.Tensor:
    """Logits (n, classes) -> distributions: softmax for "ce"; sigmoids scaled to sum 1 for "bce".

    The softmax of log-sigmoids is just that, and stays finite where every sigmoid vanishes.
    """
    return (logits if loss == "ce" else F.logsigmoid(logits)).softmax(dim=1)


def within(probabilities: np.ndarray, classes: int) -> np.ndarray:
    """Distributions over more outputs than classes (n, outputs) -> over the classes alone (n, classes)."""
    if probabilities.shape[1] == classes:
        return probabilities
    shares = np.maximum(probabilities[:, :classes].astype(float), LEAST)
    return shares / shares.sum(axis=1, keepdims=True)


def class_weights(labels: np.ndarray, classes: int) -> torch.Tensor:
    """Inverse class frequencies, mean 1 over the examples; float32 of shape (classes,)."""
    counts = np.bincount(labels, minlength=classes)
    return torch.tensor(len(labels) / (classes * np.maximum(counts, 1)), dtype=torch.float32)


def loss_function(config: TrainConfig, weights: torch.Tensor) -> Callable[..., torch.Tensor]:
    """Mean loss of logits (n, classes) against target distributions (n, classes)."""

    def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        smooth = config.label_smoothing
        targets = (1 - smooth) * targets + smooth / targets.shape[1]
        if config.loss == "bce":
            return F.binary_cross_entropy_with_logits(logits, targets, weight=weights.to(logits.device))
        return F.cross_entropy(logits.float(), targets, weight=weights.to(logits.device))

    return loss
