"""The baseline of every network: a support vector machine (SVM) on statistics of each clip's sound.

A network that is not better has learned nothing beyond statistics of mel bands, MFCC, chroma and onsets. The
SVM learns from the same clips as the network (training and validation part) and is tested on the same clips.
Runs with the same clips, labels, songs and split share one SVM, which is computed once and kept in MER_HOME.
"""

import json
from collections.abc import Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np

from mer.data.cache.controls import entry
from mer.data.cache.descriptors import SIZE, describe, settings
from mer.data.splits import Split, inner_folds, partition
from mer.experiments.prepared import PreparedClips
from mer.metrics.comparison import Rows, compare
from mer.metrics.predictions import score_rows
from mer.metrics.probabilities import softmax
from mer.utils.files import home, read_kept, write_atomic
from mer.utils.progress import Notify

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

__all__ = ["ENOUGH", "GRID", "TITLE", "baseline_rows", "fitted", "with_baseline"]

VERSION = 1  # of the method, and part of its key
TITLE = "fitting the SVM"
# C and kernel width; cross-validation over songs chooses the best pair.
GRID = [{"svc__C": c, "svc__gamma": g / SIZE} for c in (1.0, 3.0, 10.0, 30.0) for g in (0.1, 0.3, 1.0)]
USUAL = {"svc__C": 3.0, "svc__gamma": 0.3 / SIZE}  # if there are too few songs to choose
INNER = 4  # folds
ENOUGH = 2000  # clips used to choose settings; the time of an SVM grows with their square


def baseline_rows(data: PreparedClips, split: Split, notify: Notify) -> Rows:
    """Predict the test clips with an SVM.

    Parameters
    ----------
    data, split
        The prepared clips and their split.
    notify
        Called with the progress. It may raise an exception to stop.

    Returns
    -------
    list of dict
        One row per test clip, as from `PreparedClips.rows`. The probabilities are a softmax over the margins.
        They can be averaged over a song's clips, but are not calibrated.
    """
    place = home() / "baselines" / f"{_key(data, split)}.json"
    with data.store.alone(f"baseline-{place.stem}", lambda: notify(TITLE, 0, 1)):
        clips = [data.report.dataset.clips[i].id for i in split.test]
        rows = read_kept(place, lambda rows: rows if [row["clip"] for row in rows] == clips else None)
        if rows is None:
            rows = data.rows(split.test, _probabilities(data, split, notify))
            write_atomic(place, json.dumps(rows))
    return rows


def with_baseline(scores: dict[str, Any], own: Rows, rows: Rows, classes: Sequence[str]) -> dict[str, Any]:
    """Add the scores of the SVM to those of a run.

    Parameters
    ----------
    scores, own
        Scores and predictions of the run.
    rows
        Predictions of the SVM; if empty, the scores stay as they are.
    classes
        Names of the classes.

    Returns
    -------
    dict
        The scores, with `svm` {accuracy, song_accuracy, macro_f1, intervals, only_network, only_svm}. The
        last two are the numbers of songs that only the network or only the SVM gets right.
    """
    if not rows:
        return scores
    found = score_rows(rows, classes)
    names = ("accuracy", "song_accuracy", "macro_f1")
    intervals = {name: found["intervals"][name] for name in names}
    both = compare(own, rows, classes=classes)
    alone = {"only_network": both.only_first, "only_svm": both.only_second}
    return scores | {"svm": {name: found[name] for name in names} | {"intervals": intervals} | alone}


def _key(data: PreparedClips, split: Split) -> str:
    """Hash of all that the SVM's answers depend on: sound, labels, songs and parts."""
    clips, facts = data.report.dataset.clips, data.report.facts
    sounds = [entry(data.control, fact.file_hash) for fact in facts]
    tested, learned = set(split.test), {*split.train, *split.validation}
    songs = data.groups(range(len(clips)))
    rows = sorted((clips[i].id, sounds[i], clips[i].label, songs[i], i in tested) for i in tested | learned)
    return blake2b(
        json.dumps([VERSION, settings(data.config.audio), rows]).encode(), digest_size=12
    ).hexdigest()


def _probabilities(data: PreparedClips, split: Split, notify: Notify) -> np.ndarray:
    """Shares (test clips, classes) by an SVM that learned from all other clips."""
    report = data.report
    known = sorted((*split.train, *split.validation))
    clips = [(report.dataset.clips[i].path, report.facts[i].file_hash) for i in (*known, *split.test)]
    sound = describe(
        data.store,
        clips,
        audio=data.config.audio,
        control=data.control,
        progress=lambda done, total: notify("statistics for the SVM", done, total),
    )
    labels = np.array([data.classes.index(report.dataset.clips[i].label) for i in known])
    model = fitted(sound[: len(known)], labels, data.groups(known), notify)
    margins = model.decision_function(sound[len(known) :])
    if margins.ndim == 1:  # of two classes one margin is given
        margins = np.stack([-margins, margins], axis=1)
    return softmax(margins)


def fitted(sound: np.ndarray, labels: np.ndarray, songs: Sequence[str], notify: Notify) -> "Pipeline":
    """Fit an SVM with the settings that are best in a cross-validation over songs.

    Parameters
    ----------
    sound
        Descriptors, shape (clips, 229).
    labels
        Class numbers, shape (clips,).
    songs
        Song of each clip.
    notify
        Called with the progress.
    """
    return _svm().set_params(**_best_setting(sound, labels, songs, notify)).fit(sound, labels)


def _svm() -> "Pipeline":
    from sklearn.pipeline import make_pipeline  # takes two seconds
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    return make_pipeline(StandardScaler(), SVC(kernel="rbf"))


def _best_setting(
    sound: np.ndarray, labels: np.ndarray, songs: Sequence[str], notify: Notify
) -> dict[str, float]:
    """The setting of the grid with the best accuracy by cross-validation over songs."""
    from sklearn.model_selection import cross_val_score

    if len(labels) > ENOUGH:
        share = ENOUGH / len(labels)
        few, _ = partition([str(label) for label in labels], songs, [share, 1 - share], seed=0)
        sound, labels, songs = sound[few], labels[few], [songs[i] for i in few]
    folds = inner_folds([str(label) for label in labels], songs, INNER)
    if not folds:
        return USUAL
    scores = []
    for number, setting in enumerate(GRID):
        notify(TITLE, number, len(GRID))
        scores.append(cross_val_score(_svm().set_params(**setting), sound, labels, cv=folds).mean())
    notify(TITLE, len(GRID), len(GRID))
    return GRID[int(np.argmax(scores))]
