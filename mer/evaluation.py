"""A checkpoint judged on a data set it may never have seen; labels are matched by name."""

from pathlib import Path
from typing import Any

import numpy as np

from mer.datasets import load_dataset
from mer.datasets.check import Report, check
from mer.ensembles import open_predictor
from mer.errors import DataError
from mer.inference import Predictor
from mer.material import Notify
from mer.metrics import evaluate
from mer.store import FeatureStore
from mer.windows import WindowSet

__all__ = ["evaluate_checkpoint"]


def evaluate_checkpoint(
    checkpoint: Path,
    data: Path,
    *,
    label_column: str = "label",
    song_column: str = "song",
    group_by_song: bool = True,
    notify: Notify | None = None,
) -> dict[str, Any]:
    """Scores of `mer.metrics.evaluate` over all usable clips; an ensemble's clips count as one window each.

    `trained_on_this_data` is true where the checkpoint learned from these very clips, which flatters it:
    its honest scores are those of the card. Raises DataError if a label is none of the checkpoint's
    classes, and CheckpointError.
    """
    predictor = open_predictor(checkpoint)
    classes = predictor.card.classes
    dataset = load_dataset(data, label_column=label_column, song_column=song_column)
    strange = sorted({clip.label for clip in dataset.clips} - set(classes))
    if strange:
        raise DataError(
            f"{data}: label {strange[0]!r} is none of the checkpoint's classes ({', '.join(classes)}); "
            "rename it, or choose the column that has them with --label-column"
        )
    store = FeatureStore.default()
    progress = (lambda done, total: notify("preparing clips", done, total)) if notify else None
    paths = [clip.path for clip in dataset.clips]
    for network in predictor.networks:
        config = network.card.config
        store.prepare(paths, audio=config.audio, mel=config.mel, progress=progress)
    report = check(dataset, store, group=group_by_song, trainable=False, progress=notify)
    answers = [_answers(network, report, store) for network in predictor.networks]
    scores = evaluate(
        np.array([classes.index(clip.label) for clip in report.dataset.clips]),
        predictor.joined([clips for clips, _ in answers]),
        groups=[clip.song or clip.id for clip in report.dataset.clips],
        classes=classes,
        windows=answers[0][1] if len(answers) == 1 else None,
    )
    return scores | {"trained_on_this_data": predictor.card.data.get("hash") == report.content_hash()}


def _answers(network: Predictor, report: Report, store: FeatureStore) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of each clip (clips, classes), and its windows that are right, and all (clips, 2)."""
    classes, config = network.card.classes, network.card.config
    windows = WindowSet(
        [store.load(fact, audio=config.audio, mel=config.mel) for fact in report.facts],
        [classes.index(clip.label) for clip in report.dataset.clips],
        classes=len(classes),
    )
    rows = np.concatenate([network.probabilities(batch) for batch in windows.batches()])
    return windows.pool(rows), windows.hits(rows)
