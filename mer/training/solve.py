"""Chooses and fits the head of a solved run: by ridge, logistic, or kernel ridge regression.

`mer.training.fitting` fits heads for given settings. This module chooses strength and gamma by the log-loss
of clips in inner folds that keep songs whole:

- For each strength, gamma is the one with the lowest loss.
- The strength is the usual one, unless another one is better than chance explains. All strengths whose loss
  is at most `CHANCE` standard errors above the lowest, paired over songs, count as equally good. Of these,
  the closest to the usual strength is chosen. With few songs the strength with the lowest loss changes from
  split to split, which costs accuracy (docs/results.md).

Scores of ridge regression are not logits. For each strength they are multiplied by one factor, so that their
softmax is calibrated. It is fitted on the predictions for the test clips of the inner folds.

References: the rule of one standard error, with two: Breiman, Friedman, Olshen and Stone, "Classification and
Regression Trees", 1984, section 3.4.3.
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
USUAL = {
    "ridge": 0.01,
    "logistic": 0.00316,
    "kernel": 0.00316,
}  # the best strengths on the songs of docs/results.md
CHANCE = 2.0  # standard errors
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
    songs: np.ndarray  # (clips,), a number for each song

    @classmethod
    def of(cls, rows: np.ndarray, targets: np.ndarray, clips: np.ndarray, songs: Sequence[str]) -> "_Problem":
        """The arguments of `solve`, sorted by clip and in float64."""
        order = np.argsort(clips, kind="stable")
        song = np.unique(songs, return_inverse=True)[1]
        return cls(np.asarray(rows, np.float64)[order], np.asarray(targets, np.float64), clips[order], song)

    @property
    def counts(self) -> np.ndarray:
        """Number of windows of each clip."""
        return np.bincount(self.clips)

    def part(self, clips: Sequence[int]) -> "_Problem":
        """Only some clips, given in ascending order."""
        windows = np.isin(self.clips, clips)
        numbers = np.searchsorted(clips, self.clips[windows])
        return _Problem(self.rows[windows], self.targets[clips], numbers, self.songs[clips])

    def pooled(self, logits: np.ndarray) -> np.ndarray:
        """Probabilities (clips, classes): the mean over a clip's windows."""
        starts = np.cumsum(self.counts) - self.counts
        return np.add.reduceat(softmax(logits), starts) / self.counts[:, None]


@dataclass(frozen=True, slots=True)
class _Tested:
    """How one strength and gamma did on the test clips of all inner folds."""

    loss: float  # mean over clips
    song_losses: np.ndarray  # (songs,), means over the clips of each song
    accuracy: float
    factor: float  # of the scores, so that they are calibrated


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
    problem = _Problem.of(rows, targets, clips, songs)
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
        rows, best, factor = _best_row(found, gammas, USUAL[solver])
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
) -> list[_Tested]:
    """Fit in every inner fold, and test each strength on the clips that were held out."""
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
    return _Problem(
        np.empty((0, 0)), targets, np.concatenate(clips), np.concatenate([part.songs for part in parts])
    )


def _calibrated(problem: _Problem, scores: np.ndarray, biases: np.ndarray) -> _Tested:
    """Find the factor of scores (windows, classes) with the lowest log-loss over clips, and what it gives."""
    from scipy.optimize import minimize_scalar

    size = float(np.sqrt(np.mean(scores**2))) or 1.0

    def losses(logarithm: float) -> np.ndarray:
        probabilities = problem.pooled(np.exp(logarithm) / size * scores + biases)
        return -(problem.targets * np.log(np.maximum(probabilities, LEAST))).sum(axis=1)

    def loss(logarithm: float) -> float:
        return float(losses(logarithm).mean())

    grid = np.linspace(np.log(NARROWEST), np.log(WIDEST), 13)
    found = [loss(point) for point in grid]
    best = int(np.argmin(found))
    bounds = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    closer = minimize_scalar(loss, bounds=bounds, method="bounded")
    least, point = min((found[best], grid[best]), (float(closer.fun), closer.x))
    factor = float(np.exp(point) / size)
    named = problem.pooled(factor * scores + biases).argmax(axis=1)
    songs = np.unique(problem.songs, return_inverse=True)[1]
    song_losses = np.bincount(songs, losses(point)) / np.bincount(songs)
    return _Tested(least, song_losses, float(np.mean(named == problem.targets.argmax(axis=1))), factor)


def _best_row(
    found: Sequence[Sequence[_Tested]], gammas: Sequence[float | None], usual: float
) -> tuple[list[dict[str, float]], int, float]:
    """A row for each strength, with the gamma that suits it best; the chosen row; and its factor."""
    numbers = [
        min(range(len(gammas)), key=lambda n, own=own: own[n].loss) for own in zip(*found, strict=True)
    ]
    tested = [found[number][n] for n, number in enumerate(numbers)]
    rows = [
        _row(strength, gammas[number]) | {"inner_loss": own.loss, "inner_accuracy": own.accuracy}
        for strength, number, own in zip(STRENGTHS, numbers, tested, strict=True)
    ]
    best = _chosen(tested, usual)
    return rows, best, tested[best].factor


def _chosen(tested: Sequence[_Tested], usual: float) -> int:
    """Number of the strength closest to the usual one, of those that are as good as the best."""
    lowest = min(tested, key=lambda own: own.loss)
    more = np.array([own.song_losses - lowest.song_losses for own in tested])
    error = more.std(axis=1, ddof=1) / np.sqrt(more.shape[1])
    good = np.flatnonzero(more.mean(axis=1) <= CHANCE * error)
    return int(min(good, key=lambda number: abs(number - STRENGTHS.index(usual))))


def _row(strength: float, gamma: float | None) -> dict[str, float]:
    return {"strength": strength} | ({} if gamma is None else {"gamma": gamma})


def _tensors(final: Fitted, factor: float) -> dict[str, Any]:
    """The arguments of `SolvedHead.fill`, with the factor in the weights."""
    found = {"mean": final.mean, "scale": final.scale, "bias": final.biases[0]}
    found |= {"weights": factor * final.weights[0]}
    return found if final.centres is None else found | {"centres": final.centres, "gamma": final.gamma}
