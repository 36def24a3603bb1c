"""Evaluation of a checkpoint on any data set. Labels are matched to classes by name."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mer.data.cache.store import FeatureStore
from mer.data.check import Report, check
from mer.data.clips import Dataset
from mer.data.load import load_dataset
from mer.data.notes import tell
from mer.data.song_names import AUTO
from mer.data.windows import WindowSet
from mer.inference.ensemble import open_predictor
from mer.inference.predictor import Predictor
from mer.metrics.votes import agreement_with_votes
from mer.training.predict import Answers
from mer.utils.errors import DataError
from mer.utils.progress import Notify

__all__ = ["evaluate_checkpoint"]


def evaluate_checkpoint(
    checkpoint: Path,
    data: Path,
    *,
    label_column: str = "label",
    song_column: str = "song",
    song_pattern: str = AUTO,
    drop_conflicts: bool = False,
    group_by_song: bool = True,
    notify: Notify | None = None,
) -> dict[str, Any]:
    """Evaluate a checkpoint on all usable clips of a data set.

    Parameters
    ----------
    checkpoint
        Folder of a network or an ensemble.
    data
        The data set, as `mer.data.load.load_dataset` reads it.
    label_column, song_column
        Columns of the manifest.
    song_pattern
        Pattern of file names that names songs; see `mer.data.load.load_dataset`.
    drop_conflicts
        Whether clips with the same audio in two classes are left out, not refused.
    group_by_song
        Find clips of the same song by sound if the data set names no songs.
    notify
        Called with the step, and the number of items done and of all items.

    Returns
    -------
    dict
        The scores of `mer.metrics.scores.evaluate`, and `trained_on_this_data`: true if the checkpoint was
        trained on exactly these clips, with these labels or others. Then these scores are too high; use those
        of the card. If listeners voted on the clips, also `agreement`. For an ensemble, each clip counts as
        one window.

    Raises
    ------
    DataError
        If a label is not a class of the checkpoint, no clip is usable, or the same audio has two labels.
    CheckpointError
        If the checkpoint cannot be loaded.
    """
    predictor = open_predictor(checkpoint)
    classes = predictor.card.classes
    dataset = load_dataset(
        data, label_column=label_column, song_column=song_column, song_pattern=song_pattern
    )
    _require_classes(dataset, data, classes)
    store = FeatureStore.default()
    progress = (lambda done, total: notify("preparing clips", done, total)) if notify else None
    paths = [clip.path for clip in dataset.clips]
    for network in predictor.networks:
        config = network.card.config
        store.prepare(paths, audio=config.audio, mel=config.mel, progress=progress)
    conflicts = "drop" if drop_conflicts else "refuse"
    report = check(dataset, store, group=group_by_song, trainable=False, conflicts=conflicts, progress=notify)
    tell(report, notify)
    found = [_answers(network, report, store) for network in predictor.networks]
    first, groups = found[0], [clip.song or clip.id for clip in report.dataset.clips]
    if predictor.card.members:
        together = predictor.joined([answers.probabilities for answers in found])
        first = replace(first, probabilities=together, hits=None, outside=None)
    scores = first.scores(groups=groups, classes=classes)
    if dataset.order:
        scores["agreement"] = agreement_with_votes(
            _votes(report.dataset, classes), first.probabilities, groups
        )
    known = {predictor.card.data.get(name) for name in ("hash", "sound")}  # older cards have only "hash"
    return scores | {"trained_on_this_data": bool(known & {report.content_hash(), report.sound_hash()})}


def _require_classes(dataset: Dataset, data: Path, classes: tuple[str, ...]) -> None:
    """Raise DataError if a label is none of the checkpoint's classes."""
    strange = sorted({*dataset.order, *(clip.label for clip in dataset.clips)} - set(classes))
    if strange:
        raise DataError(
            f"{data}: label {strange[0]!r} is none of the checkpoint's classes ({', '.join(classes)}); "
            "rename it, or choose the column that has them with --label-column"
        )


def _answers(network: Predictor, report: Report, store: FeatureStore) -> Answers:
    """The answers of one network to all clips."""
    classes, config = network.card.classes, network.card.config
    windows = WindowSet(
        [store.load(fact, audio=config.audio, mel=config.mel) for fact in report.facts],
        [classes.index(clip.label) for clip in report.dataset.clips],
        classes=len(classes),
    )
    found = [network.answers(batch) for batch in windows.batches()]
    return Answers.of(windows, *map(np.concatenate, zip(*found, strict=True)))


def _votes(dataset: Dataset, classes: tuple[str, ...]) -> np.ndarray:
    """Shares of votes (clips, classes) in the checkpoint's order of classes; 0 for classes without votes."""
    places = [classes.index(name) for name in dataset.order]
    votes = np.zeros((len(dataset.clips), len(classes)))
    votes[:, places] = [clip.votes for clip in dataset.clips]
    return votes
