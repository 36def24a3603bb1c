"""Runs as jobs: stop one, remove one."""

from dataclasses import replace

from mer.errors import RunError
from mer.resume import drop_state, state_path
from mer.runs import Run
from mer.tracking import RunStore

__all__ = ["cancel", "delete"]


def cancel(runs: RunStore, name: str) -> Run:
    """Ask a run to stop at its next step; one that no process works on is marked stopped at once.

    Raises RunError if it has ended already.
    """
    run = runs.get(name)
    if run.status in ("finished", "failed", "stopped"):
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
    """Remove a run, its folds and its saved state; raises RunError while it is running."""
    run = runs.get(name)
    if run.status in ("running", "stopping"):
        raise RunError(f"run {run.id[:8]} is {run.status}; cancel it first: mer runs cancel {run.id[:8]}")
    for part in (*runs.children(run.id), run):
        drop_state(state_path(part.id))
        runs.delete(part.id)
    return run
