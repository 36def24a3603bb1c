"""Runs as background processes: launch, cancel, resume, delete and restore them.

A launched run depends on no page and no terminal: it has a process and a log of its own, and waits for one of
this machine's slots (`mer.runs.slots`). Nothing here imports torch before a request is checked.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mer.data.library import note
from mer.runs.artifacts import drop_fetched
from mer.runs.deleted import deleted_runs, find_deleted, remove_files, size_of
from mer.runs.run import ENDED, RESUMABLE, GoneError, Run, owner
from mer.runs.store import RunStore
from mer.utils.errors import RunError, StorageError
from mer.utils.files import home, writing

if TYPE_CHECKING:
    from mer.experiments.prepared import Spec

__all__ = [
    "cancel",
    "check_request",
    "delete",
    "launch",
    "log_path",
    "prune",
    "relaunch",
    "requeue",
    "start_mer",
    "submit",
]


def log_path(run_id: str) -> Path:
    """The file that a launched run writes its messages to."""
    return home() / "logs" / f"{run_id}.log"


def launch(runs: RunStore, spec: "Spec", *, needs: str = "") -> str:
    """Record a queued run and start its process, without waiting for it.

    Parameters
    ----------
    runs, spec, needs
        See `submit`.

    Returns
    -------
    str
        The run's id.

    Raises
    ------
    DataError, ConfigError, BackboneError
        If the request cannot be used.
    """
    run_id = submit(runs, spec, needs=needs)
    _spawn(runs, run_id)
    return run_id


def submit(runs: RunStore, spec: "Spec", *, needs: str = "") -> str:
    """Check a request and record a queued run for it; nothing is recorded if the check raises.

    Parameters
    ----------
    runs
        The run store.
    spec
        The request.
    needs
        Resources on a Ray cluster, as `mer.jobs.ray_cluster.Needs.to_json` writes them; empty for this
        machine.

    Returns
    -------
    str
        The run's id.
    """
    run_id = runs.create(spec.name(check_request(spec)), spec.to_dict())
    note(spec.data, **spec.reading, drop_conflicts=spec.drop_conflicts)
    if needs:
        runs.tag(run_id, {"mer.needs": needs})
    return run_id


def check_request(spec: "Spec") -> str:
    """Check a request as far as possible without decoding audio; returns the data set's name.

    Raises DataError, ConfigError or BackboneError.
    """
    from mer.models.joined import get_backbone

    name = _data_name(spec)
    get_backbone(spec.config.train.backbone)
    return name


def _data_name(spec: "Spec") -> str:
    """Name of the data set of a request, which must be large enough to train on."""
    from mer.data.clips import is_sharded
    from mer.data.load import load_dataset
    from mer.experiments.prepared_shards import PreparedShards

    path = Path(spec.data)
    if is_sharded(path):
        return PreparedShards.open(path, spec.config).about["name"]
    data = load_dataset(path, **spec.reading)
    return data.require_trainable().name


def relaunch(runs: RunStore, name: str) -> Run:
    """Queue an unfinished run again and start its process; raises RunError if it is not idle."""
    run = requeue(runs, name)
    _spawn(runs, run.id)
    return run


def requeue(runs: RunStore, name: str) -> Run:
    """Queue an unfinished run again, to continue after its last epoch; raises RunError if it is not idle."""
    run = runs.get(name)
    if run.status not in RESUMABLE:
        raise RunError(f"run {run.id[:8]} is {run.status}; only an unfinished, idle run can be resumed")
    runs.take(run)
    runs.enqueue(run.id)
    return replace(run, status="queued")


def _spawn(runs: RunStore, run_id: str) -> None:
    """Start `python -m mer runs work RUN` in a session of its own, which outlives the terminal."""
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


def start_mer(*words: str, environment: Mapping[str, str] | None = None, **options: Any) -> subprocess.Popen:
    """Start `python -m mer WORDS` without standard input, with this process's modules.

    `environment` is added to this process's; `options` are those of subprocess.Popen.
    """
    added = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **(environment or {})}
    return subprocess.Popen(  # noqa: S603 - our own program; the words are arguments, not a shell's
        [sys.executable, "-m", "mer", *words], stdin=subprocess.DEVNULL, env=os.environ | added, **options
    )


def cancel(runs: RunStore, name: str) -> Run:
    """Ask a run to stop at its next step; a run that no process works on is marked as stopped at once.

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
    """Delete a run with its folds. It keeps its files, so that `mer.runs.deleted.restore` brings it back.

    Nothing happens if it is deleted already. Raises RunError while it is running.
    """
    try:
        run = runs.get(name)
    except GoneError:
        return find_deleted(runs, name)[0]
    if run.status in ("running", "stopping"):
        raise RunError(f"run {run.id[:8]} is {run.status}; cancel it first: mer runs cancel {run.id[:8]}")
    if run.status == "queued":
        cancel(runs, run.id)
    for part in (*runs.children(run.id), run):
        drop_fetched(part.id)
        runs.delete(part.id)
    return run


def prune(runs: RunStore, names: Sequence[str] = (), *, dry_run: bool = False) -> tuple[list[Run], int]:
    """Remove the files of deleted runs, which then cannot be restored.

    Parameters
    ----------
    runs
        The run store.
    names
        Beginnings of the ids of deleted runs; each stands for a run with its folds. Default: all.
    dry_run
        Only say what would be removed.

    Returns
    -------
    list of Run, int
        The runs, and the bytes of their files.

    Raises
    ------
    RunError
        If a name is not that of a deleted run.
    """
    found = (
        {run.id: run for name in names for run in find_deleted(runs, name)}
        if names
        else {run.id: run for run in deleted_runs(runs)}
    )
    size = sum(size_of(runs, run) for run in found.values())
    for run_id in () if dry_run else found:
        remove_files(runs, run_id)
        log_path(run_id).unlink(missing_ok=True)
    return list(found.values()), size
