"""Homes for the tests of the dashboard.

own_home (tests/conftest.py)  an empty home, the default
lab                           a home with a data set and runs, shared by the session; a test that changes it
                              undoes the change
busy                          the lab while a run is running
spoiled, broken_database      homes with damaged files
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import streamlit as st
from streamlit.components.v2.component_manager import BidiComponentManager

from mer.data.library import add
from mer.experiments.baseline import with_baseline
from mer.experiments.experiment import Experiment
from mer.experiments.prepared import Spec
from mer.experiments.records import headline
from mer.metrics.predictions import score_rows
from mer.runs.store import RunStore
from mer.training.loop import Callback
from pages._ui.cached import datasets
from pages._ui.parts import launch
from tests.run_helpers import copy_home, tiny_config, write_songs


@pytest.fixture(autouse=True)
def no_search(monkeypatch):
    """Skip the search of all installed packages for components: 0.15 s a page, and mer has none."""
    monkeypatch.setattr(BidiComponentManager, "discover_and_register_components", lambda self, **how: None)


@pytest.fixture(autouse=True)
def own_main(monkeypatch):
    """Restore `__main__`, which Streamlit replaces by the page; new processes need the original."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


@pytest.fixture(autouse=True)
def forgetful():
    """Clear Streamlit's caches after each test; they belong to the process."""
    yield
    st.cache_data.clear()
    st.cache_resource.clear()


class Stop(Callback):
    """Asks for a stop in the second epoch, as Ctrl-C does."""

    def on_step(self, step):
        if step.epoch == 2:
            raise KeyboardInterrupt


class Fail(Callback):
    """Fails at the end of the first epoch."""

    def on_epoch(self, state):
        raise ZeroDivisionError("bad luck")


def _fill(home: Path, corpus: Path) -> SimpleNamespace:
    def train(callbacks=(), **changes):
        spec = Spec(data=str(corpus), config=tiny_config(**changes), command="python -m mer train")
        return Experiment(callbacks=list(callbacks)).train(spec).run_id

    lab = SimpleNamespace(home=home, corpus=corpus, entry=add(corpus))
    lab.first, lab.second, lab.elsewhere = train(), train(epochs=1, lr=0.1), train(epochs=1, test=0.5)
    lab.stopped = train([Stop()], epochs=2)
    with pytest.raises(ZeroDivisionError):
        train([Fail()], epochs=1)
    lab.failed = RunStore.open().runs()[0].id
    return lab


