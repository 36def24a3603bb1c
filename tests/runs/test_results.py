"""What is kept of a finished run is read again, and refused where it is damaged."""

import copy
import json
import subprocess
import sys

import numpy as np
import pytest

from mer.metrics.scores import evaluate
from mer.runs import results
from mer.runs.results import NEWER, read_predictions, read_scores
from mer.runs.store import RunStore
from mer.utils.errors import RunError

NAMES = ("Happy", "Sad")
SHARES = np.array([[0.75, 0.25], [0.25, 0.75], [0.6, 0.4]])
ROWS = [
    {
        "clip": f"{n}.wav",
        "song": song,
        "label": "Happy",
        "predicted": NAMES[row.argmax()],
        "probabilities": dict(zip(NAMES, row.tolist(), strict=True)),
    }
    for n, (song, row) in enumerate(zip(("दिल", "दिल", None), SHARES, strict=True))
]
SCORES = evaluate(np.zeros(3, int), SHARES, groups=["a", "a", "b"], classes=NAMES)
MISSING = object()


@pytest.fixture
def runs(runs_home, module_home):
    """One run store for all tests here, which each make runs of their own."""
    return RunStore.open()


@pytest.fixture
def kept(runs):
    """kept(text, name) -> id of a run whose evaluation has that text in <name>.json."""

    def keep(text, name):
        run_id = runs.create("one", {})
        runs.save_folder(run_id, "evaluation", lambda folder: (folder / f"{name}.json").write_bytes(text))
        return run_id

    return keep


def as_json(data):
    return json.dumps(data, ensure_ascii=False).encode()


def changed(data, path, value):
    """A copy of nested data with one place changed, or taken away."""
    data = copy.deepcopy(data)
    *way, last = path
    place = data
    for step in way:
        place = place[step]
    if value is MISSING:
        del place[last]
    else:
        place[last] = value
    return data


def test_predictions_and_scores_come_back_as_they_were_kept(runs, kept):
    assert read_predictions(runs, kept(as_json(ROWS), "predictions")) == ROWS
    assert read_scores(runs, kept(as_json(SCORES), "scores")) == SCORES


def test_a_run_without_an_evaluation_has_neither(runs):
    run_id = runs.create("one", {})
    assert read_predictions(runs, run_id) == []
    assert read_scores(runs, run_id) is None


@pytest.mark.parametrize(("read", "name"), [(read_predictions, "predictions"), (read_scores, "scores")])
@pytest.mark.parametrize(
    "text",
    [
        b"",
        as_json(ROWS)[:-9],
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b"null",
        b"1",
        b"{}",
        b"[]",
        b'"rows"',
        b"[1]",
        b"[null]",
        b"[[]]",
    ],
    ids=lambda text: repr(text[:8]),
)
def test_damaged_files_are_refused_with_the_run_and_the_remedy(runs, kept, read, name, text):
    run_id = kept(text, name)
    with pytest.raises(
        RunError, match=rf"run {run_id[:8]}: its {name} cannot be read \(.+\); train it again"
    ):
        read(runs, run_id)


def test_an_evaluation_that_lacks_its_file_is_refused(runs, kept):
    run_id = kept(b"[]", "history")
    for read in (read_predictions, read_scores):
        with pytest.raises(RunError, match="cannot be read"):
            read(runs, run_id)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ((0, "clip"), MISSING, "an object with clip, song, label, predicted, probabilities"),
        ((0, "song"), MISSING, "an object with clip, song"),
        ((0, "clip"), 7, "clip=7 should be text"),
        ((0, "clip"), ["x"], "should be text"),
        ((1, "clip"), "0.wav", "clip='0.wav' should be unique"),
        ((2, "song"), 7, "song=7 should be text or null"),
        ((0, "votes"), [1.0], "should be shares of 1 by class"),
        ((0, "votes"), [0.5, 0.6], "should be shares of 1 by class"),
        ((0, "votes"), {"Happy": 1}, "should be shares of 1 by class"),
        ((0, "windows"), [1], r"windows=\[1\] should be \[right, all\]"),
        ((0, "windows"), [2, 1], r"should be \[right, all\]"),
        ((0, "windows"), [0, 0], r"should be \[right, all\]"),
        ((0, "windows"), "12", r"should be \[right, all\]"),
        ((0, "label"), "Party", "label='Party' should be one of the classes"),
        ((0, "predicted"), None, "predicted=None should be one of the classes"),
        ((0, "predicted"), [], "should be one of the classes"),
        ((0, "probabilities"), [0.75, 0.25], "should be shares of 1 by class"),
        ((0, "probabilities"), {}, "should be shares of 1 by class"),
        ((0, "probabilities", "Sad"), "0.25", "should be shares of 1"),
        ((0, "probabilities", "Sad"), 0.5, "should be shares of 1"),
        ((0, "probabilities", "Sad"), float("nan"), "should be shares of 1"),
        ((1, "probabilities"), {"Happy": 0.5, "Party": 0.5}, "of the same classes in all rows"),
    ],
)
def test_rows_of_the_wrong_shape_are_refused(runs, kept, path, value, message):
    run_id = kept(as_json(changed(ROWS, path, value)), "predictions")
    with pytest.raises(RunError, match=message):
        read_predictions(runs, run_id)


def test_scores_and_rows_of_an_older_version_are_read(runs, kept):
    older = {key: value for key, value in SCORES.items() if key not in NEWER}
    assert read_scores(runs, kept(as_json(older), "scores")) == older
    assert "windows" not in ROWS[0]


