"""Runs are kept in MLflow and come back as plain data."""

import json
import os
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from mer.runs.run import owner
from mer.runs.store import RunStore
from mer.utils.errors import RunError, StorageError


@pytest.fixture
def runs(runs_home, module_home):
    """One run store for all tests here, which each make runs of their own."""
    return RunStore.open()


SPEC = {"data": "demo", "config": {"train": {"lr": 0.1}}}


def test_a_new_run_is_queued_and_keeps_what_was_asked_for(runs):
    run = runs.get(runs.create("one", SPEC))
    assert (run.status, run.name, run.spec) == ("queued", "one", SPEC)


def test_settings_are_also_mlflow_parameters(runs):
    run_id = runs.create("one", SPEC)
    assert runs.client.get_run(run_id).data.params == {"data": "demo", "config.train.lr": "0.1"}


def test_a_started_run_is_running_while_its_process_lives(runs):
    run_id = runs.create("one", SPEC)
    runs.start(run_id)
    assert runs.get(run_id).status == "running"


def test_a_running_run_whose_process_is_gone_is_interrupted(runs):
    run_id = runs.create("one", SPEC)
    runs.start(run_id)
    gone = json.loads(runs.get(run_id).tags["mer.owner"]) | {"pid": 2**22 + 1}
    runs.tag(run_id, {"mer.owner": json.dumps(gone)})
    assert runs.get(run_id).status == "interrupted"


def test_a_later_process_with_the_same_number_is_not_taken_for_the_runs_own(runs):
    run_id = runs.create("one", SPEC)
    runs.start(run_id)
    earlier = json.loads(runs.get(run_id).tags["mer.owner"])
    runs.tag(run_id, {"mer.owner": json.dumps(earlier | {"born": earlier["born"] - 1000})})
    assert runs.get(run_id).status == "interrupted"


def test_a_run_on_another_machine_is_believed_to_run(runs):
    run_id = runs.create("one", SPEC)
    runs.start(run_id)
    runs.tag(run_id, {"mer.owner": json.dumps({"host": "elsewhere", "pid": 1, "born": 0})})
    assert runs.get(run_id).status == "running"


def test_the_owner_and_patience_of_a_worker_do_not_change_the_store_of_others(runs):
    elsewhere = json.dumps({"host": "elsewhere", "pid": 1, "born": 0})
    worker, run_id = runs.for_worker(owner=elsewhere, patience=60), runs.create("one", SPEC)
    worker.start(run_id)
    assert runs.get(run_id).host == "elsewhere"
    assert (RunStore.open().owner, RunStore.open().patience) == (owner(), 0)


def test_a_workers_store_keeps_its_owner_when_its_patience_changes(runs):
    worker = runs.for_worker(owner="someone").for_worker(patience=60)
    assert (worker.owner, worker.patience) == ("someone", 60)


@pytest.mark.parametrize("status", ["finished", "failed", "stopped"])
def test_an_ended_run_says_how_and_why(runs, status):
    run_id = runs.create("one", SPEC)
    runs.start(run_id)
    runs.finish(run_id, status, reason="because")
    run = runs.get(run_id)
    assert (run.status, run.reason) == (status, "because")
    assert run.ended >= run.started


def test_the_time_of_the_work_leaves_out_the_wait_in_the_queue(runs, monkeypatch):
    run_id = runs.create("one", SPEC)
    made = runs.get(run_id).started
    monkeypatch.setattr(runs, "now", lambda: made + 100)
    runs.start(run_id)
    assert runs.get(run_id).began == pytest.approx(made + 100, abs=0.1)
    monkeypatch.setattr(runs, "now", lambda: made + 130)
    runs.finish(run_id, "stopped")
    assert runs.get(run_id).worked == pytest.approx(30, abs=0.2)
    runs.enqueue(run_id)
    assert runs.get(run_id).began is None
    monkeypatch.setattr(runs, "now", lambda: made + 500)
    runs.start(run_id)
    monkeypatch.setattr(runs, "now", lambda: made + 512)
    runs.finish(run_id, "finished")
    assert runs.get(run_id).worked == pytest.approx(42, abs=0.4)


