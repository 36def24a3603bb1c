"""Full disks and read-only homes: an error of one line with the remedy, and no lost data."""

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mer.cli import main
from mer.experiments.experiment import Experiment
from mer.experiments.prepared import Spec
from mer.models.checkpoint import load_checkpoint
from mer.runs.store import RunStore
from mer.utils.errors import StorageError
from tests.life import fill
from tests.run_helpers import copy_home, tiny_config

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "checkpoints" / "demo_mobilenet_v3_small"


@pytest.fixture
def mer(capsys):
    """Run a command; returns exit status, standard output, and the last line of standard error."""

    def run(*words):
        status = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return status, out, err.splitlines()[-1] if err else ""

    return run


@pytest.fixture
def home(small_disk, empty_home, monkeypatch):
    """A home with a database on a disk of 64 MiB; `home.parent / "ballast"` can take room in it."""
    home = copy_home(empty_home, small_disk("64m") / "home")
    monkeypatch.setenv("MER_HOME", str(home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return home


def leave(home, size):
    """Fill the disk except for this many bytes."""
    fill(home.parent)
    ballast = home.parent / "ballast"
    os.truncate(ballast, ballast.stat().st_size - size)


def is_whole(home):
    with closing(sqlite3.connect(home / "mlflow.db")) as connection:
        return connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def same_weights(left, right):
    left, right = (load_file(folder / "model.safetensors") for folder in (left, right))
    return all(torch.equal(left[name], right[name]) for name in left)


def test_a_run_that_fills_the_disk_has_failed_with_the_reason_and_goes_on_when_there_is_room(
    home, mer, song_corpus
):
    spec = Spec(data=str(song_corpus), config=tiny_config(freeze="head", standardize="window", epochs=1))
    runs, before = RunStore.open(), Experiment().train(spec)
    leave(home, 1_500_000)  # enough for the state of a head, too little for a checkpoint
    with pytest.raises(StorageError, match=r"cannot write .*; free some space or choose a writable place"):
        Experiment().train(spec)
    run = runs.runs()[0]
    assert (run.status, "free some space" in run.reason) == ("failed", True)
    assert runs.folder(run.id, "checkpoint") is None
    assert is_whole(home)
    load_checkpoint(Path(before.checkpoint))
    status, _, said = mer("runs", "resume", run.id)
    assert (status, said.startswith("error: cannot write")) == (2, True)
    (home.parent / "ballast").unlink()
    assert mer("runs", "resume", run.id)[0] == 0
    assert same_weights(runs.folder(run.id, "checkpoint"), Path(before.checkpoint))
    assert [path.name for path in runs.folder(run.id, "checkpoint").parent.glob(".*")] == []


def test_a_disk_too_small_for_the_database_is_an_error_of_one_line(small_disk, monkeypatch, mer):
    place = small_disk("2m")
    monkeypatch.setenv("MER_HOME", str(place / "home"))
    (place / "ballast").write_bytes(bytes(1_400_000))
    status, _, said = mer("runs", "list")
    assert status == 2
    assert said.startswith("error: the run store failed")
    assert said.endswith("free some space, or check MER_HOME and MLFLOW_TRACKING_URI")
    (place / "ballast").unlink()
    assert mer("runs", "list") == (0, "no runs yet\n", "")


@pytest.mark.parametrize("words", [("runs", "list"), ("store",), ("predict", MODEL)])
def test_commands_that_only_read_work_on_a_full_disk_or_ask_for_space(home, mer, song_corpus, words):
    leave(home, 0)
    files = [song_corpus / "Happy" / "0a.wav"] if words[0] == "predict" else []
    status, _, said = mer(*words, *files)
    assert (status, said) == (0, "") or (status == 2 and "free some space" in said)
    assert status == 0 or words == ("runs", "list")


@pytest.fixture
def read_only(small_disk, empty_home, monkeypatch, tmp_path):
    """A home that knows a run, on a file system that cannot be written."""
    made = copy_home(empty_home, tmp_path / "made" / "home")
    monkeypatch.setenv("MER_HOME", str(made))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    RunStore.open().create("one", {})
    home = small_disk("64m", made.parent) / "home"
    monkeypatch.setenv("MER_HOME", str(home))
    return home


@pytest.mark.promise("With a read-only home predictions work and every page opens.")
def test_a_read_only_home_can_predict_and_refuses_to_train(read_only, mer, song_corpus):
    clip = song_corpus / "Happy" / "0a.wav"
    status, out, _ = mer("predict", MODEL, clip, "--json")
    assert (status, len(json.loads(out))) == (0, 1)
    remedy = "Read-only file system; free some space or choose a writable place (MER_HOME, --out)"
    options = ["--backbone=mobilenet_v3_small", "--weights=none"]
    status, _, said = mer("train", "--data", song_corpus, *options)
    assert (status, said.startswith("error: cannot write"), said.endswith(remedy)) == (2, True, True)


def test_a_read_only_home_lists_its_runs_and_deletes_none(read_only, mer):
    status, out, _ = mer("runs", "list", "--json")
    (run,) = json.loads(out)["runs"]
    assert (status, run["name"]) == (0, "one")
    status, _, said = mer("runs", "delete", run["run_id"])
    assert (status, "cannot be written" in said, len(said.splitlines())) == (2, True, 1)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("count", [8, pytest.param(20, marks=pytest.mark.long)])
@pytest.mark.promise(
    "A disk that fills up at any moment ends a run with one line; the run can be resumed.",
    measured="20 moments, 0 faults",
)
def test_a_run_whose_disk_fills_up_at_any_moment_can_be_resumed(small_disk, count):
    command = [sys.executable, "-m", "tests.killing", str(count), "--full", str(small_disk("96m"))]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["wrong"] == []
    assert found["ended"] == found["runs"] == count
