"""A trained network is judged: its temperature by the validation part, its scores by the test part."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from mer.augment import EvalTransform
from mer.backbones import Classifier
from mer.calibration import fit_temperature, tempered
from mer.frozen import KeptEmbeddings
from mer.material import Material
from mer.metrics import evaluate
from mer.splits import Split
from mer.training import window_probabilities
from mer.windows import WindowSet

__all__ = ["Judged", "judge"]

ENOUGH = 20  # validation clips; fewer say little about a temperature


@dataclass(frozen=True, slots=True)
class Judged:
    """What a network's test found out.

    `scores` are those of `mer.metrics.evaluate`; `rows` has one row of plain data a test clip; `calibration`
    says how its probabilities are to be tempered: {temperature, clips: validation clips it was fitted on}.
    """

    scores: dict[str, Any]
    rows: list[dict[str, Any]]
    calibration: dict[str, Any]


def judge(
    model: Classifier,
    material: Material,
    split: Split,
    transform: EvalTransform,
    kept: KeptEmbeddings | None,
) -> Judged:
    """Test a network on the test part, with probabilities tempered as the validation part says."""

    def answers(part: tuple[int, ...]) -> tuple[WindowSet, np.ndarray]:
        windows = material.windows(part)
        return windows, window_probabilities(model, windows, transform, material.config.train, embed=kept)

    temperature = 1.0
    if len(split.validation) >= ENOUGH:
        windows, found = answers(split.validation)
        temperature = fit_temperature(windows.labels, lambda t: windows.pool(tempered(found, t)))
    windows, found = answers(split.test)
    found = tempered(found, temperature)
    probabilities, hits = windows.pool(found), windows.hits(found)
    scores = evaluate(
        windows.labels,
        probabilities,
        groups=material.groups(split.test),
        classes=material.classes,
        windows=hits,
    )
    calibration = {"temperature": temperature, "clips": len(split.validation)}
    rows = material.rows(split.test, probabilities)
    rows = [row | {"windows": counts} for row, counts in zip(rows, hits.tolist(), strict=True)]
    return Judged(scores, rows, calibration)
