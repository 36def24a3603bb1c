"""Probabilities of the classes from logits."""

import numpy as np
import torch
import torch.nn.functional as F

__all__ = ["to_probabilities", "within"]

LEAST = 1e-12  # smallest probability, so that rows can be rescaled


def to_probabilities(logits: torch.Tensor, loss: str, temperature: float = 1.0) -> torch.Tensor:
    """Distributions over the outputs of a network.

    Parameters
    ----------
    logits
        Float tensor of shape (n, outputs).
    loss
        The loss that the network was trained with. "ce" gives the softmax; "bce" gives sigmoids, scaled to
        sum 1. They are computed as the softmax of log-sigmoids, which is the same and stays finite if every
        sigmoid is near 0.
    temperature
        The logarithms of the probabilities are divided by this number, above 0 (Guo et al., 2017).

    Returns
    -------
    torch.Tensor
        Shape (n, outputs); each row sums to 1.
    """
    logarithms = logits if loss == "ce" else F.logsigmoid(logits)
    return (logarithms / temperature).softmax(dim=1)


def within(probabilities: np.ndarray, classes: int) -> np.ndarray:
    """Drop outputs that are not classes: rows (n, outputs) -> (n, classes), rescaled to sum 1."""
    if probabilities.shape[1] == classes:
        return probabilities
    shares = np.maximum(probabilities[:, :classes].astype(float), LEAST)
    return shares / shares.sum(axis=1, keepdims=True)
