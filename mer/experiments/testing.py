"""Tests a trained network: the validation part gives its temperature, the test part its scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mer.audio.transforms import EvalTransform
from mer.data.splits import Split
from mer.data.windows import Windows
from mer.experiments.prepared import PreparedData
from mer.metrics.calibration import fit_temperature, tempered
from mer.metrics.scores import OUTSIDE
from mer.metrics.votes import agreement_with_votes
from mer.models.classifier import Classifier
from mer.training.embeddings import KeptEmbeddings
from mer.training.predict import Answers, window_probabilities

__all__ = ["Judged", "judge"]


@dataclass(frozen=True, slots=True)
class Judged:
    """Result of a network's test.

    Parameters
    ----------
    scores
        Scores of the test part, as `mer.metrics.evaluate` returns them.
    rows
        Predictions for the test part, one row of plain data per clip.
    validation
        Predictions for the validation part, one row per clip; empty if there is none.
    calibration
        `temperature`, and `songs` and `clips`: the numbers of validation songs and clips it was fitted on.
    """

    scores: dict[str, Any]
    rows: list[dict[str, Any]]
    validation: list[dict[str, Any]]
    calibration: dict[str, Any]


def judge(
    model: Classifier,
    material: PreparedData,
    split: Split,
    transform: EvalTransform,
    kept: KeptEmbeddings | None,
) -> Judged:
    """Fit the temperature on the validation part, and score the network on the test part.

    Parameters
    ----------
    model
        The trained network.
    material
        The prepared data.
    split
        Training, validation and test clips. Without validation clips the temperature is 1.
    transform
        Makes the network's input from images.
    kept
        Stored embeddings of a frozen network, or None.
    """

    def answers(part: Sequence[int]) -> tuple[Windows, np.ndarray, np.ndarray]:
        """Windows of a part, probabilities of their outputs, and pooling scores."""
        windows = material.windows(part)
        found = window_probabilities(model, windows, transform, material.config.train, embed=kept)
        return windows, *found

    temperature, validation, songs = 1.0, [], material.groups(split.validation)
    if len(split.validation):
        windows, found, scores = answers(split.validation)
        temperature = fit_temperature(
            windows.labels, songs, lambda t: windows.pool(tempered(found, t), scores)
        )
        own = Answers.of(windows, tempered(found, temperature), scores)
        validation = _rows(material, split.validation, own)
    windows, found, scores = answers(split.test)
    found = Answers.of(windows, tempered(found, temperature), scores)
    groups = material.groups(split.test)
    scores = found.scores(groups=groups, classes=material.classes)
    if material.voted:
        scores["agreement"] = agreement_with_votes(windows.targets, found.probabilities, groups)
    calibration = {"temperature": temperature, "songs": len(set(songs)), "clips": len(songs)}
    return Judged(scores, _rows(material, split.test, found), validation, calibration)


def _rows(material: PreparedData, part: Sequence[int], found: Answers) -> list[dict[str, Any]]:
    """Predictions as plain data, with counts of windows, and with answers outside the classes."""
    outside = np.zeros(len(part), bool) if found.outside is None else found.outside
    return [
        row | {"windows": counts} | ({"predicted": OUTSIDE} if strange else {})
        for row, counts, strange in zip(
            material.rows(part, found.probabilities), found.hits.tolist(), outside, strict=True
        )
    ]
