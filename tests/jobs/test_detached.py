"""Launched runs: a process of their own, a queue of slots, and no run worked on twice."""

import json
import os
import subprocess
import sys
import time

import psutil
import pytest

from mer.experiments.experiment import Experiment
from mer.experiments.prepared import Spec
from mer.jobs.queue import cancel, delete, launch, log_path, relaunch
from mer.runs.store import RunStore
from mer.utils.errors import BackboneError, DataError, RunError
from tests.run_helpers import tiny_config, write_songs

LONG = {"epochs": 1000}


@pytest.fixture
def runs(runs_home):
    return RunStore.open()


@pytest.fixture
def launched(runs):
    """Launch runs that are cancelled at the end of the test, whatever became of it."""
    started = []

    def go(corpus, **changes):
        started.append(launch(runs, Spec(data=str(corpus), config=tiny_config(**changes))))
        return started[-1]

    yield go
    for run_id in started:
        if runs.get(run_id).status in ("queued", "running", "interrupted"):
            cancel(runs, run_id)
    for run_id in started:
        wait_for(runs, run_id, "finished", "failed", "stopped")


def wait_for(runs, run_id, *statuses, seconds=150):
    deadline = time.monotonic() + seconds
    while (status := runs.get(run_id).status) not in statuses:
        assert time.monotonic() < deadline, f"{status}: {log_path(run_id).read_text()}"
        time.sleep(0.1)
    return runs.get(run_id)


def training(runs, run_id):
    """Wait for the first epoch."""
    deadline = time.monotonic() + 150
    while not runs.history(run_id, "train_loss"):
        assert time.monotonic() < deadline, log_path(run_id).read_text()
        time.sleep(0.1)


def process_of(runs, run_id):
    return psutil.Process(json.loads(runs.get(run_id).tags["mer.owner"])["pid"])


def test_a_launched_run_ends_like_one_from_the_command_line(runs, launched, song_corpus):
    run = wait_for(runs, launched(song_corpus), "finished", "failed")
    assert (run.status, run.reason) == ("finished", None)
    same = Experiment().train(Spec(data=str(song_corpus), config=tiny_config()))
    assert run.metrics["test_accuracy"] == same.metrics["test_accuracy"]
    assert run.metrics["train_loss"] == runs.get(same.run_id).metrics["train_loss"]
    assert run.data_hash == runs.get(same.run_id).data_hash
    assert "epoch 1: loss" in log_path(run.id).read_text()


def test_a_second_run_waits_for_the_slot_of_the_first(runs, launched, song_corpus):
    first, second = launched(song_corpus, **LONG), launched(song_corpus)
    training(runs, first)
    assert runs.get(second).status == "queued"
    cancel(runs, first)
    assert wait_for(runs, second, "finished", "failed").status == "finished"


def test_a_run_that_waits_its_turn_cannot_be_taken_over(runs, launched, song_corpus):
    first, second = launched(song_corpus, **LONG), launched(song_corpus)
    training(runs, first)
    with pytest.raises(RunError, match="is queued; only an unfinished, idle run can be resumed"):
        Experiment().resume(second)
    assert runs.get(second).status == "queued"


def test_a_queued_run_can_be_cancelled_and_its_process_leaves(runs, launched, song_corpus):
    first, second = launched(song_corpus, **LONG), launched(song_corpus)
    training(runs, first)
    process = process_of(runs, second)
    assert cancel(runs, second).status == "stopped"
    process.wait(20)
    assert runs.get(second).status == "stopped"


def test_a_killed_run_is_interrupted_frees_its_slot_and_can_go_on(runs, launched, song_corpus):
    run_id = launched(song_corpus, **LONG)
    training(runs, run_id)
    process_of(runs, run_id).kill()
    assert wait_for(runs, run_id, "interrupted")
    assert wait_for(runs, launched(song_corpus), "finished")
    epochs = len(runs.history(run_id, "train_loss"))
    relaunch(runs, run_id)
    wait_for(runs, run_id, "running")
    deadline = time.monotonic() + 150
    while len(runs.history(run_id, "train_loss")) <= epochs:
        assert time.monotonic() < deadline


def test_a_run_that_cannot_begin_has_failed_with_the_reason(runs, launched, tmp_path):
    corpus = write_songs(tmp_path / "songs", songs=4)
    for path in (corpus / "Sad").glob("*.wav"):
        path.write_bytes(b"no sound")
    run = wait_for(runs, launched(corpus), "failed")
    assert "1 class with usable clips" in run.reason


def test_a_run_that_is_worked_on_is_not_worked_on_again(runs, launched, song_corpus):
    run_id = launched(song_corpus, **LONG)
    training(runs, run_id)
    with pytest.raises(RunError, match="is worked on by another process"):
        Experiment().work(run_id)
    with pytest.raises(RunError, match="is running; only an unfinished, idle run can be resumed"):
        relaunch(runs, run_id)


def test_bad_requests_are_refused_before_a_run_is_recorded(runs, song_corpus, tmp_path):
    before = len(runs.runs())
    with pytest.raises(DataError, match="no such file or folder"):
        launch(runs, Spec(data=str(tmp_path / "nowhere"), config=tiny_config()))
    with pytest.raises(BackboneError, match="unknown backbone 'resnet19'"):
        launch(runs, Spec(data=str(song_corpus), config=tiny_config(backbone="resnet19")))
    assert len(runs.runs()) == before


def test_a_deleted_run_leaves_no_log(runs, launched, song_corpus):
    run_id = launch(runs, Spec(data=str(song_corpus), config=tiny_config(epochs=1)))
    wait_for(runs, run_id, "finished")
    delete(runs, run_id)
    assert not log_path(run_id).exists()


def test_jobs_are_known_without_torch():
    code = "import sys, mer.jobs.queue; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    assert done.stdout == "False\n", done.stderr
