"""Heads fitted to embeddings for given strengths of regularisation.

All of it is float64 on the CPU. Features are standardised over the training windows. Each window weighs one
over the number of windows of its clip, so clips count equally. The loss is averaged over clips, and features
are divided by the square root of their number. So a strength of regularisation, which multiplies the squared
norm of the weights, means the same for networks of any size. The solvers:

- "ridge" is least squares on the distribution of labels minus its mean.
- "logistic" is multinomial logistic regression on that distribution.
- "kernel" is ridge regression with the kernel exp(-gamma * mean squared difference of features). Over
  `MOST_CENTRES` windows it uses landmarks (Nystroem's method).

References: Hoerl and Kennard, "Ridge Regression", Technometrics, 1970. Williams and Seeger, "Using the
Nystroem Method to Speed Up Kernel Machines", NIPS 2000.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from mer.metrics.probabilities import softmax
from mer.models.solved import MOST_CENTRES

__all__ = ["LEAST", "STRENGTHS", "Fitted", "fitted"]

STRENGTHS = tuple(float(f"{10**power:.3g}") for power in np.arange(-4, 1.1, 0.5))
LANDMARKS = 1000
CONSTANT = 1e-4  # a feature that varies less than this, relative to the one that varies most, is ignored
LEAST = 1e-12  # lowest probability, so that its logarithm is finite


@dataclass(frozen=True, slots=True)
class Fitted:
    """Scores for one gamma and several strengths.

    `mean` and `scale` (features,) standardise features. `weights` (features or centres, classes) and `biases`
    (classes,) are one for each strength. `centres` (centres, features) and `gamma` are None without a kernel.
    """

    mean: np.ndarray
    scale: np.ndarray
    weights: list[np.ndarray]
    biases: list[np.ndarray]
    centres: np.ndarray | None = None
    gamma: float | None = None

    def scores(self, rows: np.ndarray) -> list[np.ndarray]:
        """Scores without bias, (n, classes) for each strength, of rows (n, features)."""
        inputs = (rows - self.mean) * self.scale
        if self.centres is not None:
            inputs = kernel(inputs, self.centres, self.gamma)
        return [inputs @ weights for weights in self.weights]


def fitted(
    rows: np.ndarray,
    targets: np.ndarray,
    clips: np.ndarray,
    *,
    solver: str,
    gamma: float | None = None,
    strengths: Sequence[float] = STRENGTHS,
    seed: int = 0,
) -> Fitted:
    """Fit one head for each strength.

    Parameters
    ----------
    rows, targets, solver, seed
        See `solve`.
    clips
        Number of each window's clip, (windows,), ascending from 0.
    gamma
        Inverse width of the kernel; only for solver "kernel".
    strengths
        Strengths of regularisation, above 0.
    """
    weights = 1 / np.bincount(clips)[clips]
    mean = np.average(rows, axis=0, weights=weights)
    spread = np.sqrt(np.average((rows - mean) ** 2, axis=0, weights=weights))
    varies = spread > CONSTANT * spread.max()
    scale = np.divide(1.0, spread, out=np.zeros_like(spread), where=varies)
    inputs = (rows - mean) * scale
    prior = np.maximum(targets.mean(axis=0), LEAST)
    centred = (targets - targets.mean(axis=0))[clips]
    biases = [np.log(prior)] * len(strengths)
    if solver == "kernel":
        centres, found = _kernel_ridge(rows, inputs, weights, centred, gamma, strengths, seed)
        return Fitted(mean, scale, found, biases, centres, gamma)
    root = np.sqrt(inputs.shape[1])
    if solver == "ridge":
        found = _ridge(inputs / root, weights, centred, strengths)
    else:
        found, biases = _logistic(inputs / root, weights, targets[clips], strengths)
    return Fitted(mean, scale, [each / root for each in found], biases)


def kernel(rows: np.ndarray, centres: np.ndarray, gamma: float) -> np.ndarray:
    """Radial kernel exp(-gamma * mean squared difference) of features.

    Parameters
    ----------
    rows, centres
        Shapes (n, features) and (centres, features).
    gamma
        Inverse width, above 0.

    Returns
    -------
    np.ndarray
        Shape (n, centres), values 0 to 1.
    """
    squares = (rows**2).sum(axis=1)[:, None] + (centres**2).sum(axis=1) - 2 * rows @ centres.T
    return np.exp(-gamma / rows.shape[1] * np.maximum(squares, 0))


def _basis(rows: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Principal directions (features, r) of the weighted rows, and their squared singular values (r,).

    They are computed from the smaller of the two Gram matrices. Directions without variance are left out.
    """
    from scipy.linalg import eigh

    weighted = rows * np.sqrt(weights)[:, None]
    count, features = weighted.shape
    if features <= count:
        squares, found = eigh(weighted.T @ weighted)
    else:
        squares, found = eigh(weighted @ weighted.T)
    kept = squares > LEAST * max(squares[-1], LEAST)
    squares, found = squares[kept], found[:, kept]
    return (found if features <= count else weighted.T @ found / np.sqrt(squares)), squares


