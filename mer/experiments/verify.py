"""Checks that a saved checkpoint gives the same answers as the test of its run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mer.experiments.prepared import PreparedData
from mer.inference.predictor import Predictor
from mer.utils.errors import RunError

__all__ = ["require_same_answers"]

CLIPS = 3
# Largest difference of a probability. On a GPU the test may use bfloat16, which has 8 bits, and TF32.
TOLERANCE = {"cpu": 1e-3}
TOLERANCE_ELSEWHERE = 0.05


def require_same_answers(
    checkpoint: Path, data: PreparedData, part: Sequence[int], rows: list[dict[str, Any]]
) -> None:
    """Predict a few test clips with a checkpoint as it is on disk, and compare.

    A clip is predicted from its audio file if that is unchanged, else from its images in the store. A network
    whose answers depend on the rest of the batch is only loaded.

    Parameters
    ----------
    checkpoint
        Folder with weights and card.
    data
        The prepared clips.
    part
        Indices of the test clips.
    rows
        The answers of the test, one row per test clip in the same order.

    Raises
    ------
    RunError
        If a probability differs by more than 0.001 (CPU) or 0.05 (other devices).
    CheckpointError
        If the checkpoint cannot be loaded.
    """
    predictor = Predictor(checkpoint, device=data.config.train.device)
    if not predictor.model.answers_alone:
        return
    most = TOLERANCE.get(predictor.device.type, TOLERANCE_ELSEWHERE)
    for place in sorted({round(share * (len(part) - 1)) for share in np.linspace(0, 1, CLIPS)}):
        tested = np.array([rows[place]["probabilities"][name] for name in predictor.card.classes])
        difference = float(np.abs(_answer(predictor, data, part[place]) - tested).max())
        if not difference <= most:
            raise RunError(
                f"the saved checkpoint gives other answers than the test: {rows[place]['clip']} differs by "
                f"{difference:.3f}; the run is not finished: report this with the command that started it"
            )


def _answer(predictor: Predictor, data: PreparedData, clip: int) -> np.ndarray:
    """Probabilities of a clip, (classes,)."""
    content = data.content(clip)
    if content is not None:
        return np.array(list(predictor.predict(content).probabilities.values()))
    windows = data.windows([clip])
    return predictor.respond(predictor.inputs(windows.images(np.arange(len(windows)))))[0]