def test_a_run_that_was_cancelled_in_the_queue_has_not_worked(runs):
    run_id = runs.create("one", SPEC)
    runs.finish(run_id, "stopped")
    assert runs.get(run_id).worked == 0


def test_a_run_of_an_older_mer_has_worked_since_it_was_recorded(runs):
    run = runs.get(runs.create("one", SPEC))
    old = replace(run, status="finished", ended=run.started + 9, tags={"mer.began": "?"})
    assert (old.worked, old.waited, old.began) == (9, None, None)
    assert replace(old, tags={"mer.worked": "4"}).waited == pytest.approx(5)
    assert (run.worked, run.waited) == (None, None)


def test_a_stop_request_is_seen_and_a_new_start_forgets_it(runs):
    run_id = runs.create("one", SPEC)
    runs.start(run_id)
    assert not runs.stop_requested(run_id)
    runs.request_stop(run_id)
    assert runs.stop_requested(run_id)
    assert runs.get(run_id).status == "stopping"
    runs.start(run_id)
    assert not runs.stop_requested(run_id)


def test_every_logged_figure_comes_back_at_its_step(runs):
    run_id = runs.create("one", SPEC)
    runs.log(run_id, [(step, {"loss": 1 / step, "accuracy": 0.5}) for step in range(1, 701)])
    assert runs.history(run_id, "loss") == [(step, pytest.approx(1 / step)) for step in range(1, 701)]
    assert runs.get(run_id).metrics == {"loss": pytest.approx(1 / 700), "accuracy": 0.5}


def test_a_run_is_found_by_the_start_of_its_id(runs):
    run_id = runs.create("one", SPEC)
    assert runs.get(run_id[:12]).id == run_id


def test_active_runs_are_those_that_wait_run_or_were_interrupted_newest_first(runs):
    waiting, running, ended, gone = (runs.create(name, SPEC) for name in ("waits", "runs", "ended", "gone"))
    for run_id in (running, ended, gone):
        runs.start(run_id)
    runs.finish(ended, "finished")
    dead = json.loads(runs.get(gone).tags["mer.owner"]) | {"pid": 2**22 + 1}
    runs.tag(gone, {"mer.owner": json.dumps(dead)})
    mine = {waiting, running, ended, gone}
    found = [(run.id, run.status) for run in runs.active() if run.id in mine]
    assert sorted(found) == sorted([(gone, "interrupted"), (running, "running"), (waiting, "queued")])
    times = [run.started for run in runs.active()]
    assert times == sorted(times, reverse=True)


def test_the_version_changes_with_every_write_and_only_then(runs):
    before = RunStore.version()
    runs.runs()
    assert RunStore.version() == before
    runs.create("one", SPEC)
    assert RunStore.version() != before


def test_a_home_without_a_store_says_so_and_gets_none(own_home):
    assert not RunStore.exists()
    assert not own_home.exists()


