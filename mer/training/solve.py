"""Solves for a head on embeddings: ridge regression, logistic regression, or kernel ridge regression.

All of it is float64 on the CPU. Features are standardised over the training windows. Each window weighs one
over the number of windows of its clip, so clips count equally. Strengths of regularisation are comparable
over networks, since they multiply the squared norm of weights for features divided by the square root of
their number, with the loss averaged over clips:

- "ridge" is least squares on the distribution of labels, less its mean.
- "logistic" is multinomial logistic regression on that distribution.
- "kernel" is ridge regression with the kernel exp(-gamma * mean squared difference of features). Over
  `MOST_CENTRES` windows it uses landmarks (Nystroem's method).

Strength and gamma are those with the lowest log-loss of clips in inner folds that keep songs whole. Scores of
ridge regression are no logits. One factor for each strength, fitted on the predictions for the inner folds'
test clips, scales them, so that their softmax is calibrated.

References: Hoerl and Kennard, "Ridge Regression", Technometrics, 1970. Williams and Seeger, "Using the
Nystroem Method to Speed Up Kernel Machines", NIPS 2000.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import Any

import numpy as np

from mer.data.splits import inner_folds
from mer.metrics.probabilities import softmax
from mer.models.solved import MOST_CENTRES
from mer.utils.errors import RunError
from mer.utils.parallel import Progress

__all__ = ["GAMMAS", "STRENGTHS", "USUAL", "Fitted", "Solution", "fitted", "solve"]

STRENGTHS = tuple(float(f"{10**power:.3g}") for power in np.arange(-4, 1.1, 0.5))
GAMMAS = (0.1, 0.3, 1.0)
USUAL = {"ridge": 0.1, "logistic": 0.01, "kernel": 0.1}  # strength with too few songs to choose by
USUAL_GAMMA = 0.3
INNER = 5  # folds
LANDMARKS = 1000
CONSTANT = 1e-4  # a feature that varies less than this, relative to the one that varies most, is ignored
LEAST = 1e-12  # lowest probability, so that its logarithm is finite
NARROWEST, WIDEST = 0.01, 10.0  # root mean square of the scaled scores


Folds = list[tuple[list[int], list[int]]]


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


@dataclass(frozen=True, slots=True)
class Solution:
    """A solved head, and how it was chosen.

    `tensors` are the arguments of `SolvedHead.fill`. `rows` has for each strength, the weakest first:
    strength, gamma (for a kernel), and inner_loss and inner_accuracy if there were enough songs for inner
    folds. `best` is the number of the chosen row, from 0, `factor` the factor of the scores.
    """

    tensors: dict[str, Any]
    rows: list[dict[str, float]]
    best: int
    factor: float


@dataclass(frozen=True, slots=True)
class _Problem:
    """Windows in the order of their clips, and what is to be learned."""

    rows: np.ndarray  # (windows, features)
    targets: np.ndarray  # (clips, classes)
    clips: np.ndarray  # (windows,), ascending from 0

    @property
    def counts(self) -> np.ndarray:
        """Number of windows of each clip."""
        return np.bincount(self.clips)

    def part(self, clips: Sequence[int]) -> "_Problem":
        """Only some clips, given in ascending order."""
        windows = np.isin(self.clips, clips)
        return _Problem(self.rows[windows], self.targets[clips], np.searchsorted(clips, self.clips[windows]))

    def pooled(self, logits: np.ndarray) -> np.ndarray:
        """Probabilities (clips, classes): the mean over a clip's windows."""
        starts = np.cumsum(self.counts) - self.counts
        return np.add.reduceat(softmax(logits), starts) / self.counts[:, None]