@pytest.fixture(scope="session")
def _lab(tmp_path_factory, empty_home):
    root = tmp_path_factory.mktemp("lab")
    copy_home(empty_home, root / "home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MER_HOME", str(root / "home"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return _fill(root / "home", write_songs(root / "songs"))


@pytest.fixture
def lab(_lab, monkeypatch):
    """A home with a data set of 16 clips and five runs on them: three finished, one stopped, one failed.

    `first` and `second` were tested on the same 4 clips, `elsewhere` on 8. `runs` is their store.
    """
    monkeypatch.setenv("MER_HOME", str(_lab.home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return SimpleNamespace(**vars(_lab), runs=RunStore.open())


@pytest.fixture
def checked(monkeypatch):
    """Skip the command that checks a data set; it takes seconds. The report is still computed."""
    monkeypatch.setattr(datasets, "run_mer", lambda *words, title: {})


@pytest.fixture
def unmeasured(monkeypatch):
    """Skip measuring how fast this machine trains."""
    monkeypatch.setattr(launch, "time_needed", lambda entry, specs: 100.0 * len(specs))


@contextmanager
def running(runs: RunStore, corpus: Path, **changes) -> Iterator[str]:
    """A run that this process appears to work on: 40 of 120 steps, 1 of 3 epochs done."""
    config = tiny_config(**changes)
    run_id = runs.create("a run under way", Spec(data=str(corpus), config=config).to_dict())
    runs.start(run_id)
    runs.tag(run_id, {"mer.steps": "120", "mer.data_name": "songs"})
    runs.log(run_id, [(step, {"step_loss": 1 / step, "step_accuracy": 0.5}) for step in range(1, 41)])
    runs.log(run_id, [(40, {"progress": 1 / 3, "seconds_left": 80.0})])
    runs.log(run_id, [(1, {"validation_loss": 0.9, "validation_accuracy": 0.25, "train_loss": 0.7})])
    try:
        yield run_id
    finally:
        runs.delete(run_id)


@pytest.fixture
def busy(lab):
    """The lab with an active run, `lab.running`."""
    with running(lab.runs, lab.corpus) as run_id:
        lab.running = run_id
        yield lab


@pytest.fixture
def damage():
    """`damage(path, content)` overwrites a file with garbage until the end of the test."""
    kept = {}

    def spoil(path: Path, content: bytes = b"\x00garbage, not JSON") -> None:
        kept.setdefault(path, path.read_bytes())
        path.write_bytes(content)

    yield spoil
    for path, content in kept.items():
        path.write_bytes(content)


@pytest.fixture
def spoiled(lab, damage):
    """The lab with scores, predictions and card of its first run damaged, and the library too."""
    damage(lab.runs.folder(lab.first, "evaluation") / "scores.json")
    damage(lab.runs.folder(lab.first, "evaluation") / "predictions.json")
    damage(lab.runs.folder(lab.first, "checkpoint") / "card.json")
    damage(lab.home / "library.json")
    yield lab
    (lab.home / "library.json.damaged").unlink(missing_ok=True)


@pytest.fixture
def broken_database(own_home):
    """A home whose database file is not a database."""
    own_home.mkdir()
    (own_home / "mlflow.db").write_bytes(b"not a database, but long enough a text for a header " * 40)
    return own_home


def _answers(rows, classes):
    """Predictions for rows of (clip, song, label, predicted); earlier rows have higher probabilities."""
    sure = np.linspace(0.9, 0.7, len(rows))[:, None]
    own = np.array([[said == label for label in classes] for *_, said in rows])
    shares = np.where(own, sure, (1 - sure) / (len(classes) - 1))
    return [
        {"clip": clip, "song": song, "label": label, "predicted": said,
         "probabilities": dict(zip(classes, map(float, part), strict=True))}
        for (clip, song, label, said), part in zip(rows, shares, strict=True)
    ]  # fmt: skip


@lru_cache
def _evaluation(rows, svm):
    """The files of a run's evaluation by name, as JSON; the intervals take most of the time."""
    classes = sorted({row[2] for row in rows} | {row[3] for row in rows})
    found, beside = _answers(rows, classes), _answers(svm, classes) if svm else []
    scores = with_baseline(score_rows(found, classes), found, beside, classes)
    content = {"scores": scores, "predictions": found, "svm": beside}
    return {name: json.dumps(part) for name, part in content.items() if part}


@pytest.fixture
def recorded(lab):
    """`recorded(rows, name=..., key=..., svm=...)` stores a finished run; nothing is trained.

    rows     tuples of (clip, song, label, predicted)
    key      names the test clips; runs with the same key are ranked together
    clips    names the clips before labels or sounds were exchanged (default: `key`)
    svm      rows predicted by an SVM on the same clips
    config   and further words go to the spec
    tags     further tags
    """
    made = []

    def record(rows, *, name="made up", key="made up", clips=None, svm=(), config=None, tags=None, **asked):
        files = _evaluation(tuple(rows), tuple(svm))

        def write(folder):
            for part, content in files.items():
                (folder / f"{part}.json").write_text(content, "utf-8")

        run_id = lab.runs.create(name, Spec(str(lab.corpus), config or tiny_config(), **asked).to_dict())
        made.append(run_id)
        lab.runs.save_folder(run_id, "evaluation", write)
        lab.runs.log(run_id, [(1, headline(json.loads(files["scores"])))])
        own = {"mer.test_hash": key, "mer.data_hash": clips or key, "mer.data_name": "songs"}
        lab.runs.tag(run_id, own | (tags or {}))
        lab.runs.finish(run_id, "finished")
        return run_id

    yield record
    for run_id in made:
        lab.runs.delete(run_id)
