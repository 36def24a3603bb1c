"""Trains runs on a Ray cluster, all at the same time. This process drives them, and they end with it.

Each run has a placement group, which reserves resources for all of its workers or for none, and in it one
actor per worker. Runs that do not fit wait in Ray. When a worker is lost, all workers of its run are started
again, wherever there is room, from the state after the last whole epoch.
"""

import os
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from mer.experiments.experiment import Experiment
from mer.experiments.prepared import Spec
from mer.experiments.setup import PreparedRun
from mer.jobs.ray_cluster import Needs, connect, hosts, nodes
from mer.jobs.ray_worker import RunWorker, worker_environment
from mer.runs.heartbeat import Heartbeat
from mer.runs.outcomes import Outcome, finished
from mer.runs.run import ENDED, Run, owner, state_path
from mer.runs.store import RunStore
from mer.training.loop import Callback
from mer.utils.errors import ConfigError, RunError, StorageError, reason_of
from mer.utils.files import home, write_atomic
from mer.utils.progress import ProgressReport

__all__ = ["ClusterExperiment", "Driver", "require_shared_runs"]

STOP_SECONDS = 30.0  # s for a run to stop at its next step when it is asked to
END_SECONDS = 30.0  # s for Ray to end the workers of a run
LOSSES = 3  # times that workers may be lost without a new epoch in between
POLL = 0.5  # s between two looks at a run


class DrivenRun:
    """One run on the cluster: its reservation and its workers, from waiting for resources to its outcome."""

    def __init__(self, driver: "Driver", run_id: str, stopped_with: Sequence[str] = ()) -> None:
        self.driver, self.run_id, self.stopped_with = driver, run_id, (run_id, *stopped_with)
        self.outcome: dict[str, Any] | None = None
        self.workers: list[Any] = []
        self.calls: list[Any] = []  # of the workers' `work`, in Ray's references
        self.losses, self.progress = 0, self._state_time()
        self.deadline: float | None = None
        self.stage = ""
        self._reserve()

    def _state_time(self) -> int:
        """Modification time of the saved state, in ns; 0 if there is none. It changes with every epoch."""
        path = state_path(self.run_id)
        return path.stat().st_mtime_ns if path.exists() else 0

    def _reserve(self) -> None:
        from ray.util import placement_group

        needs = self.driver.needs
        self.group = placement_group([needs.bundle] * needs.workers, strategy="PACK")

    def poll(self) -> None:
        """Do the next step for the run. When it has ended, `outcome` is set."""
        if self._must_end():
            self.end_workers()
            self.outcome = {"run_id": self.run_id, "status": "stopped"}
        elif self.workers:
            self._read_results()
        elif self._has_resources():
            self._start_workers()
        else:
            self._report(f"waiting for the cluster: {self.driver.needs}")

    def _must_end(self) -> bool:
        """True if the workers must be ended now: the driver ends, or the run did not stop in time."""
        if self.deadline is None and self.driver.stop_requested(self.stopped_with):
            if self.workers:
                self.driver.runs.request_stop(self.run_id)
            self.deadline = time.monotonic() + (STOP_SECONDS if self.workers else 0)
        late = self.deadline is not None and time.monotonic() >= self.deadline
        return self.driver.leaving.is_set() or late

    def _has_resources(self) -> bool:
        from ray.util import placement_group_table

        return placement_group_table(self.group).get("state") == "CREATED"

    def _start_workers(self) -> None:
        """Start one actor per worker in the reservation, and call their `work`."""
        import ray
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        needs = self.driver.needs
        self.stage = ""
        for rank in range(needs.workers):
            place = PlacementGroupSchedulingStrategy(self.group, placement_group_bundle_index=rank)
            actor = ray.remote(RunWorker).options(
                num_cpus=needs.cpus, num_gpus=needs.gpus, memory=needs.bundle.get("memory"),
                scheduling_strategy=place,
            )  # fmt: skip
            self.workers.append(actor.remote(worker_environment(), self.run_id, rank, needs))
        address = self.workers[0].address.remote() if needs.workers > 1 else None
        arguments = (address, str(self.driver.marker), owner(), self.driver.callbacks)
        self.calls = [worker.work.remote(*arguments) for worker in self.workers]

    def _report(self, stage: str) -> None:
        if stage != self.stage:
            self.stage = stage
            self.driver.say(f"run {self.run_id[:8]}: {stage}")
            self.driver.runs.tag(self.run_id, {"mer.stage": ProgressReport(stage).to_json()})

    def _read_results(self) -> None:
        """Read the results of the workers: the outcome from the first one, or errors."""
        import ray

        done, _ = ray.wait(self.calls, num_returns=len(self.calls), timeout=0)
        results = [_returned(call) for call in done]
        if any(
            result.get("lost") for result in results
        ):  # another worker's failure may be the cause; wait for its result
            done, _ = ray.wait(self.calls, num_returns=len(self.calls), timeout=POLL)
            results = [_returned(call) for call in done]
        wrong = [result for result in results if "error" in result]
        failed = [result for result in wrong if not result.get("lost")]
        if failed:
            self._fail(failed[0]["error"])
        elif wrong:
            self._restart(wrong[0]["error"])
        elif self.calls[0] in done:
            self.outcome = _returned(self.calls[0])
            self.end_workers()

    def _fail(self, reason: str) -> None:
        self.end_workers()
        self.outcome = {"run_id": self.run_id, "status": "failed", "error": reason}

    def _restart(self, reason: str) -> None:
        """Start again with new workers, unless workers were lost too often."""
        self.losses = 1 if self._state_time() != self.progress else self.losses + 1
        self.progress = self._state_time()
        if self.losses > LOSSES:
            self._fail(f"workers were lost {self.losses} times without an epoch between; the last: {reason}")
            return
        self.driver.say(f"run {self.run_id[:8]}: a worker was lost, going on from the last epoch ({reason})")
        self.end_workers()
        self._reserve()

    def end_workers(self) -> None:
        """End the workers, release the reservation, and check that Ray has done so."""
        import ray
        from ray.util import placement_group_table, remove_placement_group

        for worker in self.workers:
            ray.kill(worker)
        remove_placement_group(self.group)
        until = time.monotonic() + END_SECONDS
        while True:
            left = ray.wait(self.calls, num_returns=len(self.calls), timeout=0.1)[1] if self.calls else []
            state = placement_group_table(self.group).get("state", "REMOVED")
            if not left and state == "REMOVED":
                break
            if time.monotonic() > until:
                self.driver.say(
                    f"run {self.run_id[:8]}: after {END_SECONDS:.0f} s Ray still has {len(left)} of its "
                    f"workers (reservation: {state}); see 'ray status'"
                )
                break
            time.sleep(0.1)
        self.workers, self.calls = [], []