def solve(
    rows: np.ndarray,
    targets: np.ndarray,
    clips: np.ndarray,
    songs: Sequence[str],
    *,
    solver: str,
    seed: int = 0,
    progress: Progress = lambda *_: None,
) -> Solution:
    """Solve for the head that tells clips apart.

    The same input gives the same bits on the same CPU with the same number of threads. The order of the clips
    changes the result by rounding only.

    Parameters
    ----------
    rows
        Features of each window, (windows, features).
    targets
        Distribution of labels of each clip, (clips, classes); each row sums to 1.
    clips
        Number of each window's clip, (windows,).
    songs
        Song of each clip.
    solver
        "ridge", "logistic" or "kernel".
    seed
        Chooses landmarks.
    progress
        Called as `progress(done, total)` after each fit. It may raise to stop.

    Raises
    ------
    RunError
        If a feature is not finite.
    """
    order = np.argsort(clips, kind="stable")
    problem = _Problem(np.asarray(rows, np.float64)[order], np.asarray(targets, np.float64), clips[order])
    if not np.isfinite(problem.rows).all():
        raise RunError("the network's embeddings have values that are not finite; use other weights")
    labels = [str(label) for label in problem.targets.argmax(axis=1)]
    folds = inner_folds(labels, songs, INNER)
    gammas = GAMMAS if solver == "kernel" else (None,)
    total = len(folds) * len(gammas) + 1
    if len(folds) >= 2:
        found = []
        for number, gamma in enumerate(gammas):
            fit = partial(fitted, solver=solver, gamma=gamma, seed=seed)
            found.append(_judged(problem, folds, fit, partial(_tell, progress, number * len(folds), total)))
        rows, best, factor = _chosen(found, gammas)
    else:
        rows, best = [_row(USUAL[solver], USUAL_GAMMA if solver == "kernel" else None)], 0
        factor = 1.0 if solver == "logistic" else float(problem.targets.shape[1])
    chosen = rows[best]
    final = fitted(
        problem.rows, problem.targets, problem.clips, solver=solver, gamma=chosen.get("gamma"), seed=seed,
        strengths=[chosen["strength"]],
    )  # fmt: skip
    progress(total, total)
    return Solution(_tensors(final, factor), rows, best, factor)


def _tell(progress: Progress, before: int, total: int, done: int) -> None:
    progress(before + done, total)


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
    """Fit one head for each strength. For the parameters see `solve`; `clips` must ascend from 0."""
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
    """exp(-gamma * mean squared difference) of rows (n, features) and centres, of shape (n, centres)."""
    squares = (rows**2).sum(axis=1)[:, None] + (centres**2).sum(axis=1) - 2 * rows @ centres.T
    return np.exp(-gamma / rows.shape[1] * np.maximum(squares, 0))


