"""`mer runs`: list, show, cancel, resume, delete and restore runs."""

from argparse import Namespace
from datetime import datetime

from mer.cli.output import emit, table
from mer.data.apart import MARKS
from mer.metrics.verdict import standing_of
from mer.runs.deleted import deleted_runs, restore
from mer.runs.run import Run
from mer.runs.store import RunStore
from mer.utils.progress import megabytes


def _summary(run: Run) -> dict:
    keys = ("id", "name", "status", "started", "ended", "parent", "reason", "metrics", "leak")
    return {("run_id" if key == "id" else key): getattr(run, key) for key in keys}


def runs_list(arguments: Namespace) -> None:
    """List all runs, newest first, or the deleted ones that can be restored."""
    store = RunStore.open()
    runs = deleted_runs(store) if arguments.deleted else store.runs()
    rows = [
        (
            run.id[:8],
            run.name,
            run.status,
            datetime.fromtimestamp(run.started).astimezone().strftime("%Y-%m-%d %H:%M"),
            f"{run.metrics['test_song_accuracy']:.0%}" if "test_song_accuracy" in run.metrics else "",
            run.leak,
        )
        for run in runs
    ]
    none = "no deleted runs" if arguments.deleted else "no runs yet"
    text = table(rows, ("run", "name", "status", "started", "by song", "")) if rows else none
    emit({"runs": [_summary(run) for run in runs]}, as_json=arguments.json, text=text)


def runs_show(arguments: Namespace) -> None:
    """Show a run's settings, tags and metrics."""
    run = RunStore.open().get(arguments.name)
    data = _summary(run) | {
        "spec": run.spec,
        "tags": {k: v for k, v in run.tags.items() if k.startswith("mer.")},
    }
    facts = [
        ("run", run.id),
        ("name", run.name),
        ("status", run.status),
        ("command", run.spec.get("command", "")),
    ]
    if run.host:
        facts.append(("machine", run.host))
    if run.members:
        facts.append(("an ensemble of", ", ".join(run.members)))
    if run.reason:
        facts.append(("reason", run.reason))
    if run.leak:
        facts.append(("note", MARKS[run.leak]))
    if "test_song_accuracy" in run.metrics and not run.leaky:
        facts.append(("by song", standing_of(run.metrics)))
    facts += [(key, f"{value:.4g}") for key, value in sorted(run.metrics.items())]
    emit(data, as_json=arguments.json, text=table(facts, ("", "")).strip())


def runs_cancel(arguments: Namespace) -> None:
    """Stop a run at its next step."""
    from mer.jobs.queue import cancel

    run = cancel(RunStore.open(), arguments.name)
    emit(
        {"run_id": run.id, "status": run.status},
        as_json=arguments.json,
        text=f"run {run.id[:8]} is {run.status}",
    )


def runs_resume(arguments: Namespace) -> int:
    """Resume an unfinished run."""
    from mer.cli.cluster import work_on_cluster
    from mer.cli.train import run_together, show_outcome
    from mer.jobs.queue import relaunch, requeue

    if arguments.detach:
        run = relaunch(RunStore.open(), arguments.name)
        data, text = {"run_id": run.id, "status": run.status}, f"run {run.id[:8]} is {run.status}"
        emit(data, as_json=arguments.json, text=text)
        return 0
    runs = RunStore.open()
    if runs.get(arguments.name).needs:
        run = requeue(runs, arguments.name)
        return show_outcome(work_on_cluster(run), as_json=arguments.json)
    return run_together(lambda experiment: experiment.resume(arguments.name), as_json=arguments.json)


def runs_work(arguments: Namespace) -> int:
    """Work on a queued run. `--detach` starts this command."""
    from mer.cli.cluster import work_on_cluster
    from mer.cli.epochs import EpochBar
    from mer.cli.train import show_outcome
    from mer.experiments.experiment import Experiment

    run = RunStore.open().get(arguments.name)
    if run.needs:
        return show_outcome(work_on_cluster(run), as_json=arguments.json)
    outcome = Experiment(RunStore.open, callbacks=[EpochBar()]).work(run.id)
    return show_outcome(outcome, as_json=arguments.json)


def runs_delete(arguments: Namespace) -> None:
    """Delete a run and the runs of its folds."""
    from mer.jobs.queue import delete

    run = delete(RunStore.open(), arguments.name)
    short = run.id[:8]
    text = (
        f"run {short} is deleted; to restore it: mer runs restore {short}; to free its disk space: "
        f"mer runs prune {short}"
    )
    emit({"run_id": run.id, "deleted": True}, as_json=arguments.json, text=text)


def runs_restore(arguments: Namespace) -> None:
    """Restore a deleted run and the runs of its folds."""
    run = restore(RunStore.open(), arguments.name)
    emit(
        {"run_id": run.id, "status": run.status},
        as_json=arguments.json,
        text=f"run {run.id[:8]} is restored",
    )


def runs_prune(arguments: Namespace) -> None:
    """Remove the files of deleted runs, which then cannot be restored."""
    from mer.jobs.queue import prune

    runs, size = prune(RunStore.open(), arguments.names, dry_run=arguments.dry_run)
    data = {"run_ids": [run.id for run in runs], "bytes": size, "dry_run": arguments.dry_run}
    verb = "would be" if arguments.dry_run else "were"
    text = f"the files of {len(runs)} deleted runs, {megabytes(size)}, {verb} removed"
    emit(data, as_json=arguments.json, text=text)
