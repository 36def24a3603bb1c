"""`mer train` and `mer sweep`."""

from argparse import Namespace
from typing import TYPE_CHECKING

from mer.cli.cluster import requested_needs, sweep_on_cluster, train_on_cluster
from mer.cli.output import STOPPED, Bars, emit, table
from mer.cli.specs import given_settings, make_spec, requested_config, requested_preset
from mer.config.presets import preset
from mer.data.apart import MARKS, PARTED
from mer.metrics.score import Score
from mer.metrics.verdict import standing_of
from mer.utils.errors import ConfigError, MerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mer.config.sections import Config
    from mer.experiments.experiment import Experiment
    from mer.experiments.prepared import Spec
    from mer.runs.outcomes import Outcome


def train(arguments: Namespace) -> int:
    """Train one network, or k for a cross-validation."""
    needs = requested_needs(arguments)
    config = requested_config(arguments)
    _note_consequences(arguments, config)
    spec = make_spec(arguments, config)
    if arguments.detach:
        return _launch(spec, needs.to_json() if needs else "", as_json=arguments.json)
    if needs:
        return show_outcome(train_on_cluster(spec, needs), as_json=arguments.json)
    return run_together(lambda experiment: experiment.train(spec), as_json=arguments.json)


def _note_consequences(arguments: Namespace, config: "Config") -> None:
    """Report if the given settings changed the backbone, and those that have no effect."""
    given, name = given_settings(arguments), requested_preset(arguments)
    usual, backbone = preset(name).train.backbone, config.train.backbone
    if "backbone" not in given and backbone != usual:
        reason = f"{usual} of preset {name} do not fit the options, or have no weights on this machine"
        Bars()(f"note: {reason}; the backbone is {backbone}", 0, 0)
    if unused := [f"--{key.replace('_', '-')}" for key in given if key in config.unused]:
        Bars()(f"note: without effect with --solver {config.train.solver}: {', '.join(unused)}", 0, 0)
    if config.train.frozen_at_random:
        reason = f"--weights none with --freeze {config.train.freeze} trains a head on random filters"
        Bars()(f"note: {reason}, which rarely learns anything; --preset full trains the whole network", 0, 0)


def run_together(work: "Callable[[Experiment], Outcome]", *, as_json: bool) -> int:
    """Work on a run, with all processes that torchrun started, and print its outcome."""
    from mer.cli.epochs import EpochBar
    from mer.experiments.experiment import Experiment
    from mer.experiments.torchrun import lead_or_follow
    from mer.runs.store import RunStore

    outcome = lead_or_follow(
        lambda ranks: work(Experiment(RunStore.open, callbacks=[EpochBar()], notify=Bars(), ranks=ranks))
    )
    return show_outcome(outcome, as_json=as_json) if outcome else 0


def _launch(spec: "Spec", needs: str, *, as_json: bool) -> int:
    from mer.jobs.queue import launch, log_path
    from mer.runs.store import RunStore

    run_id = launch(RunStore.open(), spec, needs=needs)
    data = {"run_id": run_id, "status": "queued", "metrics": {}, "checkpoint": None}
    text = f"run {run_id[:8]} is queued; see: mer runs list; its log: {log_path(run_id)}"
    emit(data, as_json=as_json, text=text)
    return 0


def show_outcome(outcome: "Outcome", *, as_json: bool) -> int:
    """Print the outcome of a run; the exit status is 130 if it was stopped."""
    emit(outcome.to_dict(), as_json=as_json, text=_outcome_text(outcome))
    return 0 if outcome.status == "finished" else STOPPED


