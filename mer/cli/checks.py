"""`mer controls` and `mer check-leak`: ordinary runs that show whether the others can be believed."""

from argparse import Namespace
from dataclasses import replace

from mer.cli.output import Bars, emit, table
from mer.cli.specs import command_for, given_settings, make_spec
from mer.config import preset
from mer.controls import CONTROLS

FOUND = 1  # exit status of a check that found something


def _trained(arguments: Namespace, **changes: object) -> tuple:
    """The outcome of a run with these changes, and its predictions."""
    from mer.cli.epochs import EpochBar
    from mer.experiments import Experiment
    from mer.results import read_predictions
    from mer.tracking import RunStore

    config = preset(arguments.preset).updated(**given_settings(arguments) | changes)
    spec = make_spec(arguments, config)
    spec = replace(spec, command=command_for(spec, preset_name=arguments.preset))
    outcome = Experiment(RunStore.open, callbacks=[EpochBar()], notify=Bars()).train(spec)
    if outcome.status != "finished":
        raise KeyboardInterrupt
    return outcome, read_predictions(RunStore.open(), outcome.run_id)


def controls(arguments: Namespace) -> int:
    """Train on shuffled labels, silence and noise; the status is 1 if anything scores above guessing."""
    from mer.verdicts import control_of

    found = []
    for control in CONTROLS:
        outcome, rows = _trained(arguments, control=control)
        found.append(control_of(control, outcome.run_id, outcome.metrics, rows))
    broken = any(control.above for control in found)
    rows = [
        (CONTROLS[control.control], name, *_cells(score), f"{control.guess:.0%}",
         "above guessing" if name in control.above else "", control.run_id[:8])
        for control in found
        for name, score in control.scores.items()
    ]  # fmt: skip
    verdict = (
        "Something scores above guessing where nothing can be learned. One score in forty does so by chance: "
        "try again with another --seed; if it stays, the pipeline is broken."
        if broken
        else "Nothing scores above guessing, as it should be."
    )
    header = ("learned from", "", "by song", "95% interval", "guessing", "", "run")
    data = {"controls": [control.to_dict() for control in found], "broken": broken}
    emit(data, as_json=arguments.json, text=f"{table(rows, header)}\n{verdict}")
    return FOUND if broken else 0


def _cells(score: tuple[float, float, float]) -> tuple[str, str]:
    value, low, high = score
    return f"{value:.0%}", f"{low:.0%} to {high:.0%}"
