"""Chooses and fits the head of a solved run: by ridge, logistic, or kernel ridge regression.

`mer.training.fitting` fits heads for given settings. This module chooses strength and gamma: those with the
lowest log-loss of clips in inner folds that keep songs whole. Scores of ridge regression are not logits. For
each strength they are multiplied by one factor, so that their softmax is calibrated. It is fitted on the
predictions for the test clips of the inner folds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from mer.data.splits import inner_folds
from mer.metrics.probabilities import softmax
from mer.training.fitting import LEAST, STRENGTHS, Fitted, fitted
from mer.utils.errors import RunError
from mer.utils.parallel import Progress, part_progress

__all__ = ["GAMMAS", "USUAL", "Solution", "solve"]

GAMMAS = (0.1, 0.3, 1.0)
USUAL = {"ridge": 0.1, "logistic": 0.01, "kernel": 0.1}  # strengths if there are too few songs to choose
USUAL_GAMMA = 0.3
INNER = 5  # folds
NARROWEST, WIDEST = 0.01, 10.0  # root mean square of the scaled scores

Folds = list[tuple[list[int], list[int]]]


@dataclass(frozen=True, slots=True)
class Solution:
    """A solved head, and how it was chosen.

    `tensors` are the arguments of `SolvedHead.fill`. `rows` has for each strength, the weakest first:
    strength, gamma (for a kernel), and inner_loss and inner_accuracy if there were enough songs for inner
    folds. `best` is the index of the chosen row. `factor` is the factor of the scores.
    """

    tensors: dict[str, Any]
    rows: list[dict[str, float]]
    best: int
    factor: float


@dataclass(frozen=True, slots=True)
class _Problem:
    """Windows in the order of their clips, and the distributions to learn."""

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
    """Fit a head to the embeddings of clips.

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
            found.append(
                _test_in_folds(problem, folds, fit, part_progress(progress, number * len(folds), total))
            )
        rows, best, factor = _best_row(found, gammas)
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


def _test_in_folds(
    problem: _Problem, folds: Folds, fit: Callable[..., Fitted], progress: Progress
) -> list[dict[str, float]]:
    """Fit in every inner fold; returns inner_loss, inner_accuracy and factor for each strength."""
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
        progress(number + 1, len(folds))
    whole = _joined(parts)
    return [
        _calibrated(whole, *(np.concatenate(each) for each in zip(*own, strict=True)))
        for own in zip(*scores, strict=True)
    ]


def _joined(parts: Sequence[_Problem]) -> _Problem:
    """Several parts as one, without their rows."""
    before = np.cumsum([0, *(len(part.targets) for part in parts)])
    clips = [part.clips + first for part, first in zip(parts, before, strict=False)]
    targets = np.concatenate([part.targets for part in parts])
    return _Problem(np.empty((0, 0)), targets, np.concatenate(clips))


def _calibrated(problem: _Problem, scores: np.ndarray, biases: np.ndarray) -> dict[str, float]:
    """Find the factor of scores (windows, classes) with the lowest log-loss over clips.

    Returns inner_loss, inner_accuracy and factor.
    """
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


def _best_row(
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