def test_a_server_counts_as_a_store(own_home, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:1")
    assert RunStore.exists()


@pytest.mark.parametrize(("text", "number"), [("12", 12), ("", None), ("-3", None), ("many", None)])
def test_counts_kept_with_a_run_are_read_or_unknown(runs, text, number):
    run_id = runs.create("one", SPEC)
    runs.tag(run_id, {"mer.steps": text, "mer.classes": text, "mer.validation_clips": text})
    run = runs.get(run_id)
    assert (run.steps, run.classes, run.validation_clips) == (number,) * 3


def test_an_unknown_run_is_an_error_that_says_where_to_look(runs):
    with pytest.raises(RunError, match="run 'nothing': there is no such run; 'mer runs list'"):
        runs.get("nothing")


def test_an_empty_name_is_no_run(runs):
    runs.create("one", SPEC)
    with pytest.raises(RunError, match="run ''"):
        runs.get("")


def test_folds_are_found_below_their_parent_in_order(runs):
    parent = runs.create("all", SPEC)
    folds = [runs.create(f"fold {k}", SPEC, parent=parent) for k in range(2)]
    assert {run.id for run in runs.children(parent)} == set(folds)


def test_a_deleted_run_is_listed_no_more(runs):
    run_id = runs.create("one", SPEC)
    runs.delete(run_id)
    assert run_id not in {run.id for run in runs.runs()}


def test_a_folder_of_artifacts_is_whole_or_absent(runs):
    run_id = runs.create("one", SPEC)

    def half(folder):
        (folder / "a.txt").write_text("a")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        runs.save_folder(run_id, "checkpoint", half)
    assert runs.folder(run_id, "checkpoint") is None
    runs.save_folder(run_id, "checkpoint", lambda folder: (folder / "a.txt").write_text("a"))
    runs.save_folder(run_id, "checkpoint", lambda folder: (folder / "b.txt").write_text("b"))
    assert [p.name for p in runs.folder(run_id, "checkpoint").iterdir()] == ["b.txt"]


def test_the_database_has_a_write_ahead_log(runs_home):
    with sqlite3.connect(runs_home / "mlflow.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_a_home_that_cannot_be_written_is_an_error_with_the_remedy(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MER_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(StorageError, match=r"cannot write .*file.home.*choose a writable place \(MER_HOME"):
        RunStore.open()


PLAIN = """
import sys
from mer.runs.store import RunStore
runs = RunStore.open()
for step in range(1, int(sys.argv[2]) + 1):
    runs.log(sys.argv[1], [(step, {"step_loss": step, "progress": step / 2})])
runs.runs()
print("torch" in sys.modules)
"""
TRAINING = """
import sys
from mer.experiments.callbacks import LogMetrics
from mer.runs.run import owner
from mer.runs.store import RunStore
from mer.training.loop import Step
figures, total = LogMetrics(RunStore.open(), sys.argv[1], every=0.05), int(sys.argv[2])
for step in range(1, total + 1):
    figures.on_step(Step(epoch=1, done=step, total=total, loss=step, accuracy=0.5))
    figures.flush() if step % 5 == 0 else None
figures.flush()
"""


def log_at_once(runs, code, *, processes, rows):
    """Have so many processes log, read while they do; each step that came back for each of two figures."""
    ids = [runs.create(f"writer {k}", SPEC) for k in range(processes)]
    crowd = [
        subprocess.Popen([sys.executable, "-c", code, run_id, str(rows)], env=dict(os.environ))
        for run_id in ids
    ]
    seen = dict.fromkeys(ids, 0)
    while any(process.poll() is None for process in crowd):
        for run in runs.active():
            if run.id in seen:
                so_far = len(runs.history(run.id, "step_loss"))
                assert so_far >= seen[run.id]
                seen[run.id] = so_far
        time.sleep(0.5)
    assert [process.wait() for process in crowd] == [0] * processes
    return [[sorted(runs.history(run_id, metric)) for metric in ("step_loss", "progress")] for run_id in ids]


def test_two_processes_logging_at_once_lose_nothing_and_need_no_torch(runs):
    theirs, mine = (runs.create(name, SPEC) for name in ("theirs", "mine"))
    words = [sys.executable, "-c", PLAIN, theirs, "30"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    step, seen = 0, 0
    while process.poll() is None:
        step += 1
        runs.log(mine, [(step, {"step_loss": step, "progress": step / 2})])
        so_far = len(runs.history(theirs, "step_loss"))
        assert so_far >= seen
        seen = so_far
        time.sleep(0.2)
    assert process.communicate() == ("False\n", None)
    assert process.returncode == 0
    for run_id, steps in ((theirs, range(1, 31)), (mine, range(1, step + 1))):
        assert sorted(runs.history(run_id, "step_loss")) == [(n, n) for n in steps]
        assert sorted(runs.history(run_id, "progress")) == [(n, n / 2) for n in steps]


@pytest.mark.slow
@pytest.mark.promise(
    "Eight runs that log to SQLite at once lose nothing and repeat nothing.",
    measured="8 x 250 steps, two metrics each",
)
def test_eight_runs_logging_at_once_lose_nothing_and_repeat_nothing(runs):
    found = log_at_once(runs, TRAINING, processes=8, rows=250)
    steps = range(1, 251)
    assert found == [[[(n, n) for n in steps], [(n, n / 250) for n in steps]]] * 8


def test_opening_a_store_leaves_nothing_in_the_working_directory(tmp_path, monkeypatch):
    """MLflow makes the folder that it takes an address of SQLite for."""
    monkeypatch.setenv("MER_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    RunStore.open().create("a run", {})
    assert list((tmp_path / "here").iterdir()) == []