def _outcome_text(outcome: "Outcome") -> str:
    """The scores of a run and the place of its checkpoint, for people."""
    if outcome.status != "finished":
        return f"run {outcome.run_id[:8]} {outcome.status}; to continue: mer runs resume {outcome.run_id[:8]}"
    m = outcome.metrics
    rows = [
        (label, str(Score.from_metrics(m, key)))
        for label, key in (
            ("by song", "test_song_accuracy"),
            ("by clip", "test_accuracy"),
            ("by window", "test_window_accuracy"),
            ("macro-F1", "test_macro_f1"),
            ("overlap with votes", "test_overlap"),
            ("votes won", "test_votes_won"),
        )
        if key in m
    ]
    if "test_kappa" in m:
        rows += [("Cohen's kappa", f"{m['test_kappa']:.2f}")]
        rows += [("calibration error", f"{m['test_calibration_error']:.0%}")]
    if "svm_song_accuracy" in m:
        rows += [("an SVM, by song", str(Score.from_metrics(m, "svm_song_accuracy")))]
    rows += [("majority class", f"{m['majority']:.0%}"), ("chance", f"{m['chance']:.0%}")]
    tested = f"{m['n_clips']:.0f} test clips of {m['n_songs']:.0f} songs"
    return "\n".join(
        [
            table(rows, (tested, "score (95% interval)")),
            _standing(outcome),
            f"run {outcome.run_id[:8]}, checkpoint: {outcome.checkpoint}",
        ]
    )


def _standing(outcome: "Outcome") -> str:
    """Whether a run scores above guessing and its SVM, and the meaning of its mark."""
    found = "" if outcome.leak == PARTED else f"By song, {standing_of(outcome.metrics)}."
    return f"{found} {MARKS[outcome.leak]}".strip()


def sweep(arguments: Namespace) -> int:
    """Train each backbone with each batch size; a failure does not stop the rest."""
    from mer.models.joined import get_backbone
    from mer.models.zoo import ZOO

    needs = requested_needs(arguments)
    names = list(ZOO) if arguments.backbones == "all" else arguments.backbones.split(",")
    for name in names:
        get_backbone(name)
    usual = {name: requested_config(arguments, backbone=name).train.batch_size for name in names}
    sizes = _sizes(arguments.batch_sizes)
    settings = [{"backbone": name, "batch_size": size} for name in names for size in sizes or [usual[name]]]
    specs = [make_spec(arguments, requested_config(arguments, **setting)) for setting in settings]
    outcomes = sweep_on_cluster(specs, needs) if needs else _one_by_one(specs)
    done, failed = [], []
    for setting, outcome in zip(settings, outcomes, strict=False):
        if isinstance(outcome, MerError):
            failed.append(setting | {"error": str(outcome)})
        else:
            done.append(setting | outcome.to_dict())
    emit({"runs": done, "failed": failed}, as_json=arguments.json, text=_sweep_text(done, failed))
    if not done:
        raise MerError(failed[0]["error"] if failed else "no run was started; name networks: --backbones")
    return 0 if all(run["status"] == "finished" for run in done) else STOPPED


def _one_by_one(specs: "list[Spec]") -> "Iterator[Outcome | MerError]":
    """Train one after the other, until one is stopped; yields outcomes or errors."""
    from mer.cli.epochs import EpochBar
    from mer.experiments.experiment import Experiment
    from mer.runs.store import RunStore

    experiment = Experiment(RunStore.open, callbacks=[EpochBar()], notify=Bars())
    for spec in specs:
        try:
            outcome = experiment.train(spec)
        except MerError as error:
            yield error
        else:
            yield outcome
            if outcome.status != "finished":
                return


def _sizes(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part]
    except ValueError as error:
        raise ConfigError(f"--batch-sizes {text!r} should be whole numbers such as 16,32,64") from error


def _sweep_text(done: list[dict], failed: list[dict]) -> str:
    rows = []
    for run in sorted(done, key=lambda run: -run["metrics"].get("test_song_accuracy", -1)):
        m = run["metrics"]
        score = str(Score.from_metrics(m)) if m else run["status"]
        rows.append((run["backbone"], run["batch_size"], score, run["run_id"][:8], run.get("leak", "")))
    rows += [(run["backbone"], run["batch_size"], run["error"], "", "") for run in failed]
    return table(rows, ("network", "batch", "test accuracy by song (95%)", "run", ""))
