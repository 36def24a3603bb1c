"""Runs as detached processes: launch one, queue it for a slot, stop it, go on with it, remove it.

A launched run belongs to no page and no terminal: it has a process of its own, writes to a log of its
own, and waits for one of the machine's slots. Slots and runs are held by file locks, so whatever ends a
process frees them, and no run is ever worked on twice. Nothing here imports torch until a run is worked on.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from mer.runs.artifacts import drop_fetched
from mer.runs.run import RESUMABLE, Run, TakenError, drop_state, is_mine, owner, state_path
from mer.runs.store import RunStore
from mer.utils.errors import RunError, StorageError
from mer.utils.files import home, writing
from mer.utils.machine import slots
from mer.utils.progress import Pace

if TYPE_CHECKING:
    from mer.experiments.experiment import Experiment
    from mer.experiments.prepared import Spec
    from mer.runs.heartbeat import Beats
    from mer.runs.outcomes import Outcome

__all__ = [
    "ENDED", "Stage", "cancel", "delete", "enrol", "inspect", "launch", "log_path", "relaunch", "requeue",
    "start_mer", "work",
]  # fmt: skip

ENDED = ("finished", "failed", "stopped")
PATIENCE = 1.0  # s between two looks at the slots


def log_path(run_id: str) -> Path:
    """Where a launched run writes what it would say on a terminal."""
    return home() / "logs" / f"{run_id}.log"


def launch(runs: RunStore, spec: "Spec", *, needs: str = "") -> str:
    """Record a queued run and start its process; returns the run's id at once. Raises as `enrol` does."""
    run_id = enrol(runs, spec, needs=needs)
    _spawn(runs, run_id)
    return run_id


def enrol(runs: RunStore, spec: "Spec", *, needs: str = "") -> str:
    """Record a queued run, for a Ray cluster if it has `needs` (`mer.jobs.ray_cluster`); returns its id.

    The request is `inspect`ed first, and nothing is recorded if that raises.
    """
    run_id = runs.create(spec.name(inspect(spec)), spec.to_dict())
    if needs:
        runs.tag(run_id, {"mer.needs": needs})
    return run_id


def inspect(spec: "Spec") -> str:
    """What can be told of a request without decoding audio: the data set's name.

    Raises DataError or BackboneError.
    """
    from mer.models.zoo import get_backbone

    name = _data_name(spec)
    get_backbone(spec.config.train.backbone)
    return name


def _data_name(spec: "Spec") -> str:
    """The name of a data set that can be trained on; raises DataError, and ConfigError."""
    from mer.data.clips import is_sharded
    from mer.data.load import load_dataset
    from mer.experiments.prepared_shards import ShardedMaterial

    path = Path(spec.data)
    if is_sharded(path):
        return ShardedMaterial.open(path, spec.config).about["name"]
    data = load_dataset(path, label_column=spec.label_column, song_column=spec.song_column)
    return data.require_trainable().name


def relaunch(runs: RunStore, name: str) -> Run:
    """Queue an unfinished run again and start its process; raises RunError if it is not idle."""
    run = requeue(runs, name)
    _spawn(runs, run.id)
    return run


def requeue(runs: RunStore, name: str) -> Run:
    """Queue an unfinished run again, to go on where it was; raises RunError if it is not idle."""
    run = runs.get(name)
    if run.status not in RESUMABLE:
        raise RunError(f"run {run.id[:8]} is {run.status}; only an unfinished, idle run can be resumed")
    runs.take(run)
    runs.enqueue(run.id)
    return replace(run, status="queued")


def _spawn(runs: RunStore, run_id: str) -> None:
    """`python -m mer runs work RUN` in a session of its own, so that no closing terminal reaches it."""
    log = log_path(run_id)
    try:
        with writing(log):
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("ab") as out:
                process = start_mer("runs", "work", run_id, stdout=out, stderr=out, start_new_session=True)
    except StorageError as error:
        with suppress(StorageError):
            runs.finish(run_id, "failed", reason=str(error))
        raise
    threading.Thread(target=process.wait, daemon=True).start()  # so that it leaves no zombie behind
    runs.tag(run_id, {"mer.owner": owner(process.pid)})


def start_mer(*words: str, **options: Any) -> subprocess.Popen:
    """`python -m mer WORDS` with nothing to read and this process's modules; `options` are Popen's."""
    return subprocess.Popen(  # noqa: S603 - our own program; the words are arguments, not a shell's
        [sys.executable, "-m", "mer", *words],
        stdin=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        **options,
    )


