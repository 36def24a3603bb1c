"""Killed processes: no run is lost or stuck, no file is half-written, and resumed runs end as undisturbed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mer.experiments.callbacks import LogMetrics
from mer.experiments.experiment import Experiment
from mer.experiments.prepared import Spec
from mer.jobs.queue import launch, log_path, relaunch
from mer.runs.run import drop_state, owner, state_path
from mer.runs.store import RunStore
from mer.training.loop import State, _Loop
from mer.utils.errors import StorageError
from mer.utils.files import leftovers, new_folder, write_atomic
from tests.jobs.test_detached import wait_for
from tests.run_helpers import tiny_config
from tests.tiny_backbone import tiny_zoo

ROOT = Path(__file__).parents[2]


class Killed(BaseException):
    """Plays SIGKILL of this process."""


@pytest.fixture(autouse=True)
def tiny_in_the_zoo():
    with tiny_zoo():
        yield


@pytest.fixture
def runs(runs_home):
    return RunStore.open()


@pytest.fixture
def dying(monkeypatch):
    """Runs that this process records belong to a process that was killed afterwards."""
    gone = json.dumps(json.loads(owner()) | {"born": 0.0})
    monkeypatch.setattr("mer.runs.store.owner", lambda: gone)


def kill_at(monkeypatch, place, name):
    def killed(*arguments, **named):
        raise Killed

    monkeypatch.setattr(place, name, killed)


def spec_of(corpus, **changes):
    config = tiny_config(backbone="tiny", freeze="head", standardize="window", **changes)
    return Spec(data=str(corpus), config=config)


# --- no run is lost or stuck ------------------------------------------------------------------------


def test_a_run_is_interrupted_if_its_process_was_killed(runs, dying):
    run_id = runs.create("one", {})
    assert runs.get(run_id).status == "interrupted"


def test_a_run_is_interrupted_if_its_process_was_killed_while_recording_it(runs, dying, monkeypatch):
    with monkeypatch.context() as patch:
        kill_at(patch, runs.client, "update_run")
        with pytest.raises(Killed):
            runs.create("one", {})
    assert runs.runs()[0].status == "interrupted"


def test_a_run_is_interrupted_if_its_process_was_killed_while_queueing_it_again(runs, dying, monkeypatch):
    run_id = runs.create("one", {})
    runs.tag(run_id, {"mer.owner": owner(), "mer.maker": owner()})  # another process, which is alive
    runs.client.update_run(run_id, status="RUNNING")
    with monkeypatch.context() as patch:
        kill_at(patch, runs.client, "update_run")
        with pytest.raises(Killed):
            runs.enqueue(run_id)
    assert runs.get(run_id).status == "interrupted"
    runs.enqueue(run_id)
    assert runs.get(run_id).status == "interrupted"


def test_a_run_whose_process_cannot_be_started_has_failed_and_can_be_launched_again(
    runs, song_corpus, monkeypatch
):
    def full(*words, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mer.jobs.queue.start_mer", full)
    with pytest.raises(StorageError, match="No space left on device; free some space"):
        launch(runs, spec_of(song_corpus))
    run = runs.runs()[0]
    assert (run.status, "No space left" in run.reason) == ("failed", True)
    with pytest.raises(StorageError, match="No space left on device"):
        relaunch(runs, run.id)
    assert runs.get(run.id).status == "failed"
    log_path(run.id).unlink(missing_ok=True)


def test_a_fold_whose_process_was_killed_right_after_recording_it_is_completed(
    runs, song_corpus, monkeypatch
):
    spec = spec_of(song_corpus, folds=2, epochs=1)
    plain, described = RunStore.tag, []

    def tag(self, run_id, tags):
        if "mer.data_hash" in tags:
            described.append(run_id)
            if len(described) == 2:  # the first is the cross-validation itself
                raise Killed
        return plain(self, run_id, tags)

    with monkeypatch.context() as patch:
        patch.setattr(RunStore, "tag", tag)
        with pytest.raises(Killed):
            Experiment().train(spec)
    parent = described[0]
    assert [fold.data_hash for fold in runs.children(parent)] == [None]
    assert Experiment().resume(parent).status == "finished"
    for fold in runs.children(parent):
        assert fold.data_hash
        assert fold.tags["mer.test_hash"]
        assert fold.classes == 2
    assert len(runs.children(parent)) == 2


# --- nothing that was done is lost ------------------------------------------------------------------


def test_epochs_that_a_killed_run_did_not_log_are_logged_when_it_is_resumed(runs):
    run_id = runs.create("one", {})
    rows = [{"epoch": n, "train_loss": 1 / n, "seconds": 0.5} for n in (1, 2, 3)]
    runs.log(run_id, [(1, {"train_loss": 1.0, "epoch_seconds": 0.5})])
    log = LogMetrics(runs, run_id)
    log.log_missing(State(epoch=3, history=rows, best_epoch=2))
    log.flush()
    assert runs.history(run_id, "train_loss") == [(1, 1.0), (2, 1 / 2), (3, 1 / 3)]
    assert [step for step, _ in runs.history(run_id, "epoch_seconds")] == [1, 2, 3]
    assert runs.get(run_id).metrics["best_epoch"] == 2


def test_steps_that_a_resumed_run_repeats_count_once(runs, monkeypatch):
    run_id = runs.create("one", {})
    for seconds, value in ((1, 0.5), (2, 0.25)):
        monkeypatch.setattr("time.time", lambda now=seconds: now)
        runs.log(run_id, [(1, {"step_loss": 1.0}), (2, {"step_loss": value})])
    assert runs.history(run_id, "step_loss") == [(1, 1.0), (2, 0.25)]


def test_a_run_killed_while_it_is_marked_as_finished_does_not_train_again(runs, song_corpus, monkeypatch):
    with monkeypatch.context() as patch:
        kill_at(patch, RunStore, "finish")
        with pytest.raises(Killed):
            Experiment().train(spec_of(song_corpus))
    run = runs.runs()[0]
    assert state_path(run.id).exists()
    runs.tag(run.id, {"mer.owner": json.dumps(json.loads(owner()) | {"born": 0.0})})
    kill_at(monkeypatch, _Loop, "_epoch")
    assert Experiment().resume(run.id).status == "finished"
    assert not state_path(run.id).parent.exists()


# --- nothing is halved, nothing is left over --------------------------------------------------------


@pytest.fixture
def operations(monkeypatch):
    """Record fsync and rename of files, in order, as (operation, name)."""
    done, sync, replace = [], os.fsync, os.replace

    def fsync(handle):
        done.append(("fsync", Path(os.readlink(f"/proc/self/fd/{handle}")).name))
        sync(handle)

    def rename(source, target):
        done.append(("rename", Path(target).name))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", rename)
    return done


@pytest.mark.skipif(sys.platform != "linux", reason="names of open files are read from /proc")
@pytest.mark.promise("A file or folder is on disk before it gets its name, and so is the name.")
def test_a_file_is_on_disk_before_it_gets_its_name_and_so_is_the_name(operations, tmp_path):
    write_atomic(tmp_path / "file", "content")
    (wrote, temporary), *rest = operations
    assert (wrote, temporary.startswith(".file.")) == ("fsync", True)
    assert rest == [("rename", "file"), ("fsync", tmp_path.name)]


@pytest.mark.skipif(sys.platform != "linux", reason="names of open files are read from /proc")
@pytest.mark.promise("A file or folder is on disk before it gets its name, and so is the name.")
def test_a_folder_is_on_disk_before_it_gets_its_name_and_so_is_the_name(operations, tmp_path):
    with new_folder(tmp_path / "folder") as draft:
        (draft / "one").write_text("1")
        (draft / "deeper").mkdir()
        (draft / "deeper" / "two").write_text("2")
    files_first, rest = operations[:-2], operations[-2:]
    assert sorted(files_first) == [
        ("fsync", "deeper"),
        ("fsync", "folder"),
        ("fsync", "one"),
        ("fsync", "two"),
    ]
    assert rest == [("rename", "folder"), ("fsync", tmp_path.name)]


def abandon(path, write):
    """Leave the temporary file of a process that was killed while writing."""
    done = path.with_name(f".{path.name}.abandoned")
    done.parent.mkdir(parents=True, exist_ok=True)
    write(done)
    assert leftovers(path) == [done]


def test_a_temporary_folder_of_a_killed_process_is_no_checkpoint_and_the_next_one_removes_it(runs):
    run_id = runs.create("one", {})
    runs.save_folder(run_id, "evaluation", lambda folder: (folder / "scores.json").write_text("{}"))
    place = runs.folder(run_id, "evaluation").parent / "checkpoint"
    abandon(place, lambda draft: (draft / "checkpoint").mkdir(parents=True))
    assert runs.folder(run_id, "checkpoint") is None
    runs.save_folder(run_id, "checkpoint", lambda folder: (folder / "card.json").write_text("{}"))
    assert sorted(path.name for path in place.parent.iterdir()) == ["checkpoint", "evaluation"]


def test_a_half_written_state_is_removed_with_the_state(own_home):
    path = state_path("abc")
    abandon(path, lambda draft: draft.write_bytes(b"half"))
    assert not path.exists()
    drop_state(path)
    assert not path.parent.exists()


def test_a_database_gets_its_name_only_when_complete_and_a_half_written_one_is_replaced(
    own_home, monkeypatch
):
    with monkeypatch.context() as patch:
        kill_at(patch, os, "replace")
        with pytest.raises(Killed):
            RunStore.open()
    assert not RunStore.exists()
    abandon(own_home / "mlflow.db", lambda draft: draft.write_bytes(b"half a database"))
    assert RunStore.open().runs() == []
    assert leftovers(own_home / "mlflow.db") == []


# --- the whole of it --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("count", [10, pytest.param(50, marks=pytest.mark.long)])
@pytest.mark.promise(
    "A run killed at any moment can be resumed to the weights of an undisturbed run.",
    measured="50 moments, 52 kills, 0 faults",
)
def test_a_run_killed_at_any_moment_can_be_resumed_to_the_same_weights(count):
    command = [sys.executable, "-m", "tests.killing", str(count), "--seed", "0"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["wrong"] == []
    assert found["runs"] == count
    assert found["ended"] >= 0.75 * count  # some runs are done before the moment comes
    if count == 50:
        assert {"preparing data", "training", "writing the state", "writing a checkpoint"} <= set(
            found["while"]
        )


LAUNCH = """
import os, signal, sys
from mer.jobs import queue as jobs
from mer.experiments.prepared import Spec
from mer.runs.store import RunStore
from tests.run_helpers import tiny_config
from tests.jobs.test_detached import wait_for

setattr(jobs, sys.argv[1], lambda *arguments: os.kill(os.getpid(), signal.SIGKILL))
jobs.launch(RunStore.open(), Spec(data=sys.argv[2], config=tiny_config(epochs=1)))
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("at", ["before its process is there", "right after"])
@pytest.mark.promise(
    "A launched run survives the death of the process that launched it.",
    measured="killed before and after the start",
)
def test_a_launched_run_survives_the_death_of_its_launcher(at, runs, song_corpus):
    name = {"before its process is there": "_spawn", "right after": "owner"}[at]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", LAUNCH, name, str(song_corpus)], env=environment)
    assert done.returncode == -signal.SIGKILL
    run = runs.runs()[0]
    if name == "_spawn":
        assert run.status == "interrupted"
        relaunch(runs, run.id)
    assert wait_for(runs, run.id, "finished", "failed").status == "finished"
