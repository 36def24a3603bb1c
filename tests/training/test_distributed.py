"""Several processes train as one: each its share of every batch, and all the same weights."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mer.models.checkpoint import load_checkpoint
from mer.runs.store import RunStore
from mer.training.distributed import ALONE, Ranks, together
from mer.utils.errors import ConfigError
from tests.run_helpers import TINY

ROOT = Path(__file__).parents[2]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
AS_TWO = [*TORCHRUN, "--nproc-per-node", "2", "-m"]


@given(st.integers(1, 40), st.integers(1, 6), st.booleans())
def test_a_batch_is_shared_out_whole_and_once(count, size, by_clip):
    part = torch.randperm(count) + 3
    clips = np.repeat(np.arange(count + 3), 2)[: count + 3] if by_clip else None
    shares = [Ranks(rank, size).share(part, clips) for rank in range(size)]
    assert sum(share for _, share in shares) == pytest.approx(1)
    own = torch.cat([windows for windows, share in shares if share])
    assert sorted(own.tolist()) == sorted(part.tolist())
    assert all(len(windows) for windows, _ in shares)


@given(st.integers(1, 6))
def test_the_windows_of_a_clip_stay_together_and_in_order(size):
    clips = np.repeat(np.arange(10), 3)
    for rank in range(size):
        windows, _ = Ranks(rank, size).share(torch.arange(6, 24), clips)
        assert [len(group) for group in np.split(windows.numpy(), len(windows) // 3)] == [3] * (
            len(windows) // 3
        )
        assert all(len(set(clips[group])) == 1 for group in np.split(windows.numpy(), len(windows) // 3))


def test_one_process_alone_shares_with_nobody():
    part = torch.arange(5)
    own, share = ALONE.share(part)
    assert own is part
    assert share == 1
    with together() as ranks:
        assert ranks is ALONE


@pytest.mark.parametrize("variables", [{}, {"RANK": "first", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "9"}])
def test_processes_that_cannot_connect_are_an_error_of_one_line(monkeypatch, variables):
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"WORLD_SIZE": "2", **variables}.items():
        monkeypatch.setenv(name, value)
    with (
        pytest.raises(
            ConfigError, match=r"2 processes of this training cannot connect \(.+\); start them with torchrun"
        ),
        together(),
    ):
        pass


def environment(**more):
    return os.environ | {"OMP_NUM_THREADS": "1"} | more


@pytest.mark.slow
@pytest.mark.promise("Two processes train to the weights of one.", measured="gradients equal to 1e-9")
def test_two_processes_end_with_the_weights_of_one():
    done = subprocess.run(
        [*AS_TWO, "tests.two_ranks"], cwd=ROOT, capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found.pop("size") == 2
    assert found.pop("stopped")
    assert found.pop("default_network") < 1e-9
    assert found.pop("solved") < 1e-6
    for name, figures in found.items():
        assert figures["alike"], name
        assert figures["weights"] < 3e-4, name
        assert figures["loss"] < 1e-5, name
        assert figures["validation"] < 0.05, name
        assert figures["moved"] > 0.1, name


def train(corpus, *more, together=True):
    """`mer train` on a tiny network, in two processes or in one."""
    words = ["mer", "train", "--data", str(corpus), "--no-baseline", "--json"]
    for name, value in (TINY | {"dropout": 0.0, "time_masks": 0, "frequency_masks": 0, "time_shift": 0.0,
                                "mixup": 0.0, "epochs": 2}).items():  # fmt: skip
        words += [f"--{name.replace('_', '-')}", str(value)]
    command = AS_TWO if together else [sys.executable, "-m"]
    return subprocess.Popen(
        [*command, *words, *more], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment(),
    )  # fmt: skip


def outcome(process):
    out, err = process.communicate(timeout=250)
    assert process.returncode == 0, err[-3000:]
    return json.loads(out.splitlines()[-1])


@pytest.mark.slow
def test_the_command_makes_one_run_with_the_checkpoint_of_one_process(own_home, song_corpus):
    both, one = outcome(train(song_corpus)), outcome(train(song_corpus, together=False))
    assert len(RunStore.open().runs()) == 2
    first, second = (load_checkpoint(Path(found["checkpoint"]))[0].state_dict() for found in (both, one))
    assert float((first["head.linear.weight"] - second["head.linear.weight"]).abs().max()) < 1e-3
    histories = [RunStore.open().history(found["run_id"], "train_loss") for found in (both, one)]
    assert histories[0] == [(step, pytest.approx(value, abs=1e-4)) for step, value in histories[1]]


@pytest.mark.slow
def test_folds_are_trained_together_one_after_the_other(own_home, song_corpus):
    found = outcome(train(song_corpus, "--folds", "2", "--freeze", "head"))
    assert [fold["status"] for fold in found["folds"]] == ["finished", "finished"]
    assert len(RunStore.open().runs()) == 3


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_rank_killed_leaves_a_run_to_go_on_with(own_home, song_corpus, victim):
    process = train(song_corpus, "--epochs", "200")
    deadline = time.monotonic() + 120
    while not (RunStore.exists() and any(run.steps for run in RunStore.open().runs())):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    ranks = {int(child.environ()["RANK"]): child for child in psutil.Process(process.pid).children()}
    ranks[victim].send_signal(signal.SIGKILL)
    process.communicate(timeout=120)
    (run,) = RunStore.open().runs()
    assert run.status in ("interrupted", "stopped", "failed")
    assert not any(child.is_running() for child in ranks.values())
    resumed = subprocess.Popen(
        [*AS_TWO, "mer", "runs", "resume", run.id], cwd=ROOT, env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while RunStore.open().get(run.id).status != "running":
        assert resumed.poll() is None, resumed.stderr.read()
        time.sleep(0.2)
    resumed.send_signal(signal.SIGTERM)
    resumed.communicate(timeout=60)
    assert RunStore.open().get(run.id).status in ("stopped", "failed", "interrupted")