@pytest.mark.parametrize("key", sorted(NEWER))
def test_scores_with_a_part_of_what_is_new_are_refused(runs, kept, key):
    run_id = kept(as_json(changed(SCORES, (key,), MISSING)), "scores")
    with pytest.raises(RunError, match="should be an object with calibration, kappa"):
        read_scores(runs, run_id)


@pytest.mark.parametrize("key", sorted(set(SCORES) - NEWER))
def test_scores_that_lack_something_are_refused(runs, kept, key):
    run_id = kept(as_json(changed(SCORES, (key,), MISSING)), "scores")
    with pytest.raises(RunError, match="should be an object with accuracy"):
        read_scores(runs, run_id)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("accuracy",), 1.5, "accuracy=1.5 should be from 0 to 1"),
        (("kappa",), -1.5, "kappa=-1.5 should be from -1 to 1"),
        (("kappa",), True, "kappa=True should be from -1 to 1"),
        (("window_accuracy",), None, "window_accuracy=None should be from 0 to 1"),
        (("n_windows",), 2.5, "n_windows=2.5 should be a whole number"),
        (("calibration",), 0.1, "calibration=0.1 should be error and bins"),
        (("calibration", "error"), 2, "should be error and bins"),
        (("calibration", "bins"), {}, "should be error and bins"),
        (("calibration", "bins", 0), [], "bin=.* should be low, high, confidence"),
        (("calibration", "bins", 0, "accuracy"), 1.1, "should be low, high, confidence"),
        (("calibration", "bins", 0, "count"), -1, "should be low, high, confidence"),
        (("agreement",), None, "agreement=None should be shares overlap, divergence"),
        (("agreement",), {"overlap": 0.5}, "should be shares overlap, divergence"),
        (("majority",), True, "majority=True should be from 0 to 1"),
        (("n_clips",), 2.5, "n_clips=2.5 should be a whole number"),
        (("classes",), ["Happy", "Happy"], "a list of different names"),
        (("classes",), [[], {}], "a list of different names"),
        (("classes",), "HS", "a list of different names"),
        (("confusion",), [[1, 2, 3], [1, 2, 3]], "2 rows of 2 counts"),
        (("confusion",), [[1, 2]], "2 rows of 2 counts"),
        (("confusion", 0, 0), -1, "2 rows of 2 counts"),
        (("confusion",), {}, "2 rows of 2 counts"),
        (("intervals", "macro_f1"), MISSING, "should be those of accuracy, macro_f1, song_accuracy"),
        (("intervals", "accuracy"), [0.5], r"\[low, high\] from 0 to 1"),
        (("intervals", "accuracy"), [0.5, 0.2], r"\[low, high\] from 0 to 1"),
        (("intervals", "accuracy"), {"low": 0, "high": 1}, r"\[low, high\] from 0 to 1"),
        (("per_class",), [], "one row a class"),
        (("per_class", "Sad"), MISSING, "one row a class"),
        (("per_class", "Sad"), None, "precision, recall, f1 and support"),
        (("per_class", "Sad", "f1"), None, "precision, recall, f1 and support"),
        (("per_class", "Sad", "support"), 0.5, "precision, recall, f1 and support"),
    ],
)
def test_scores_of_the_wrong_shape_are_refused(runs, kept, path, value, message):
    run_id = kept(as_json(changed(SCORES, path, value)), "scores")
    with pytest.raises(RunError, match=message):
        read_scores(runs, run_id)


# --- what a run was tested on -----------------------------------------------------------------------


def key_of(runs, tags, folds=0, seed=0, spec=None):
    run_id = runs.create("one", spec or {"config": {"split": {"folds": folds, "seed": seed}}})
    runs.tag(run_id, tags)
    return results.test_key(runs.get(run_id))


def test_the_key_of_a_single_run_tells_data_and_test_clips_apart(runs):
    key = key_of(runs, {"mer.test_hash": "abc", "mer.data_hash": "d"})
    assert key == key_of(runs, {"mer.test_hash": "abc", "mer.data_hash": "d"})
    assert key != key_of(runs, {"mer.test_hash": "abd", "mer.data_hash": "d"})
    assert key != key_of(runs, {"mer.test_hash": "abc", "mer.data_hash": "e"})


def test_a_cross_validation_has_the_key_of_its_clips_folds_and_seed(runs):
    tags = {"mer.test_hash": "", "mer.data_hash": "d"}
    key = key_of(runs, tags, folds=5)
    assert key == key_of(runs, tags, folds=5)
    others = [
        key_of(runs, tags, folds=4),
        key_of(runs, tags, folds=5, seed=1),
        key_of(runs, tags | {"mer.data_hash": "e"}, folds=5),
    ]
    assert None not in {key, *others}
    assert key not in others


def test_the_key_of_a_run_that_has_not_begun_is_unknown(runs):
    assert key_of(runs, {}) is None
    assert key_of(runs, {"mer.test_hash": ""}, folds=5) is None


@pytest.mark.parametrize("spec", [{"config": 1}, {"config": {"split": {"folds": 5}}}, {"data": "x"}])
def test_settings_that_cannot_be_read_give_no_key(runs, spec):
    assert key_of(runs, {"mer.test_hash": "", "mer.data_hash": "d"}, spec=spec) is None


def test_reading_and_comparing_import_neither_torch_nor_mlflow():
    code = (
        "import sys, mer.runs.results, mer.metrics.comparison, mer.experiments.study2022.published; "
        "sys.exit(bool({'torch', 'mlflow', 'scipy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