def _ridge(
    rows: np.ndarray, weights: np.ndarray, targets: np.ndarray, strengths: Sequence[float]
) -> list[np.ndarray]:
    """Weights (features, columns) for each strength, without intercept, from one decomposition."""
    basis, squares = _basis(rows, weights)
    sums = basis.T @ (rows.T @ (weights[:, None] * targets))
    return [basis @ (sums / (squares + strength * weights.sum())[:, None]) for strength in strengths]


def _kernel_ridge(
    rows: np.ndarray,
    inputs: np.ndarray,
    weights: np.ndarray,
    targets: np.ndarray,
    gamma: float,
    strengths: Sequence[float],
    seed: int,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Centres, and their weights (centres, columns) for each strength."""
    from scipy.linalg import eigh, solve

    if len(inputs) <= MOST_CENTRES:
        similar, found = kernel(inputs, inputs, gamma), []
        for strength in strengths:
            noise = np.diag(strength * weights.sum() / weights)
            found.append(solve(similar + noise, targets, assume_a="pos"))
        return inputs, found
    centres = inputs[_landmarks(rows, seed)]
    squares, directions = eigh(kernel(centres, centres, gamma))
    kept = squares > CONSTANT**2 * squares[-1]
    features = directions[:, kept] / np.sqrt(squares[kept])
    found = _ridge(kernel(inputs, centres, gamma) @ features, weights, targets, strengths)
    return centres, [features @ each for each in found]


def _landmarks(rows: np.ndarray, seed: int) -> np.ndarray:
    """Indices of `LANDMARKS` different windows, chosen by hashes of their values: the same in any order."""
    salt = seed.to_bytes(8, "little")
    known = {blake2b(row.tobytes(), digest_size=16, salt=salt).digest(): i for i, row in enumerate(rows)}
    return np.array([known[digest] for digest in sorted(known)[:LANDMARKS]])


def _logistic(
    rows: np.ndarray, weights: np.ndarray, targets: np.ndarray, strengths: Sequence[float]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Weights (features, classes) and biases for each strength; biases are not penalised.

    The function is minimised in the basis of the rows, with each direction scaled by its approximate
    curvature, so that few steps suffice. Each strength starts from the solution of the next larger one.
    """
    from scipy.optimize import minimize

    basis, squares = _basis(rows, weights)
    rotated, shares, classes = rows @ basis, weights / weights.sum(), targets.shape[1]
    found, start = {}, np.zeros((rotated.shape[1] + 1, classes))
    start[-1] = np.log(np.maximum(shares @ targets, LEAST))
    for strength in sorted(strengths, reverse=True):
        scale = np.append(1 / np.sqrt(squares / weights.sum() / classes + strength), 1.0)[:, None]
        inputs = np.hstack([rotated, np.ones((len(rotated), 1))]) * scale.T
        penalty = strength * scale**2
        penalty[-1] = 0
        best = minimize(
            _log_loss, (start / scale).ravel(), args=(inputs, shares, targets, penalty), jac=True,
            method="L-BFGS-B", options={"maxiter": 2000, "gtol": 1e-9, "ftol": 1e-15},
        )  # fmt: skip
        start = best.x.reshape(start.shape) * scale
        found[strength] = basis @ start[:-1], start[-1]
    return [found[strength][0] for strength in strengths], [found[strength][1] for strength in strengths]


def _log_loss(
    flat: np.ndarray, inputs: np.ndarray, shares: np.ndarray, targets: np.ndarray, penalty: np.ndarray
) -> tuple[float, np.ndarray]:
    """Weighted cross-entropy with its penalty, and its gradient."""
    values = flat.reshape(inputs.shape[1], targets.shape[1])
    probabilities = softmax(inputs @ values)
    loss = -shares @ (targets * np.log(np.maximum(probabilities, 1e-300))).sum(axis=1)
    gradient = inputs.T @ (shares[:, None] * (probabilities - targets)) + penalty * values
    return float(loss + 0.5 * (penalty * values**2).sum()), gradient.ravel()
