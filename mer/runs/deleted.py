"""Deleted runs. They are hidden from all lists and can be restored until their files are removed.

MLflow keeps the record of a deleted run, that is its settings, metrics and tags, until `mlflow gc`.
"""

from mer.runs.artifacts import drop_fetched
from mer.runs.connection import changing, guarded
from mer.runs.listing import matching
from mer.runs.run import Run, drop_state, state_path
from mer.runs.store import RunStore

__all__ = ["deleted_runs", "find_deleted", "remove_files", "restore", "size_of"]

REMOVED = "mer.removed"


def deleted_runs(runs: RunStore) -> list[Run]:
    """Deleted runs that can be restored, newest first; the folds of a cross-validation are in the list."""
    return [run for run in runs.search("", deleted=True) if REMOVED not in run.tags]


def find_deleted(runs: RunStore, name: str) -> tuple[Run, ...]:
    """The deleted run whose id starts with `name`, then its folds.

    Raises GoneError if there is none, RunError if there are several.
    """
    found = deleted_runs(runs)
    run = matching(found, name, remedy="'mer runs list --deleted' shows those that can be restored")
    return run, *(part for part in found if part.parent == run.id)


@changing
def restore(runs: RunStore, name: str) -> Run:
    """Bring back a deleted run with its folds and files. Raises RunError if it cannot be restored."""
    run, *folds = find_deleted(runs, name)
    for part in (*folds, run):
        runs.client.restore_run(part.id)
    runs.listing.read_again()
    return run


@guarded
def size_of(runs: RunStore, run: Run) -> int:
    """Bytes of the files of a run: models, scores, and the state of an unfinished run."""
    state = state_path(run.id)
    return runs.artifacts.size(run.id) + (state.stat().st_size if state.is_file() else 0)


@changing
def remove_files(runs: RunStore, run_id: str) -> None:
    """Remove the files of a run and delete it, if it is not deleted already; it cannot be restored."""
    drop_state(state_path(run_id))
    drop_fetched(run_id)
    runs.artifacts.remove(run_id)
    runs.client.restore_run(run_id)  # MLflow sets no tag of a deleted run
    runs.client.set_tag(run_id, REMOVED, "1")
    runs.delete(run_id)
