"""`mer controls` and `mer check-leak`: runs that test whether scores can be trusted."""

from argparse import Namespace
from dataclasses import replace
from typing import TYPE_CHECKING

from mer.cli.output import Bars, emit, table
from mer.cli.specs import command_for, make_spec, requested_config, requested_preset
from mer.data.cache.controls import CONTROLS
from mer.utils.errors import Stop

if TYPE_CHECKING:
    from mer.runs.outcomes import Outcome

FAILED = 1  # exit status of a check that found something


def _trained(arguments: Namespace, **changes: object) -> "tuple[Outcome, list[dict]]":
    """Train a run with these changes. Returns its outcome and predictions; raises Stop if it was stopped."""
    from mer.cli.epochs import EpochBar
    from mer.experiments.experiment import Experiment
    from mer.runs.results import read_predictions
    from mer.runs.store import RunStore

    spec = make_spec(arguments, requested_config(arguments, **changes))
    spec = replace(spec, command=command_for(spec, preset_name=requested_preset(arguments)))
    outcome = Experiment(RunStore.open, callbacks=[EpochBar()], notify=Bars()).train(spec)
    if outcome.status != "finished":
        raise Stop
    return outcome, read_predictions(RunStore.open(), outcome.run_id)


def controls(arguments: Namespace) -> int:
    """Train on shuffled labels, silence and noise; the status is 1 if a score is above guessing."""
    from mer.experiments.verdicts import control_of

    found = []
    for control in CONTROLS:
        outcome, rows = _trained(arguments, control=control)
        found.append(control_of(control, outcome.run_id, outcome.metrics, rows))
    broken = any(control.above for control in found)
    rows = [
        (CONTROLS[control.control], name, str(score), f"{control.guess:.0%}",
         "above guessing" if name in control.above else "", control.run_id[:8])
        for control in found
        for name, score in control.scores.items()
    ]  # fmt: skip
    verdict = (
        "A score is above guessing although nothing can be learned. By chance, one score in forty is: "
        "try again with another --seed. If it happens again, the scores cannot be trusted."
        if broken
        else "No score is above guessing, as expected."
    )
    header = ("learned from", "", "by song (95% interval)", "guessing", "", "run")
    data = {"controls": [control.to_dict() for control in found], "broken": broken}
    emit(data, as_json=arguments.json, text=f"{table(rows, header)}\n{verdict}")
    return FAILED if broken else 0


def check_leak(arguments: Namespace) -> None:
    """Train twice, with songs kept apart and with songs on both sides of the split, and compare."""
    from mer.experiments.leaks import leak_of
    from mer.runs.results import read_baseline
    from mer.runs.store import RunStore

    (kept, first), (parted, second) = (_trained(arguments, group_by_song=apart) for apart in (True, False))
    found = {"network": leak_of(first, second)}
    svm = [read_baseline(RunStore.open(), outcome.run_id) for outcome in (kept, parted)]
    if all(svm):
        found["SVM"] = leak_of(*svm)
    rows = [
        (name, str(leak.kept), str(leak.parted), leak.verdict.difference.points)
        for name, leak in found.items()
    ]
    data = {"kept": kept.run_id, "parted": parted.run_id}
    data |= {"leaks": {name: leak.to_dict() for name, leak in found.items()}}
    header = ("by song (95% interval)", "songs kept apart", "songs on both sides", "difference")
    lines = [table(rows, header), *(f"{name}: {leak.meaning}" for name, leak in found.items())]
    lines.append(f"runs {kept.run_id[:8]} and {parted.run_id[:8]}")
    emit(data, as_json=arguments.json, text="\n".join(lines))
