"""From a request to a finished run: clips to test scores and a checkpoint, or k of them with k folds.

Every way to a run ends in `Experiment.work`: the run is recorded as queued, waits for a slot, trains, and its
end is recorded. The request is stored with the run, so that the run can be resumed, or repeated elsewhere.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from mer.audio.transforms import EvalTransform
from mer.data.apart import worst_leak
from mer.data.library import note
from mer.experiments.baseline import baseline_rows, with_baseline
from mer.experiments.callbacks import LogMetrics, Reporter, SaveState, SendState, newest_state
from mer.experiments.prepared import Spec
from mer.experiments.records import headline, make_card, save_evaluation, versions
from mer.experiments.setup import PreparedRun, Setup
from mer.experiments.testing import judge
from mer.experiments.verify import require_same_answers
from mer.metrics.predictions import score_rows
from mer.models.checkpoint import write_files
from mer.models.size import size_of
from mer.runs.heartbeat import Heartbeat
from mer.runs.outcomes import Outcome, finished
from mer.runs.results import read_baseline, read_predictions
from mer.runs.run import ENDED, RESUMABLE, Run, TakenError, drop_state, is_mine, state_path
from mer.runs.slots import hold_run, hold_slot
from mer.runs.store import RunStore
from mer.training.distributed import ALONE, Ranks
from mer.training.loop import Callback, State
from mer.utils.errors import DataError, LostError, MerError, RunError, Stop, StorageError
from mer.utils.parallel import share_cores
from mer.utils.progress import Notify

__all__ = ["Experiment"]

PATIENCE = 600.0  # s for which a run waits for a server that does not answer
SHARED_PACE = 2.0  # s between two writes of metrics, or two looks for a request to stop, with a server


class Experiment:
    """Trains runs and records them.

    Parameters
    ----------
    open_runs
        Opens the run store. It is called when the first run is to be recorded.
    callbacks
        Called in the training loop.
    notify
        Called with the progress of other work: preparing clips, the wait for a slot, the SVM.
    ranks
        The processes that train together.
    driven
        True in a worker of a Ray cluster. A driver then has the right to work on the run. The run takes no
        slot on this machine, and if a worker is lost, the run stays as it is, so that the driver can continue
        it.
    """

    def __init__(
        self,
        open_runs: Callable[[], RunStore] = RunStore.open,
        *,
        callbacks: Sequence[Callback] = (),
        notify: Notify | None = None,
        ranks: Ranks = ALONE,
        driven: bool = False,
    ) -> None:
        self.open_runs, self.callbacks, self.notify = open_runs, tuple(callbacks), notify
        self.ranks, self.driven = ranks, driven

    @cached_property
    def runs(self) -> RunStore:
        """The run store, opened when the first run is to be recorded: bad input leaves no trace there."""
        return self.open_runs().for_worker(patience=PATIENCE)

    @cached_property
    def heartbeat(self) -> Heartbeat:
        """The heartbeats of the runs that are worked on: a fold, and its cross-validation."""
        return Heartbeat(self.runs)

    def train(self, spec: Spec) -> Outcome:
        """Train a new run.

        Bad input raises before it is recorded. Raises as `PreparedRun.checked` and `work` do.
        """
        prepared = PreparedRun.checked(spec, notify=self.notify)
        run_id = self._create(prepared)
        note(spec.data, **spec.reading, drop_conflicts=spec.drop_conflicts)
        return self.work(run_id, prepared)

    def resume(self, name: str) -> Outcome:
        """Continue a run that was stopped, interrupted or failed.

        Raises RunError for any other run and if the clips have changed, DataError if they are not on this
        machine, TakenError if another process has taken over the run.
        """
        run = self.runs.get(name)
        if run.status not in (*RESUMABLE, "queued") or run.waits_here or run.waits_elsewhere:
            raise RunError(f"run {run.id[:8]} is {run.status}; only an unfinished, idle run can be resumed")
        prepared = self._prepare(run, self.notify)
        self.runs.take(run)
        self.runs.enqueue(run.id)
        return self.work(run.id, prepared)

    def work(self, name: str, prepared: PreparedRun | None = None) -> Outcome:
        """Work on a queued run in this process, as soon as it has a slot.

        The end of the run is recorded in any case. A stop, also by Ctrl-C, is an outcome. Raises RunError if
        the run is not queued or another process works on it, and any error that the run fails with.
        """
        share_cores()
        run = self.runs.get(name)
        if self.driven:
            return self._recorded(run.id, lambda: self._train(run, prepared))
        with hold_run(run.id):
            run = self.runs.get(run.id)
            if run.status not in ("queued", "interrupted"):
                raise RunError(f"run {run.id[:8]} is {run.status}; only a queued run can be worked on")
            if run.waits_elsewhere:
                raise TakenError(f"run {run.id[:8]} waits on {run.host}; cancel it before you start it here")
            self.runs.tag(run.id, {"mer.owner": self.runs.owner})
            return self._recorded(run.id, lambda: self._train_in_turn(run, prepared))

    def _recorded(self, run_id: str, train: Callable[[], Outcome]) -> Outcome:
        """Train a run and record how it ends. Here Ctrl-C and SIGTERM become a stop."""
        try:
            with self.heartbeat.of(run_id):
                outcome = train()
        except (Stop, KeyboardInterrupt) as stop:
            self._end(run_id, "stopped", reason=str(stop) or "stopped by Ctrl-C")
            return Outcome(run_id, "stopped")
        except TakenError:
            raise  # the other process records how the run ends
        except BaseException as error:
            if self.driven and isinstance(error, (LostError, SystemExit)):  # Ray ends a worker by SystemExit
                raise
            reason = str(error) if isinstance(error, MerError) else f"{type(error).__name__}: {error}"
            with suppress(MerError):  # if the disk is full, the run later counts as interrupted
                self._end(run_id, "failed", reason=reason)
            raise
        self._end(run_id, outcome.status)
        if outcome.status == "finished":
            drop_state(state_path(run_id))  # last, so that a run that is killed here need not train again
            self.runs.drop_state(run_id)
        return outcome

    def _end(self, run_id: str, status: str, *, reason: str = "") -> None:
        """Record the end of a run, unless it has ended already or another process has taken it over."""
        run = self.runs.get(run_id)
        if run.status not in ENDED and is_mine(run.tags, self.runs.owner):
            self.runs.finish(run_id, status, reason=reason)

    def _train_in_turn(self, run: Run, prepared: PreparedRun | None) -> Outcome:
        """Wait for a slot of this machine and train. A run on a Ray cluster waits for Ray instead."""
        if run.needs:
            return self._train(run, prepared)
        report = self._reporter(run.id)

        def waiting() -> None:
            report("waiting for a free slot", 0, 0)
            self.ranks.send({"waiting": run.id})  # else the other processes would time out

        with hold_slot(self.runs, run.id, waiting):
            return self._train(run, prepared)

    def _train(self, run: Run, prepared: PreparedRun | None) -> Outcome:
        """Train one network, or all folds of a cross-validation."""
        self._start(run.id)
        prepared = prepared or self._prepare(run, self._reporter(run.id))
        is_parent = prepared.spec.config.split.folds and not run.parent
        return (self._folds if is_parent else self._fold)(run.id, prepared)

    def _start(self, run_id: str) -> None:
        if self.runs.get(run_id).status not in ("running", "stopping"):
            self.runs.start(run_id)

    def _prepare(self, run: Run, notify: Notify | None) -> PreparedRun:
        """Prepare and check the request of a recorded run; its clips must be those it began with."""
        run.require_readable()
        spec = Spec.from_dict(run.spec)
        _require_data(run, spec)
        prepared = PreparedRun.checked(spec, notify=notify)
        if run.data_hash is None:
            self._describe(run.id, prepared, run.parent)
        elif run.data_hash != prepared.data.about["hash"]:
            raise RunError(
                f"run {run.id[:8]}: the clips of {spec.data} have changed since it began; start a new run"
            )
        return prepared

    def _create(self, prepared: PreparedRun, parent: str | None = None) -> str:
        spec = prepared.spec
        name = spec.name(prepared.data.about["name"])
        if parent:
            name += f" fold {spec.config.split.fold + 1}"
        run_id = self.runs.create(name, spec.to_dict(), parent=parent)
        self._describe(run_id, prepared, parent)
        return run_id

    def _describe(self, run_id: str, prepared: PreparedRun, parent: str | None) -> None:
        """Tag a run with facts about its data."""
        data, is_parent = prepared.data, prepared.spec.config.split.folds and not parent
        leak = {} if is_parent else {"mer.leak": data.leak(prepared.split)}  # a parent's is that of its folds
        self.runs.tag(
            run_id,
            {
                "mer.data_hash": data.about["hash"],
                "mer.data_name": data.about["name"],
                "mer.synthetic": str(data.about["synthetic"]),
                "mer.test_hash": "" if is_parent else data.test_hash(prepared.split),
                "mer.classes": str(len(data.classes)),
                "mer.versions": json.dumps(versions()),
            }
            | leak,
        )

    def _fold(self, run_id: str, prepared: PreparedRun) -> Outcome:
        """Train, test and save one network."""
        spec, data, split = prepared.spec, prepared.data, prepared.split
        self.runs.tag(run_id, {"mer.validation_clips": str(len(split.validation))})
        with self.heartbeat.in_background():
            setup = Setup.of(prepared)
            model, standardizer = setup.model, setup.transform.standardizer
            state = self._fit(run_id, spec, setup)
            judged = judge(model, data, split, EvalTransform(standardizer), setup.kept)
        svm = baseline_rows(data, split, self._reporter(run_id)) if spec.config.split.baseline else []
        judged = replace(judged, scores=with_baseline(judged.scores, judged.rows, svm, data.classes))
        card = make_card(spec, data, split, standardizer, judged)

        def write(folder: Path) -> None:
            write_files(folder, model, card)
            require_same_answers(folder, data, split.test, judged.rows)

        evaluation = {"scores": judged.scores, "predictions": judged.rows, "history": state.history}
        evaluation |= {"validation": judged.validation} if judged.validation else {}
        with self.heartbeat.in_background():
            self.runs.save_folder(run_id, "checkpoint", write)
            save_evaluation(self.runs, run_id, evaluation | ({"svm": svm} if svm else {}))
        size = size_of(model)
        metrics = {"epochs": state.epoch, "parameters": size.total, "trained_parameters": size.trained}
        metrics = {name: float(value) for name, value in metrics.items()} | headline(judged.scores)
        self.runs.log(run_id, [(0, metrics)])
        return Outcome.of(self.runs, run_id, metrics)

    def _fit(self, run_id: str, spec: Spec, setup: Setup) -> State:
        path = state_path(run_id)
        log = LogMetrics(self.runs, run_id, **self._pace)
        keep: list[Callback] = [SaveState(path, self.runs)]
        saved = newest_state(self.runs, run_id, path)
        if saved:
            log.log_missing(saved)
        send = SendState(self.runs, run_id, path)
        keep += [send] if self.runs.shared else []
        self.ranks.send({"run": run_id, "spec": spec.to_dict()})
        callbacks = [*keep, log, *self.callbacks, self._reporter(run_id)]
        try:
            state = setup.fit(callbacks, resume=saved, ranks=self.ranks)
        except TakenError:
            raise
        except BaseException:
            with suppress(StorageError):
                send.send()  # so that another machine can continue the run
            raise
        finally:
            log.flush()
        return state

    @property
    def _pace(self) -> dict[str, float]:
        return {"every": SHARED_PACE} if self.runs.shared else {}

    def _reporter(self, run_id: str) -> Reporter:
        return Reporter(self.runs, run_id, heartbeat=self.heartbeat, notify=self.notify, **self._pace)

    def _folds(self, run_id: str, prepared: PreparedRun) -> Outcome:
        """Train every fold as a run of its own below `run_id`. Finished folds are kept."""
        known = {run.spec["config"]["split"]["fold"]: run for run in self.runs.children(run_id)}
        outcomes = []
        for outcome in self._each(run_id, prepared, known):
            outcomes.append(outcome)
            if outcome.status != "finished":
                raise Stop(f"stopped in fold {len(outcomes)} of {prepared.spec.config.split.folds}")
        return self._pool(run_id, prepared.data.classes, outcomes)

    def _each(self, run_id: str, prepared: PreparedRun, known: dict[int, Run]) -> Iterable[Outcome]:
        """Train the folds, one after the other."""
        for number in range(prepared.spec.config.split.folds):
            if done := finished(self.runs, known.get(number)):
                yield done
                continue
            part = prepared.fold(number)
            yield self._train_fold(self._child(known.get(number), part, run_id), part)

    def _train_fold(self, run_id: str, prepared: PreparedRun) -> Outcome:
        def train() -> Outcome:
            self._start(run_id)
            return self._fold(run_id, prepared)

        return self._recorded(run_id, train)

    def _child(self, run: Run | None, prepared: PreparedRun, parent: str) -> str:
        """The run of a fold: one that exists already, or a new one."""
        if run is None:
            return self._create(prepared, parent)
        if run.data_hash is None:  # the process was killed right after it recorded the run
            self._describe(run.id, prepared, parent)
        return run.id

    def _pool(self, run_id: str, classes: Sequence[str], outcomes: list[Outcome]) -> Outcome:
        """Scores over the test clips of all folds together; each clip is tested once.

        The checkpoint is that of the fold with the lowest validation loss, or of the first fold if there is
        no validation part. So no test clip chooses it.
        """
        rows = [row for outcome in outcomes for row in read_predictions(self.runs, outcome.run_id)]
        parts = [read_baseline(self.runs, outcome.run_id) for outcome in outcomes]
        svm = [row for part in parts for row in part] if all(parts) else []  # folds of an older mer have none
        scores = with_baseline(score_rows(rows, classes), rows, svm, classes)
        evaluation = {"scores": scores, "predictions": rows, "history": []}
        save_evaluation(self.runs, run_id, evaluation | ({"svm": svm} if svm else {}))
        metrics = headline(scores)
        for key in ("test_accuracy", "test_macro_f1", "test_song_accuracy"):
            values = [outcome.metrics[key] for outcome in outcomes]
            metrics |= {f"{key}_fold_mean": float(np.mean(values)), f"{key}_fold_std": float(np.std(values))}
        sizes = ("parameters", "trained_parameters")  # folds of an older mer have none
        metrics |= {key: outcomes[0].metrics[key] for key in sizes if key in outcomes[0].metrics}
        best = min(outcomes, key=lambda outcome: self._validation_loss(outcome.run_id))
        leak = worst_leak([outcome.leak for outcome in outcomes])
        self.runs.tag(run_id, {"mer.checkpoint_run": best.run_id, "mer.leak": leak})
        self.runs.log(run_id, [(0, metrics)])
        return Outcome(run_id, "finished", metrics, best.checkpoint, tuple(outcomes), leak)

    def _validation_loss(self, run_id: str) -> float:
        return min((value for _, value in self.runs.history(run_id, "validation_loss")), default=np.inf)


def _require_data(run: Run, spec: Spec) -> None:
    """Raise DataError if the clips are not on this machine."""
    if not Path(spec.data).exists():
        place = f" on {run.host}" if run.host else ""
        raise DataError(
            f"{spec.data}, the clips of run {run.id[:8]}, is not on this machine (it was begun{place}); "
            "put a copy or a link there, or resume the run where they are"
        )
