"""Measure the effect of temperatures: log-loss of cross-validations on their test clips, by several methods.

Everything is computed from stored runs, so networks, validation clips and test clips are the same in every
row. The stored temperature of a fold is undone, which is exact where each clip has one window.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, log
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from mer.metrics import calibration
from mer.metrics.calibration import LEAST, fit_temperature, tempered
from mer.models.card import load_card
from mer.runs.results import read_predictions, read_validation
from mer.runs.store import RunStore
from mer.utils.errors import RunError

OLD_BOUNDS, OLD_ENOUGH = (0.05, 20.0), 20  # of the temperature, and of clips, until it counted songs


@dataclass(frozen=True)
class Part:
    """Predictions for some clips: labels (clips,), songs, and untempered probabilities (clips, classes)."""

    truth: np.ndarray
    songs: list[str]
    rows: np.ndarray

    @classmethod
    def of(cls, kept: Sequence[dict[str, Any]], classes: Sequence[str], temperature: float) -> "Part":
        """From the rows of a run; raises RunError if a clip has several windows."""
        if any(row["windows"][1] != 1 for row in kept):
            raise RunError("clips of several windows cannot be untempered; use runs with clips of one window")
        said = np.array([[row["probabilities"][name] for name in classes] for row in kept])
        songs = [row["song"] or row["clip"] for row in kept]
        truth = np.array([classes.index(row["label"]) for row in kept])
        return cls(truth, songs, tempered(said, 1 / temperature))

    def losses(self, temperature: float) -> np.ndarray:
        """Negative log-likelihood of each label, nats (clips,)."""
        given = tempered(self.rows, temperature)[np.arange(len(self.truth)), self.truth]
        return -np.log(np.maximum(given, LEAST))


def unshrunk(part: Part) -> float:
    """The older fit of the temperature: by clips, without a prior, from 20 clips on."""
    if len(part.truth) < OLD_ENOUGH:
        return 1.0
    bounds = tuple(map(log, OLD_BOUNDS))
    return exp(minimize_scalar(lambda t: part.losses(exp(t)).mean(), bounds=bounds, method="bounded").x)


def shrunk(spread: float) -> Callable[[Part], float]:
    """The present fit of the temperature, with a prior of this width."""

    def fit(part: Part) -> float:
        calibration.SPREAD = spread
        return fit_temperature(part.truth, part.songs, lambda t: tempered(part.rows, t))

    return fit


def folds_of(runs: RunStore, name: str) -> list[tuple[Part, Part]]:
    """Validation and test part of each fold."""
    found = []
    for fold in runs.children(runs.get(name).id):
        card = load_card(runs.folder(fold.id, "checkpoint"))
        kept = (read_validation(runs, fold.id), read_predictions(runs, fold.id))
        found.append(tuple(Part.of(rows, card.classes, card.temperature) for rows in kept))
    if not found:
        raise RunError(f"run {name} has no folds; name a finished cross-validation")
    return found


def main() -> None:
    """Print a row for each run and method."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--spreads", nargs="+", type=float, default=[calibration.SPREAD], metavar="S")
    options = parser.parse_args()
    ways = {"none": lambda _: 1.0, "before": unshrunk}
    ways |= {f"spread {spread:g}": shrunk(spread) for spread in options.spreads}
    runs = RunStore.open()
    for name in options.runs:
        folds = folds_of(runs, name)
        songs = len(set(folds[0][0].songs))
        sys.stdout.write(f"{name}: {len(folds)} folds, {songs} songs to fit on in the first\n")
        plain = [test.losses(1.0) for _, test in folds]
        for way, fit in ways.items():
            temperatures = [fit(validation) for validation, _ in folds]
            lost = [test.losses(t) for t, (_, test) in zip(temperatures, folds, strict=True)]
            worse = sum(a.mean() > b.mean() + 1e-9 for a, b in zip(lost, plain, strict=True))
            said = ", ".join(f"{t:.2f}" for t in temperatures)
            row = (
                f"  {way:12} {np.concatenate(lost).mean():.4f} nats a clip, worse in {worse} folds ({said})\n"
            )
            sys.stdout.write(row)


if __name__ == "__main__":
    main()
