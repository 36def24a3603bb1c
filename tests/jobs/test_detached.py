"""Launched runs: each has its own process, waits for a slot, and is worked on by one process at a time."""

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager

import psutil
import pytest

from mer.cli import main
from mer.experiments.experiment import Experiment
from mer.experiments.prepared import Spec
from mer.jobs.queue import cancel, delete, launch, log_path, prune, relaunch, submit
from mer.runs.slots import hold_slot
from mer.runs.store import RunStore
from mer.utils.errors import BackboneError, DataError, RunError
from tests.run_helpers import tiny_config, write_songs

LONG = {"epochs": 1000}
PATIENCE = 150  # s


@pytest.fixture
def runs(runs_home, monkeypatch):
    monkeypatch.setenv("MER_SLOTS", "1")
    return RunStore.open()


@pytest.fixture
def launched(runs):
    """Launch runs. Those that have not ended are cancelled after the test."""
    started = []

    def go(corpus, **changes):
        started.append(launch(runs, Spec(data=str(corpus), config=tiny_config(**changes))))
        return started[-1]

    yield go
    left = [run.id for run in runs.active() if run.id in started]
    for run_id in left:
        cancel(runs, run_id)
    for run_id in left:
        wait_for(runs, run_id, "finished", "failed", "stopped")


def wait_until(run_id, condition):
    """Wait for a condition; if it takes too long, show the log of that run."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, log_path(run_id).read_text()
        time.sleep(0.1)


def wait_for(runs, run_id, *statuses):
    wait_until(run_id, lambda: runs.get(run_id).status in statuses)
    return runs.get(run_id)


def training(runs, run_id):
    """Wait for the end of the first epoch."""
    wait_until(run_id, lambda: runs.history(run_id, "train_loss"))


def process_of(runs, run_id):
    return psutil.Process(json.loads(runs.get(run_id).tags["mer.owner"])["pid"])


@contextmanager
def slot_taken(runs):
    """Hold this machine's only slot, as a running run does."""
    holder = runs.create("holds the slot", {})
    with hold_slot(runs, holder, waiting=lambda: None):
        runs.start(holder)
        yield
    runs.finish(holder, "stopped")


def test_a_launched_run_waits_for_a_slot_finishes_and_is_deleted(runs, launched, song_corpus):
    with slot_taken(runs):
        run_id = launched(song_corpus, epochs=2)
        wait_until(run_id, lambda: "waiting for a free slot" in runs.get(run_id).tags.get("mer.stage", ""))
        with pytest.raises(RunError, match="is queued; only an unfinished, idle run can be resumed"):
            Experiment().resume(run_id)
        assert runs.get(run_id).status == "queued"
    run = wait_for(runs, run_id, "finished", "failed")
    assert (run.status, run.reason) == ("finished", None)
    same = Experiment().train(Spec(data=str(song_corpus), config=tiny_config(epochs=2)))
    assert run.metrics["test_accuracy"] == same.metrics["test_accuracy"]
    assert run.metrics["train_loss"] == runs.get(same.run_id).metrics["train_loss"]
    assert run.data_hash == runs.get(same.run_id).data_hash
    assert "epoch 1: loss" in log_path(run.id).read_text()
    delete(runs, run.id)
    prune(runs, [run.id])
    assert not log_path(run.id).exists()


@pytest.mark.slow
def test_a_run_has_one_process_and_is_resumed_after_a_kill(runs, launched, song_corpus):
    run_id = launched(song_corpus, **LONG)
    training(runs, run_id)
    with pytest.raises(RunError, match="is worked on by another process"):
        Experiment().work(run_id)
    with pytest.raises(RunError, match="is running; only an unfinished, idle run can be resumed"):
        relaunch(runs, run_id)
    process_of(runs, run_id).kill()
    wait_for(runs, run_id, "interrupted")
    epochs = len(runs.history(run_id, "train_loss"))
    relaunch(runs, run_id)  # which needs the slot that the killed process held
    wait_for(runs, run_id, "running")
    wait_until(run_id, lambda: len(runs.history(run_id, "train_loss")) > epochs)
    process = process_of(runs, run_id)
    assert cancel(runs, run_id).status == "stopping"
    wait_for(runs, run_id, "stopped")
    process.wait(PATIENCE)


def test_a_cancelled_run_leaves_the_queue(runs, song_corpus):
    run_id = submit(runs, Spec(data=str(song_corpus), config=tiny_config()))

    def cancel_it(title, done, total):
        assert title == "waiting for a free slot"
        assert cancel(runs, run_id).status == "stopped"

    with slot_taken(runs):
        assert Experiment(notify=cancel_it).work(run_id).status == "stopped"
    assert (runs.get(run_id).status, runs.get(run_id).reason) == ("stopped", "cancelled")


def test_a_run_that_cannot_begin_has_failed_with_the_reason(runs, tmp_path, capsys):
    corpus = write_songs(tmp_path / "songs")
    for path in (corpus / "Sad").glob("*.wav"):
        path.write_bytes(b"no sound")
    run_id = submit(runs, Spec(data=str(corpus), config=tiny_config()))
    assert main(["runs", "work", run_id]) == 2
    assert runs.get(run_id).status == "failed"
    assert "1 class with usable clips" in runs.get(run_id).reason
    assert "1 class with usable clips" in capsys.readouterr().err


def test_bad_requests_are_refused_before_a_run_is_recorded(runs, song_corpus, tmp_path):
    before = len(runs.runs())
    with pytest.raises(DataError, match="no such file or folder"):
        launch(runs, Spec(data=str(tmp_path / "nowhere"), config=tiny_config()))
    with pytest.raises(BackboneError, match="unknown backbone 'resnet19'"):
        launch(runs, Spec(data=str(song_corpus), config=tiny_config(backbone="resnet19")))
    assert len(runs.runs()) == before


def test_listing_jobs_needs_no_torch():
    code = "import sys, mer.jobs.queue; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    assert done.stdout == "False\n", done.stderr
