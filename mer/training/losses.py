"""Losses of logits against target distributions."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from mer.config.sections import TrainConfig

__all__ = ["class_weights", "loss_function"]


def class_weights(labels: np.ndarray, classes: int) -> torch.Tensor:
    """Weights inverse to class frequencies, float32 (classes,). Their mean over the examples is 1."""
    counts = np.bincount(labels, minlength=classes)
    return torch.tensor(len(labels) / (classes * np.maximum(counts, 1)), dtype=torch.float32)


def loss_function(config: TrainConfig, weights: torch.Tensor) -> Callable[..., torch.Tensor]:
    """The loss of the settings, a function of logits and target distributions, both (n, classes).

    Parameters
    ----------
    config
        Uses `loss` and `label_smoothing`.
    weights
        Weight of each class, shape (classes,).
    """

    def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean loss of logits against target distributions, both (n, classes)."""
        smooth = config.label_smoothing
        targets = (1 - smooth) * targets + smooth / targets.shape[1]
        if config.loss == "bce":
            return F.binary_cross_entropy_with_logits(logits, targets, weight=weights.to(logits.device))
        return F.cross_entropy(logits.float(), targets, weight=weights.to(logits.device))

    return loss
