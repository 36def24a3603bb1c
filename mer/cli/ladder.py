"""`mer ladder`: from the released code of the 2022 study to preset `default`, one change at a time."""

from argparse import Namespace
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from mer.cli.output import STOPPED, Bars, emit, table
from mer.cli.specs import command_for, given_settings, make_spec
from mer.metrics.score import Score
from mer.utils.errors import MerError

if TYPE_CHECKING:
    from mer.experiments.prepared import Spec
    from mer.experiments.study2022.ladder import RungResult
    from mer.runs.store import RunStore


def ladder(arguments: Namespace) -> int:
    """Train every rung in turn and print the effect of each; a failure does not stop the rest."""
    from mer.runs.store import RunStore

    specs = _specs(arguments)
    name = specs[0].ladder
    if arguments.detach:
        from mer.jobs.queue import launch

        found = [launch(RunStore.open(), spec) for spec in specs]
        text = f"{len(found)} runs are queued; see the page Ladder, or: mer runs list"
        emit({"ladder": name, "run_ids": found}, as_json=arguments.json, text=text)
        return 0
    stopped, failed = _train_all(specs)
    steps = _read(RunStore.open(), name)
    emit(
        {
            "ladder": name,
            "rungs": [_plain(step) for step in steps],
            "failed": failed,
            "published": _published(),
        },
        as_json=arguments.json,
        text=_text(steps, failed),
    )
    return STOPPED if stopped else 0


def _specs(arguments: Namespace) -> list["Spec"]:
    """The requests for the runs of a new ladder."""
    from mer.experiments.study2022.ladder import rungs

    name, specs = uuid4().hex, []
    for rung in rungs(**given_settings(arguments)):
        spec = make_spec(arguments, rung.config)
        command = command_for(spec, preset_name=rung.preset)
        specs.append(replace(spec, command=command, ladder=name, rung=rung.key))
    return specs


def _train_all(specs: list["Spec"]) -> tuple[bool, list[dict[str, str]]]:
    """Train each run. Returns whether one was stopped, and the failures; raises MerError if all failed."""
    from mer.cli.epochs import EpochBar
    from mer.experiments.experiment import Experiment
    from mer.runs.store import RunStore

    experiment = Experiment(RunStore.open, callbacks=[EpochBar()], notify=Bars())
    failed = []
    for spec in specs:
        try:
            outcome = experiment.train(spec)
        except MerError as error:
            failed.append({"rung": spec.rung, "error": str(error)})
            if len(failed) == len(specs):
                raise
        else:
            if outcome.status != "finished":
                return True, failed
    return False, failed


def _read(store: "RunStore", name: str) -> list["RungResult"]:
    from mer.experiments.study2022.ladder import climbed, ladders
    from mer.runs.results import read_predictions, read_scores

    runs = ladders(store.runs()).get(name, [])
    return climbed(runs, lambda run: read_scores(store, run.id), lambda run: read_predictions(store, run.id))


def _plain(step: "RungResult") -> dict[str, Any]:
    """One rung for JSON; scores in [0, 1], times in s."""
    found, run, scores = step.comparison, step.run, step.scores or {}
    keys = ("song_accuracy", "accuracy", "macro_f1", "majority", "chance", "outside", "n_songs", "n_clips")
    data = {
        "rung": step.key,
        "title": step.title,
        "text": step.text,
        "run_id": run.id,
        "status": run.status,
        "seconds": round(run.worked, 1) if run.ended else None,
        "changed": step.changed,
        "against": step.against,
        "note": step.note,
        "leak": run.leak,
    }
    data |= {key: scores[key] for key in keys if key in scores}
    data |= {"intervals": scores["intervals"]} if scores else {}
    if found:
        value, *interval = found.verdict.difference
        data |= {"difference": value, "interval": interval, "p": found.verdict.p_value}
    return data


def _published() -> list[dict[str, Any]]:
    """The published results of the study, as plain data."""
    from mer.experiments.study2022.published import RESULTS, TEST_CLIPS, majority

    return [
        {
            "name": result.name,
            "accuracy": result.accuracy,
            "interval": list(result.interval),
            "outside": result.outside / TEST_CLIPS,
            "majority": majority(),
            "n_clips": TEST_CLIPS,
        }
        for result in RESULTS
    ]


def _text(steps: list["RungResult"], failed: list[dict[str, str]]) -> str:
    """The results as a table, with notes."""
    rows = [_row(step) for step in steps]
    parts = [table(rows, ("rung", "by song (95%)", "change (95%)", "which is", "no class", "time", "run"))]
    scores = next((step.scores for step in reversed(steps) if step.scores and not step.aside), None)
    if scores:
        parts.append(
            f"{scores['n_clips']} test clips of {scores['n_songs']} songs; largest class "
            f"{scores['majority']:.0%}, chance {scores['chance']:.0%}. Each rung keeps the changes of "
            "the rows above it; p is from McNemar's exact test over songs, against the row before."
        )
    best = ", ".join(f"{row['name']} {row['accuracy']:.1%}" for row in _published()[:2])
    parts.append(f"The results of the study of 2022, on 98 clips: {best}, ...; largest class 27.6%.")
    parts += [f"{row['rung']}: {row['error']}" for row in failed]
    return "\n\n".join(parts)


def _row(step: "RungResult") -> tuple[str, ...]:
    """The row of one rung in the table."""
    run, found = step.run, step.comparison
    time = f"{run.worked:.0f} s" if run.ended else ""
    if step.scores is None:
        return (step.titled, run.status, "", "", "", time, run.id[:8])
    change, chance = step.note, ""
    if found:
        change, chance = found.verdict.difference.points, found.verdict.words("better", "worse")
    outside = f"{step.scores['outside']:.0%}" if "outside" in step.scores else ""
    return (step.titled, str(Score.from_scores(step.scores)), change, chance, outside, time, run.id[:8])
