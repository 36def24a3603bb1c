"""From logits to the probabilities of the classes."""

import numpy as np
import torch
import torch.nn.functional as F

__all__ = ["to_probabilities", "within"]

LEAST = 1e-12  # of a probability, so that it can be rescaled


def to_probabilities(logits: torch.Tensor, loss: str, temperature: float = 1.0) -> torch.Tensor:
    """Distributions over the outputs of a network.

    Parameters
    ----------
    logits
        Float tensor of shape (n, outputs).
    loss
        The loss that the network was trained with. "ce" gives the softmax; "bce" gives sigmoids, scaled to
        sum 1. The softmax of log-sigmoids is just that, and stays finite where every sigmoid vanishes.
    temperature
        What the logarithms of the probabilities are divided by, above 0 (Guo et al., 2017).

    Returns
    -------
    torch.Tensor
        Shape (n, outputs); each row sums to 1.
    """
    logarithms = logits if loss == "ce" else F.logsigmoid(logits)
    return (logarithms / temperature).softmax(dim=1)


def within(probabilities: np.ndarray, classes: int) -> np.ndarray:
    """Distributions over more outputs than classes (n, outputs) -> over the classes alone (n, classes)."""
    if probabilities.shape[1] == classes:
        return probabilities
    shares = np.maximum(probabilities[:, :classes].astype(float), LEAST)
    return shares / shares.sum(axis=1, keepdims=True)