def _returned(call: Any) -> dict[str, Any]:
    """The result of a worker's `work`. If the worker was lost: {"error": text, "lost": True}."""
    import ray

    try:
        return ray.get(call)
    except ray.exceptions.RayTaskError as error:
        return {"error": reason_of(error.cause, 4000)}
    except ray.exceptions.RayError as error:
        first, *_, last = [*str(error).splitlines(), ""]
        return {"error": f"{type(error).__name__}: {first[:160]} {last.strip()[:160]}".strip(), "lost": True}


def require_shared_runs(machines: int) -> None:
    """Raise ConfigError if workers on several machines would write to one SQLite file."""
    if machines > 1 and not os.environ.get("MLFLOW_TRACKING_URI"):
        raise ConfigError(
            f"the cluster is on {machines} machines, and SQLite serves one: "
            "run 'mlflow server' and set MLFLOW_TRACKING_URI to it"
        )


class Driver:
    """Trains runs on a Ray cluster to which this process is `connected`.

    Parameters
    ----------
    runs
        The run store.
    needs
        Workers of each run, and their resources.
    marker
        A file in MER_HOME, by which workers check that they share that folder.
    callbacks
        Called in the training loop of each run's first worker.
    """

    def __init__(self, runs: RunStore, needs: Needs, marker: Path, callbacks: Sequence[Callback]) -> None:
        self.runs, self.needs, self.marker, self.callbacks = runs, needs, marker, tuple(callbacks)
        self.leaving = threading.Event()

    @classmethod
    @contextmanager
    def connected(
        cls, open_runs: Callable[[], RunStore], needs: Needs, *, callbacks: Sequence[Callback] = ()
    ) -> Iterator["Driver"]:
        """Connect to the cluster, and yield the driver.

        Parameters
        ----------
        open_runs
            Opens the run store.
        needs, callbacks
            See `Driver`.

        Raises
        ------
        ConfigError
            If the cluster is too small or cannot reach the run store.
        """
        with connect() as description:
            needs.require_room([node["Resources"] for node in nodes()])
            require_shared_runs(len(hosts()))
            marker = home() / "locks" / f"driver-{secrets.token_hex(4)}"
            driver = cls(open_runs(), needs, marker, callbacks)
            driver.say(f"using {description}")
            write_atomic(marker, "", durable=False)
            try:
                yield driver
            finally:
                driver.leaving.set()
                marker.unlink(missing_ok=True)

    def stop_requested(self, run_ids: Sequence[str]) -> bool:
        """True if one of these runs is to stop; False while the run store does not answer."""
        with suppress(StorageError):
            return any(self.runs.stop_requested(run_id) for run_id in run_ids)
        return False

    @staticmethod
    def say(line: str) -> None:
        """Write a line to the terminal or the run's log."""
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()

    def work(
        self, run_ids: Sequence[str], heartbeat: Heartbeat, *, parent: str | None = None
    ) -> list[Outcome]:
        """Train queued runs, all at the same time.

        Parameters
        ----------
        run_ids
            Ids of the runs.
        heartbeat
            Writes their heartbeats.
        parent
            Id of their cross-validation. A request to stop it stops all of them.

        Returns
        -------
        list of Outcome
            In the order of `run_ids`.

        Raises
        ------
        RunError
            If a run failed; it is raised when all have ended.
        """
        for run_id in run_ids:
            self.runs.tag(run_id, {"mer.owner": owner(), "mer.needs": self.needs.to_json()})
        driven = [DrivenRun(self, run_id, [parent] if parent else []) for run_id in run_ids]
        try:
            self._drive(driven, heartbeat)
        except BaseException:
            for run in driven:
                if run.outcome is None:
                    run.end_workers()
                    self._record({"run_id": run.run_id, "status": "stopped"})
            raise
        wrong = [run.outcome["error"] for run in driven if "error" in run.outcome]
        if wrong:
            raise RunError(wrong[0])
        return [self._outcome(run.outcome) for run in driven]

    def _drive(self, driven: Sequence[DrivenRun], heartbeat: Heartbeat) -> None:
        """Poll the runs until all have an outcome, with heartbeats also for those that wait."""
        with ExitStack() as stack:
            for run in driven:
                stack.enter_context(heartbeat.of(run.run_id))
            while unfinished := [run for run in driven if run.outcome is None]:
                for run in unfinished:
                    run.poll()
                    if run.outcome:
                        self._record(run.outcome)
                heartbeat.beat()
                time.sleep(POLL)

    def _record(self, outcome: dict[str, Any]) -> None:
        """Record the end of a run whose workers could not do so."""
        if self.runs.get(outcome["run_id"]).status not in ENDED:
            self.runs.finish(outcome["run_id"], outcome["status"], reason=outcome.get("error", "cancelled"))

    def _outcome(self, result: dict[str, Any]) -> Outcome:
        """The outcome that the first worker returned."""
        if result["status"] != "finished":
            return Outcome(result["run_id"], result["status"])
        return Outcome.of(self.runs, result["run_id"], result["metrics"])


class ClusterExperiment(Experiment):
    """An experiment whose runs and folds are trained by a driver's workers.

    This process prepares the clips of folds and pools their results.
    """

    def __init__(self, driver: Driver) -> None:
        super().__init__(lambda: driver.runs)
        self.driver = driver

    def _train(self, run: Run, prepared: PreparedRun | None) -> Outcome:
        if Spec.from_dict(run.spec).config.split.folds and not run.parent:
            return super()._train(run, prepared)
        return self.driver.work([run.id], self.heartbeat)[0]

    def _each(self, run_id: str, prepared: PreparedRun, known: dict[int, Run]) -> Iterable[Outcome]:
        """Train all folds at the same time."""
        folds = range(prepared.spec.config.split.folds)
        done = {number: finished(self.runs, known.get(number)) for number in folds}
        todo = {
            number: self._child(known.get(number), prepared.fold(number), run_id)
            for number in folds
            if not done[number]
        }
        for child in todo.values():
            self.runs.enqueue(child)
        outcomes = self.driver.work(list(todo.values()), self.heartbeat, parent=run_id)
        done |= dict(zip(todo, outcomes, strict=True))
        return [done[number] for number in folds]