def work(experiment: "Experiment", name: str) -> "Outcome":
    """Wait for a slot, then begin or continue a queued run, in this process.

    A run for a Ray cluster takes no slot: there Ray has it wait. Raises RunError if the run is not queued or
    another process works on it. Whatever goes wrong later is recorded with the run.
    """
    from mer.utils.parallel import share_cores

    share_cores()
    runs = experiment.runs
    run = runs.get(name)
    experiment.notify = Stage(runs, run.id, experiment.beats)
    with _only_worker(run.id), experiment.beats.of(run.id):
        if runs.get(run.id).waits_elsewhere:
            raise TakenError(
                f"run {run.id[:8]} waits for its turn on {run.host}; cancel it first to have it here"
            )
        stage = "" if run.needs else "waiting for a free slot"
        runs.tag(run.id, {"mer.owner": owner(), "mer.stage": stage})
        try:
            if run.needs:
                return experiment.go_on(run)
            with _slot(runs, run.id, experiment.beats):
                runs.start(run.id)
                return experiment.go_on(run)
        except BaseException as error:
            now = runs.get(run.id)
            if now.status not in ENDED and is_mine(now.tags, owner()):  # it did not begin to train
                stopped = isinstance(error, KeyboardInterrupt)
                runs.finish(run.id, "stopped" if stopped else "failed", reason=str(error))
            raise


class Stage:
    """Records what a run is doing before it trains, about once a second; stops it there if asked to."""

    def __init__(self, runs: RunStore, run_id: str, beats: "Beats") -> None:
        self.runs, self.run_id, self.beats, self.told, self.pace = runs, run_id, beats, 0.0, Pace()

    def __call__(self, title: str, done: int, total: int) -> None:
        """Tell how far it is; raises KeyboardInterrupt if the run was cancelled."""
        words = self.pace(title, done, total)
        if time.monotonic() - self.told < 1:
            return
        self.told = time.monotonic()
        self.runs.tag(self.run_id, {"mer.stage": words})
        self.beats.give()
        if self.runs.stop_requested(self.run_id):
            raise KeyboardInterrupt("cancelled")


@contextmanager
def _only_worker(run_id: str) -> Iterator[None]:
    lock = FileLock(_lock_folder() / f"run-{run_id}.lock")
    try:
        with lock.acquire(timeout=0):
            yield
    except Timeout as error:
        raise RunError(f"run {run_id[:8]} is worked on by another process; see 'mer runs list'") from error


@contextmanager
def _slot(runs: RunStore, run_id: str, beats: "Beats") -> Iterator[None]:
    """Hold one of the slots, for which to wait in turn; raises RunError if the run leaves the queue."""
    locks = [FileLock(_lock_folder() / f"slot-{number}.lock") for number in range(slots())]
    while True:
        if runs.get(run_id).status != "queued":
            raise RunError(f"run {run_id[:8]} was taken out of the queue")
        for lock in locks if _is_next(runs, run_id) else []:
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            try:
                yield
            finally:
                lock.release()
            return
        beats.give()
        time.sleep(PATIENCE)


def _is_next(runs: RunStore, run_id: str) -> bool:
    """True if no run that is waiting came before this one."""
    waiting = [run for run in runs.active() if run.waits_here and not run.needs]
    return not waiting or min(waiting, key=lambda run: (run.started, run.id)).id == run_id


def _lock_folder() -> Path:
    folder = home() / "locks"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def cancel(runs: RunStore, name: str) -> Run:
    """Ask a run to stop at its next step; one that no process works on is marked stopped at once.

    Raises RunError if it has ended already.
    """
    run = runs.get(name)
    if run.status in ENDED:
        raise RunError(f"run {run.id[:8]} is {run.status} already; there is nothing to cancel")
    runs.request_stop(run.id)
    for child in runs.children(run.id):
        if child.status == "running":
            runs.request_stop(child.id)
    if run.status in ("queued", "interrupted"):
        runs.finish(run.id, "stopped", reason="cancelled")
        return replace(run, status="stopped")
    return replace(run, status="stopping")


def delete(runs: RunStore, name: str) -> Run:
    """Remove a run, its folds, its saved state and its log; raises RunError while it is running."""
    run = runs.get(name)
    if run.status in ("running", "stopping"):
        raise RunError(f"run {run.id[:8]} is {run.status}; cancel it first: mer runs cancel {run.id[:8]}")
    if run.status == "queued":
        cancel(runs, run.id)
    for part in (*runs.children(run.id), run):
        drop_state(state_path(part.id))
        drop_fetched(part.id)
        runs.drop_state(part.id)
        log_path(part.id).unlink(missing_ok=True)
        runs.delete(part.id)
    return run