def _basis(rows: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Directions (features, r) of the weighted rows with their squared singular values (r,).

    From the smaller of the two Gram matrices. Directions without variance are left out.
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
    """Indices of `LANDMARKS` windows, chosen by hashes of their values: in any order the same, none twice."""
    salt = seed.to_bytes(8, "little")
    known = {blake2b(row.tobytes(), digest_size=16, salt=salt).digest(): i for i, row in enumerate(rows)}
    return np.array([known[digest] for digest in sorted(known)[:LANDMARKS]])


def _logistic(
    rows: np.ndarray, weights: np.ndarray, targets: np.ndarray, strengths: Sequence[float]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Weights (features, classes) and biases for each strength; biases are not penalised.

    The function is minimised in the basis of the rows, each direction scaled by about its curvature: a few
    steps then suffice. Each strength starts from the solution of the next larger one.
    """
    from scipy.optimize import minimize

    basis, squares = _basis(rows, weights)
    rotated, shares, classes = rows @ basis, weights / weights.sum(), targets.shape[1]
    found, start = {}, np.zeros((rotated.shape[1] + 1, classes))
    start[-1] = np.log(np.maximum(shares @ targets, LEAST))
    for strength in sorted(strengths, reverse=True):
        pace = np.append(1 / np.sqrt(squares / weights.sum() / classes + strength), 1.0)[:, None]
        inputs = np.hstack([rotated, np.ones((len(rotated), 1))]) * pace.T
        penalty = strength * pace**2
        penalty[-1] = 0
        best = minimize(
            _log_loss, (start / pace).ravel(), args=(inputs, shares, targets, penalty), jac=True,
            method="L-BFGS-B", options={"maxiter": 2000, "gtol": 1e-9, "ftol": 1e-15},
        )  # fmt: skip
        start = best.x.reshape(start.shape) * pace
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


def _judged(
    problem: _Problem, folds: Folds, fit: Callable[..., Fitted], tell: Callable[[int], None]
) -> list[dict[str, float]]:
    """For each strength inner_loss, inner_accuracy and factor, over the test clips of all inner folds."""
    parts, scores = [], []
    for number, (learned, tested) in enumerate(folds):
        own, other = problem.part(learned), problem.part(tested)
        found = fit(own.rows, own.targets, own.clips)
        scores.append(
            [
                (s, np.broadcast_to(b, s.shape))
                for s, b in zip(found.scores(other.rows), found.biases, strict=True)
            ]
        )
        parts.append(other)
        tell(number + 1)
    whole = _joined(parts)
    return [
        _scaled(whole, *(np.concatenate(each) for each in zip(*own, strict=True)))
        for own in zip(*scores, strict=True)
    ]


def _joined(parts: Sequence[_Problem]) -> _Problem:
    """Several parts as one, without their rows."""
    before = np.cumsum([0, *(len(part.targets) for part in parts)])
    clips = [part.clips + first for part, first in zip(parts, before, strict=False)]
    targets = np.concatenate([part.targets for part in parts])
    return _Problem(np.empty((0, 0)), targets, np.concatenate(clips))


def _scaled(problem: _Problem, scores: np.ndarray, biases: np.ndarray) -> dict[str, float]:
    """The factor of the scores (windows, classes) with the lowest log-loss of clips, and what it gives."""
    from scipy.optimize import minimize_scalar

    size = float(np.sqrt(np.mean(scores**2))) or 1.0

    def loss(logarithm: float) -> float:
        probabilities = problem.pooled(np.exp(logarithm) / size * scores + biases)
        return float(-(problem.targets * np.log(np.maximum(probabilities, LEAST))).sum(axis=1).mean())

    grid = np.linspace(np.log(NARROWEST), np.log(WIDEST), 13)
    losses = [loss(point) for point in grid]
    best = int(np.argmin(losses))
    bounds = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    closer = minimize_scalar(loss, bounds=bounds, method="bounded")
    least, point = min((losses[best], grid[best]), (float(closer.fun), closer.x))
    factor = float(np.exp(point) / size)
    named = problem.pooled(factor * scores + biases).argmax(axis=1)
    right = float(np.mean(named == problem.targets.argmax(axis=1)))
    return {"inner_loss": least, "inner_accuracy": right, "factor": factor}


def _chosen(
    found: Sequence[Sequence[dict[str, float]]], gammas: Sequence[float | None]
) -> tuple[list[dict[str, float]], int, float]:
    """A row for each strength, with the gamma that suits it best; the best row; and its factor."""
    rows, factors = [], []
    for strength, judged in zip(STRENGTHS, zip(*found, strict=True), strict=True):
        number = min(range(len(gammas)), key=lambda n, own=judged: own[n]["inner_loss"])
        own = dict(judged[number])
        factors.append(own.pop("factor"))
        rows.append(_row(strength, gammas[number]) | own)
    best = min(range(len(rows)), key=lambda n: rows[n]["inner_loss"])
    return rows, best, factors[best]


def _row(strength: float, gamma: float | None) -> dict[str, float]:
    return {"strength": strength} | ({} if gamma is None else {"gamma": gamma})


def _tensors(final: Fitted, factor: float) -> dict[str, Any]:
    """The arguments of `SolvedHead.fill`, with the factor in the weights."""
    found = {"mean": final.mean, "scale": final.scale, "bias": final.biases[0]}
    found |= {"weights": factor * final.weights[0]}
    return found if final.centres is None else found | {"centres": final.centres, "gamma": final.gamma}
