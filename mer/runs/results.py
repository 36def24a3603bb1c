"""Reads the results of finished runs: predictions of test clips, and scores.

All files are checked, even those that mer wrote, so callers need not check them. This module imports neither
torch nor MLflow.
"""

import json
import reprlib
from math import isclose
from typing import Any

from mer.data.apart import PARTED
from mer.metrics.scores import OUTSIDE
from mer.runs.run import Run
from mer.runs.store import RunStore
from mer.utils.errors import RunError

__all__ = ["read_baseline", "read_predictions", "read_scores", "read_validation", "test_key"]

SHARES = ("accuracy", "macro_f1", "song_accuracy", "majority", "chance")
INTERVALS = ("accuracy", "macro_f1", "song_accuracy")
NEWER = {  # scores that the first versions of mer did not record
    "calibration",
    "kappa",
    "n_windows",
    "window_accuracy",
}


def read_predictions(runs: RunStore, run_id: str) -> list[dict[str, Any]]:
    """A row per test clip: {clip, song or None, label, predicted, probabilities {class: 0 to 1}}.

    `predicted` is one of the classes, or `mer.metrics.scores.OUTSIDE`. Each clip occurs once, all rows have
    the same classes, and probabilities sum to 1. Empty if the run has no evaluation. Raises RunError if the
    file is damaged.
    """
    return _read_rows(runs, run_id, "predictions")


def read_validation(runs: RunStore, run_id: str) -> list[dict[str, Any]]:
    """Rows of the validation part, whose labels chose epoch and temperature.

    Empty for runs of an older mer, for runs without a validation part, and for a cross-validation, whose
    folds have their own. Raises RunError if the file is damaged.
    """
    return _read_rows(runs, run_id, "validation", optional=True)


def read_baseline(runs: RunStore, run_id: str) -> list[dict[str, Any]]:
    """Rows of the SVM beside the run; empty if there is none."""
    return _read_rows(runs, run_id, "svm", optional=True)


def _read_rows(runs: RunStore, run_id: str, name: str, *, optional: bool = False) -> list[dict[str, Any]]:
    rows = _read(runs, run_id, name, optional=optional)
    if rows is None:
        return []
    try:
        _check_rows(rows)
    except ValueError as error:
        raise _damaged(run_id, name, error) from error
    return rows


def read_scores(runs: RunStore, run_id: str) -> dict[str, Any] | None:
    """The scores of `mer.metrics.scores.evaluate` over the run's test clips; None if there are none.

    Raises RunError if the file is damaged.
    """
    scores = _read(runs, run_id, "scores")
    if scores is None:
        return None
    try:
        _check_scores(scores)
    except ValueError as error:
        raise _damaged(run_id, "scores", error) from error
    return scores


def test_key(run: Run) -> str | None:
    """A key that is equal for runs with the same data and the same test clips.

    It consists of the hash of the data and the hash of the test clips' names. For a cross-validation, which
    tests every clip once, the number of folds and the seed replace the latter. Control runs have keys of
    their own, and so have runs whose test songs were in training, and cross-validations that divide single
    clips. None if it is not known, as for a run that has not begun.
    """
    key = run.tags.get("mer.test_hash")
    if key is None or not run.data_hash:
        return None
    kind = (f", control: {run.control}" if run.control else "") + (f", {PARTED}" if run.leaky else "")
    if key:
        return f"{run.data_hash}, test {key}{kind}"
    try:
        split = run.spec["config"]["split"]
        folds, seed = split["folds"], split["seed"]
    except (KeyError, TypeError):
        return None
    kind = kind if split.get("group_by_song", True) else f", divided by clip{kind}"
    return f"{run.data_hash}, {folds} folds, seed {seed}{kind}" if folds else None


