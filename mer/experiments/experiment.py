"""One run from clips to test scores and a checkpoint, or k of them for a cross-validation.

What is asked for is a `Spec`, which is stored with the run, so that the run can be resumed after an
interruption or repeated elsewhere.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from mer.audio.transforms import EvalTransform
from mer.experiments.baseline import baseline_rows, with_baseline
from mer.experiments.callbacks import LogFigures, SaveState, SendState, StopOnRequest, newest_state
from mer.experiments.prepared import Material, Notify, Spec, prepare
from mer.experiments.records import headline, make_card, parameters, save_evaluation, versions
from mer.experiments.setup import Outset, new_model
from mer.experiments.testing import judge
from mer.metrics.predictions import score_rows
from mer.models.checkpoint import write_files
from mer.runs.heartbeat import Beats
from mer.runs.outcomes import Outcome, finished
from mer.runs.results import read_baseline, read_predictions
from mer.runs.run import RESUMABLE, Run, TakenError, drop_state, state_path
from mer.runs.store import RunStore
from mer.training.distributed import ALONE, Ranks
from mer.training.loop import Callback, State, Stop
from mer.utils.errors import DataError, LostError, MerError, RunError, StorageError

__all__ = ["Experiment"]

PATIENCE = 600.0  # s that a run at work waits for a server that does not answer
SHARED_PACE = 2.0  # s between two batches of figures, or two looks for a wish to stop, with a server


class Experiment:
    """Runs specs and records them."""

    def __init__(
        self,
        open_runs: Callable[[], RunStore] = RunStore.open,
        *,
        callbacks: Sequence[Callback] = (),
        notify: Notify | None = None,
        ranks: Ranks = ALONE,
        retried: bool = False,
    ) -> None:
        """If it is to be `retried`, a run that loses a process stays as it is for whoever does that."""
        self.open_runs, self.callbacks, self.notify = open_runs, tuple(callbacks), notify
        self.ranks, self.retried = ranks, retried

    @cached_property
    def runs(self) -> RunStore:
        """The run store, opened when the first run is due: bad input leaves no trace there."""
        return self.open_runs().for_worker(patience=PATIENCE)

    @cached_property
    def beats(self) -> Beats:
        """Signs of life of the runs that are worked on: a fold, and the cross-validation it is of."""
        return Beats(self.runs)

    def train(self, spec: Spec) -> Outcome:
        """A new run, or k of them under one parent; bad input raises before any run is recorded."""
        material = prepare(spec, notify=self.notify)
        material.split(spec.config)
        new_model(spec.config, material)  # missing weights and sizes that do not fit are noticed here
        run_id = self._create(spec, material)
        return self._go(run_id, spec, material)

    def resume(self, name: str) -> Outcome:
        """Go on with a run that was stopped, interrupted or failed; raises RunError otherwise."""
        run = self.runs.get(name)
        if run.status not in (*RESUMABLE, "queued") or run.waits_here or run.waits_elsewhere:
            raise RunError(f"run {run.id[:8]} is {run.status}; only an unfinished, idle run can be resumed")
        return self.go_on(run, take=True)

    def go_on(self, run: Run, *, take: bool = False) -> Outcome:
        """Begin a queued run, or continue an unfinished one.

        With `take` it becomes this process's first. Raises DataError if its clips are not on this machine,
        RunError if they have changed, TakenError if another process took it on meanwhile.
        """
        run.require_readable()
        spec = Spec.from_dict(run.spec)
        _require_data(run, spec)
        material = prepare(spec, notify=self.notify)
        if run.data_hash is None:
            material.split(spec.config)
            new_model(spec.config, material)
            self._describe(run.id, spec, material, run.parent)
        elif run.data_hash != material.about["hash"]:
            raise RunError(
                f"run {run.id[:8]}: the clips of {spec.data} have changed since it began; start a new run"
            )
        if take:
            self.runs.take(run)
        return self._go(run.id, spec, material)

    def _create(self, spec: Spec, material: Material, parent: str | None = None) -> str:
        config = spec.config
        name = spec.name(material.about["name"])
        if parent:
            name += f" fold {config.split.fold + 1}"
        run_id = self.runs.create(name, spec.to_dict(), parent=parent)
        self._describe(run_id, spec, material, parent)
        return run_id

    def _describe(self, run_id: str, spec: Spec, material: Material, parent: str | None) -> None:
        """Tag a run with what its clips turned out to be."""
        about, config = material.about, spec.config
        self.runs.tag(
            run_id,
            {
                "mer.data_hash": about["hash"],
                "mer.data_name": about["name"],
                "mer.synthetic": str(about["synthetic"]),
                "mer.test_hash": "" if config.split.folds and not parent else self._test_hash(spec, material),
                "mer.classes": str(len(material.classes)),
                "mer.versions": json.dumps(versions()),
            },
        )

    @staticmethod
    def _test_hash(spec: Spec, material: Material) -> str:
        return material.test_hash(material.split(spec.config))

    def _go(self, run_id: str, spec: Spec, material: Material) -> Outcome:
        with self.beats.of(run_id):
            return self._work(run_id, spec, material)

    def _work(self, run_id: str, spec: Spec, material: Material) -> Outcome:
        is_parent = spec.config.split.folds and not self.runs.get(run_id).parent
        if self.runs.get(run_id).status not in ("running", "stopping"):
            self.runs.start(run_id)
        try:
            result = (self._folds if is_parent else self._fold)(run_id, spec, material)
        except (Stop, KeyboardInterrupt) as stop:
            self.runs.finish(run_id, "stopped", reason=str(stop) or "stopped by Ctrl-C")
            return Outcome(run_id, "stopped")
        except TakenError:
            raise  # what becomes of it is for the other process to say
        except BaseException as error:
            if self.retried and isinstance(error, (LostError, SystemExit)):  # Ray ends a worker by SystemExit
                raise
            reason = str(error) if isinstance(error, MerError) else f"{type(error).__name__}: {error}"
            with suppress(StorageError):  # on a full disk it stays "running", to be found interrupted
                self.runs.finish(run_id, "failed", reason=reason)
            raise
        self.runs.log(run_id, [(0, result.metrics)])
        self.runs.finish(run_id, "finished")
        drop_state(state_path(run_id))  # not before: a run that is killed here need not train again
        self.runs.drop_state(run_id)
        return result

    def _fold(self, run_id: str, spec: Spec, material: Material) -> Outcome:
        """Train, test and save one network."""
        config, split = spec.config, material.split(spec.config)
        self.runs.tag(run_id, {"mer.validation_clips": str(len(split.validation))})
        with self.beats.by_itself():
            outset = Outset.of(config, material, split)
            model, standardizer = outset.model, outset.transform.standardizer
            state = self._fit(run_id, spec, outset)
            judged = judge(model, material, split, EvalTransform(standardizer), outset.kept)
        svm = baseline_rows(material, split, self._watch(run_id)) if config.split.baseline else []
        judged = replace(judged, scores=with_baseline(judged.scores, svm, material.classes))
        card = make_card(spec, material, split, standardizer, judged)
        evaluation = {"scores": judged.scores, "predictions": judged.rows, "history": state.history}
        evaluation |= {"validation": judged.validation} if judged.validation else {}
        with self.beats.by_itself():
            self.runs.save_folder(run_id, "checkpoint", lambda folder: write_files(folder, model, card))
            save_evaluation(self.runs, run_id, evaluation | ({"svm": svm} if svm else {}))
        metrics = headline(judged.scores) | {
            "epochs": float(state.epoch),
            "parameters": float(parameters(model)),
        }
        return Outcome.of(self.runs, run_id, metrics)

    def _fit(self, run_id: str, spec: Spec, outset: Outset) -> State:
        path, pace = state_path(run_id), {"every": SHARED_PACE} if self.runs.shared else {}
        log, watch = LogFigures(self.runs, run_id, **pace), StopOnRequest(self.runs, run_id, **pace)
        keep: list[Callback] = [SaveState(path)]
        saved = newest_state(self.runs, run_id, path)
        if saved:
            log.make_up(saved)
        send = SendState(self.runs, run_id, path)
        keep += [send] if self.runs.shared else []
        self.ranks.tell({"run": run_id, "spec": spec.to_dict()})
        try:
            state = outset.fit([*keep, log, *self.callbacks, watch], resume=saved, ranks=self.ranks)
        except TakenError:
            raise
        except BaseException:
            with suppress(StorageError):
                send.send()  # for whichever machine goes on
            raise
        finally:
            log.flush()
        return state

    def _watch(self, run_id: str) -> Notify:
        """Tells how far work after the training is; raises Stop if the run is asked to."""
        log, watch = LogFigures(self.runs, run_id), StopOnRequest(self.runs, run_id)

        def notify(title: str, done: int, total: int) -> None:
            watch.look(f"stopped on request at {title}")
            self.beats.give()
            log.tell(title, done, total)
            if self.notify:
                self.notify(title, done, total)

        return notify

    def _folds(self, run_id: str, spec: Spec, material: Material) -> Outcome:
        """Every fold as a run of its own below `run_id`; what is finished already is kept."""
        known = {run.spec["config"]["split"]["fold"]: run for run in self.runs.children(run_id)}
        parts = [replace(spec, config=spec.config.updated(fold=n)) for n in range(spec.config.split.folds)]
        outcomes = []
        for outcome in self._each(run_id, parts, known, material):
            outcomes.append(outcome)
            if outcome.status != "finished":
                raise Stop(f"stopped in fold {len(outcomes)} of {len(parts)}")
        return self._pool(run_id, material, outcomes)

    def _each(
        self, run_id: str, parts: list[Spec], known: dict[int, Run], material: Material
    ) -> Iterable[Outcome]:
        """Work on the folds, one after the other."""
        for fold, part in enumerate(parts):
            run = known.get(fold)
            yield finished(self.runs, run) or self._go(
                self._child(run, part, material, run_id), part, material
            )

    def _child(self, run: Run | None, part: Spec, material: Material, parent: str) -> str:
        """The run of a fold: one that was begun before, or a new one."""
        if run is None:
            return self._create(part, material, parent=parent)
        if run.data_hash is None:  # killed right after it was recorded
            self._describe(run.id, part, material, parent)
        return run.id

    def _pool(self, run_id: str, material: Material, outcomes: list[Outcome]) -> Outcome:
        """Scores over the test clips of all folds together; each clip is tested once.

        The checkpoint is that of the fold with the lowest validation loss, chosen without the test parts.
        """
        rows = [row for outcome in outcomes for row in read_predictions(self.runs, outcome.run_id)]
        parts = [read_baseline(self.runs, outcome.run_id) for outcome in outcomes]
        svm = [row for part in parts for row in part] if all(parts) else []  # folds of an older mer have none
        scores = with_baseline(score_rows(rows, material.classes), svm, material.classes)
        evaluation = {"scores": scores, "predictions": rows, "history": []}
        save_evaluation(self.runs, run_id, evaluation | ({"svm": svm} if svm else {}))
        metrics = headline(scores)
        for key in ("test_accuracy", "test_macro_f1", "test_song_accuracy"):
            values = [outcome.metrics[key] for outcome in outcomes]
            metrics |= {f"{key}_fold_mean": float(np.mean(values)), f"{key}_fold_std": float(np.std(values))}
        sizes = [fold.metrics["parameters"] for fold in outcomes if "parameters" in fold.metrics]
        metrics |= {"parameters": sizes[0]} if sizes else {}  # folds of an older mer have none
        best = min(outcomes, key=lambda outcome: self._validation_loss(outcome.run_id))
        self.runs.tag(run_id, {"mer.checkpoint_run": best.run_id})
        return Outcome(run_id, "finished", metrics, best.checkpoint, tuple(outcomes))

    def _validation_loss(self, run_id: str) -> float:
        return min((value for _, value in self.runs.history(run_id, "validation_loss")), default=np.inf)


def _require_data(run: Run, spec: Spec) -> None:
    """Raise DataError, with the remedy, if the clips are not on this machine."""
    if not Path(spec.data).exists():
        place = f" on {run.host}" if run.host else ""
        raise DataError(
            f"{spec.data}, the clips of run {run.id[:8]}, is not on this machine (it was begun{place}); "
            "put a copy or a link there, or resume the run where they are"
        )