def _read(runs: RunStore, run_id: str, name: str, *, optional: bool = False) -> Any:
    """The content of a JSON file of the evaluation; None if the run does not have it."""
    folder = runs.folder(run_id, "evaluation")
    if folder is None or (optional and not (folder / f"{name}.json").exists()):
        return None
    try:
        content = json.loads((folder / f"{name}.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(run_id, name, error) from error
    if content is None:
        raise _damaged(run_id, name, "it is empty")
    return content


def _damaged(run_id: str, name: str, problem: object) -> RunError:
    return RunError(f"run {run_id[:8]}: its {name} cannot be read ({problem}); train it again")


def _require(condition: bool, name: str, value: object, wanted: str) -> None:
    """Raise ValueError unless the condition holds."""
    if not condition:
        raise ValueError(f"{name}={reprlib.repr(value)} should be {wanted}")


def _is_share(value: object) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _has_keys(value: object, keys: tuple[str, ...]) -> bool:
    return isinstance(value, dict) and value.keys() >= set(keys)


def _check_rows(rows: Any) -> None:
    """Raise ValueError unless these are rows as `mer.experiments.prepared.PreparedData.rows` makes them."""
    _require(isinstance(rows, list) and bool(rows), "rows", rows, "a list of at least one")
    clips = set()
    for row in rows:
        keys = ("clip", "song", "label", "predicted", "probabilities")
        _require(_has_keys(row, keys), "row", row, f"an object with {', '.join(keys)}")
        _require(isinstance(row["clip"], str), "clip", row["clip"], "text")
        _require(row["clip"] not in clips, "clip", row["clip"], "unique")
        clips.add(row["clip"])
        _require(isinstance(row["song"], str | None), "song", row["song"], "text or null")
        _check_windows(row.get("windows", [0, 1]))  # runs of an older mer have none
        _check_probabilities(row, rows[0]["probabilities"])
        _check_votes(row)


def _check_windows(windows: Any) -> None:
    right = isinstance(windows, list) and len(windows) == 2 and all(map(_is_count, windows))
    right = right and windows[0] <= windows[1] and windows[1] > 0
    _require(right, "windows", windows, "[right, all]")


def _check_votes(row: dict[str, Any]) -> None:
    votes = row.get("votes")
    if votes is None:
        return
    right = isinstance(votes, list) and all(map(_is_share, votes)) and isclose(sum(votes), 1, abs_tol=1e-3)
    _require(right and len(votes) == len(row["probabilities"]), "votes", votes, "shares of 1 by class")


def _check_probabilities(row: dict[str, Any], first: dict[str, float]) -> None:
    shares = row["probabilities"]
    right = isinstance(shares, dict) and all(map(_is_share, shares.values()))
    right = right and isclose(sum(shares.values()), 1, abs_tol=1e-3)
    _require(right, "probabilities", shares, "shares of 1 by class")
    _require(shares.keys() == first.keys(), "probabilities", shares, "of the same classes in all rows")
    for name, also in (("label", ()), ("predicted", (OUTSIDE,))):
        known = isinstance(row[name], str) and row[name] in (*shares, *also)
        _require(known, name, row[name], "one of the classes")


def _check_scores(scores: Any) -> None:
    """Raise ValueError unless these are scores as `mer.metrics.scores.evaluate` makes them."""
    keys = (*SHARES, "intervals", "per_class", "confusion", "classes", "n_clips", "n_songs")
    _require(_has_keys(scores, keys), "scores", scores, f"an object with {', '.join(keys)}")
    for name in SHARES:
        _require(_is_share(scores[name]), name, scores[name], "from 0 to 1")
    for name in ("n_clips", "n_songs"):
        _require(_is_count(scores[name]), name, scores[name], "a whole number")
    classes = scores["classes"]
    named = isinstance(classes, list) and bool(classes) and all(isinstance(name, str) for name in classes)
    _require(named and len(set(classes)) == len(classes), "classes", classes, "a list of different names")
    _check_confusion(scores["confusion"], len(classes), int("outside" in scores))
    _require(_is_share(scores.get("outside", 0)), "outside", scores.get("outside"), "from 0 to 1")
    _check_intervals(scores["intervals"])
    if "svm" in scores:
        svm = scores["svm"]
        right = _has_keys(svm, (*INTERVALS, "intervals")) and all(_is_share(svm[name]) for name in INTERVALS)
        _require(right, "svm", svm, f"an object with {', '.join(INTERVALS)} and intervals")
        _check_intervals(svm["intervals"])
        for name in ("only_network", "only_svm"):  # not recorded by older versions of mer
            _require(_is_count(svm.get(name, 0)), name, svm.get(name), "a whole number")
    if NEWER & set(scores):
        _check_newer(scores)
    if "agreement" in scores:
        _check_agreement(scores["agreement"])
    table = scores["per_class"]
    _require(isinstance(table, dict) and set(table) == set(classes), "per_class", table, "one row a class")
    for row in table.values():
        shares = ("precision", "recall", "f1")
        right = _has_keys(row, (*shares, "support")) and all(_is_share(row[key]) for key in shares)
        _require(right and _is_count(row["support"]), "per_class", row, "precision, recall, f1 and support")


def _check_confusion(matrix: Any, size: int, more: int) -> None:
    """Check a matrix of `size` rows. `more` is 1 if it may have a column for none of the classes, else 0."""
    rows = matrix if isinstance(matrix, list) else []
    right = len(rows) == size and all(isinstance(row, list) for row in rows)
    right = right and {len(row) for row in rows} in ({size}, {size + more})
    right = right and all(_is_count(cell) for row in rows for cell in row)
    _require(right, "confusion", matrix, f"{size} rows of {size} counts")


def _check_newer(scores: dict[str, Any]) -> None:
    """Check the scores that older versions of mer did not record. Raises ValueError."""
    _require(set(scores) >= NEWER, "scores", scores, f"an object with {', '.join(sorted(NEWER))}")
    _require(
        _is_share(scores["window_accuracy"]), "window_accuracy", scores["window_accuracy"], "from 0 to 1"
    )
    _require(_is_count(scores["n_windows"]), "n_windows", scores["n_windows"], "a whole number")
    kappa, found = scores["kappa"], scores["calibration"]
    _require(_is_number(kappa) and -1 <= kappa <= 1, "kappa", kappa, "from -1 to 1")
    right = _has_keys(found, ("error", "bins")) and _is_share(found["error"])
    _require(right and isinstance(found["bins"], list), "calibration", found, "error and bins")
    for row in found["bins"]:
        shares = ("low", "high", "confidence", "accuracy")
        right = _has_keys(row, (*shares, "count")) and all(_is_share(row[key]) for key in shares)
        _require(right and _is_count(row["count"]), "bin", row, "low, high, confidence, accuracy and count")


def _check_agreement(found: Any) -> None:
    """Raise ValueError unless these are figures as `mer.metrics.votes.agreement` makes them."""
    names = ("overlap", "divergence", "votes_won", "most_votes", "usual")
    right = _has_keys(found, names) and all(_is_share(found[name]) for name in names)
    _require(right, "agreement", found, f"shares {', '.join(names)}")


def _check_intervals(intervals: Any) -> None:
    _require(_has_keys(intervals, INTERVALS), "intervals", intervals, f"those of {', '.join(INTERVALS)}")
    for name in INTERVALS:
        pair = intervals[name]
        right = isinstance(pair, list) and len(pair) == 2 and all(map(_is_share, pair)) and pair[0] <= pair[1]
        _require(right, f"interval of {name}", pair, "[low, high] from 0 to 1")
