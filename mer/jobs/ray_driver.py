"""Runs worked on by a Ray cluster, all at once; this process drives them, and with it they end.

Each run has a placement group, which reserves room for all of its workers or for none, and in it an actor for
each. Ray lets those wait that do not fit. When a worker is lost, its whole team begins anew from the state of
the last whole epoch, wherever there is room.
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
from mer.experiments.prepared import Material, Spec
from mer.jobs.queue import ENDED
from mer.jobs.ray_cluster import Needs, connect, hosts, nodes
from mer.jobs.ray_worker import Hand, surroundings
from mer.runs.heartbeat import Beats
from mer.runs.outcomes import Outcome, finished
from mer.runs.run import Run, owner, state_path
from mer.runs.store import RunStore
from mer.training.loop import Callback
from mer.utils.errors import ConfigError, RunError, StorageError
from mer.utils.files import home, write_atomic

__all__ = ["Fleet", "OnCluster", "require_shared_runs"]

GRACE = 30.0  # s for a working run to stop at its next step when it is asked to
LEAVE = 30.0  # s for Ray to end what is left of a run
LOSSES = 3  # so often may workers be lost without a new epoch between
LOOK = 0.5  # s between two looks at a run


class Team:
    """The workers of one run, from waiting for room to what became of it."""

    def __init__(self, fleet: "Fleet", run_id: str, asked: Sequence[str] = ()) -> None:
        self.fleet, self.run_id, self.asked = fleet, run_id, (run_id, *asked)
        self.outcome: dict[str, Any] | None = None
        self.hands: list[Any] = []
        self.work: list[Any] = []
        self.losses, self.progress = 0, self._state()
        self.until: float | None = None
        self.told = ""
        self._reserve()

    def _state(self) -> int:
        path = state_path(self.run_id)
        return path.stat().st_mtime_ns if path.exists() else 0

    def _reserve(self) -> None:
        from ray.util import placement_group

        self.group = placement_group([self.fleet.needs.bundle] * self.fleet.needs.workers, strategy="PACK")

    def look(self) -> None:
        """See how far it is, and do what is to be done next; then there may be an `outcome`."""
        if self._stopping():
            self.leave()
            self.outcome = {"run_id": self.run_id, "status": "stopped"}
        elif not self.hands:
            self._begin() if self._has_room() else self._tell(f"waiting for the cluster: {self.fleet.needs}")
        else:
            self._hear()

    def _stopping(self) -> bool:
        """True if it is to be ended now: it was asked to stop and does not, or cannot, by itself."""
        if self.until is None and self.fleet.asked_to_stop(self.asked):
            if self.hands:
                self.fleet.runs.request_stop(self.run_id)
            self.until = time.monotonic() + (GRACE if self.hands else 0)
        return self.fleet.leaving.is_set() or (self.until is not None and time.monotonic() >= self.until)

    def _has_room(self) -> bool:
        from ray.util import placement_group_table

        return placement_group_table(self.group).get("state") == "CREATED"

    def _begin(self) -> None:
        import ray
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        needs = self.fleet.needs
        self.told = ""
        for rank in range(needs.workers):
            place = PlacementGroupSchedulingStrategy(self.group, placement_group_bundle_index=rank)
            actor = ray.remote(Hand).options(
                num_cpus=needs.cpus, num_gpus=needs.gpus, memory=needs.bundle.get("memory"),
                scheduling_strategy=place,
            )  # fmt: skip
            self.hands.append(actor.remote(surroundings(), self.run_id, rank, needs))
        meet = self.hands[0].place.remote() if needs.workers > 1 else None
        told = (meet, str(self.fleet.sign), owner(), self.fleet.callbacks)
        self.work = [hand.work.remote(*told) for hand in self.hands]

    def _tell(self, stage: str) -> None:
        if stage != self.told:
            self.told = stage
            self.fleet.say(f"run {self.run_id[:8]}: {stage}")
            self.fleet.runs.tag(self.run_id, {"mer.stage": stage})

    def _hear(self) -> None:
        """Take what the workers answer: the first one's outcome, or what went wrong."""
        import ray

        done, _ = ray.wait(self.work, num_returns=len(self.work), timeout=0)
        answers = [_answer(ref) for ref in done]
        if any(answer.get("lost") for answer in answers):
            done, _ = ray.wait(self.work, num_returns=len(self.work), timeout=LOOK)  # whose fault was it?
            answers = [_answer(ref) for ref in done]
        wrong = [answer for answer in answers if "error" in answer]
        real = [answer for answer in wrong if not answer.get("lost")]
        if real:
            self._fail(real[0]["error"])
        elif wrong:
            self._lost(wrong[0]["error"])
        elif self.work[0] in done:
            self.outcome = _answer(self.work[0])
            self.leave()

    def _fail(self, reason: str) -> None:
        self.leave()
        self.outcome = {"run_id": self.run_id, "status": "failed", "error": reason}

    def _lost(self, reason: str) -> None:
        """Begin anew with other workers, unless that happened too often."""
        self.losses = 1 if self._state() != self.progress else self.losses + 1
        self.progress = self._state()
        if self.losses > LOSSES:
            self._fail(f"workers were lost {self.losses} times without an epoch between; the last: {reason}")
            return
        self.fleet.say(f"run {self.run_id[:8]}: a worker was lost, going on from the last epoch ({reason})")
        self.leave()
        self._reserve()

    def leave(self) -> None:
        """End the workers, give back the reservation, and see to it that Ray did so."""
        import ray
        from ray.util import placement_group_table, remove_placement_group

        for hand in self.hands:
            ray.kill(hand)
        remove_placement_group(self.group)
        until = time.monotonic() + LEAVE
        while True:
            _, rest = ray.wait(self.work, num_returns=len(self.work), timeout=0.1) if self.work else ([], [])
            state = placement_group_table(self.group).get("state", "REMOVED")
            if not rest and state == "REMOVED":
                break
            if time.monotonic() > until:
                self.fleet.say(
                    f"run {self.run_id[:8]}: after {LEAVE:.0f} s Ray still has {len(rest)} of its workers "
                    f"(reservation: {state}); see 'ray status'"
                )
                break
            time.sleep(0.1)
        self.hands, self.work = [], []


def _answer(ref: Any) -> dict[str, Any]:
    """What a worker said, or that it is lost."""
    import ray

    try:
        return ray.get(ref)
    except ray.exceptions.RayTaskError as error:
        return {"error": str(error.cause).splitlines()[0]}
    except ray.exceptions.RayError as error:
        first, *_, last = [*str(error).splitlines(), ""]
        return {"error": f"{type(error).__name__}: {first[:160]} {last.strip()[:160]}".strip(), "lost": True}


def require_shared_runs(machines: int) -> None:
    """Raise ConfigError if so many machines would write to one SQLite."""
    if machines > 1 and not os.environ.get("MLFLOW_TRACKING_URI"):
        raise ConfigError(
            f"the cluster is on {machines} machines, and SQLite serves one: "
            "run 'mlflow server' and set MLFLOW_TRACKING_URI to it"
        )


class Fleet:
    """Works on runs, as the driver of a Ray cluster that it has `joined`.

    `sign` is a file in MER_HOME by which workers see that theirs is the same.
    """

    def __init__(self, runs: RunStore, needs: Needs, sign: Path, callbacks: Sequence[Callback]) -> None:
        self.runs, self.needs, self.sign, self.callbacks = runs, needs, sign, tuple(callbacks)
        self.leaving = threading.Event()

    @classmethod
    @contextmanager
    def joined(
        cls, open_runs: Callable[[], RunStore], needs: Needs, *, callbacks: Sequence[Callback] = ()
    ) -> Iterator["Fleet"]:
        """Join the cluster; raises ConfigError if it cannot hold the workers or not reach the run store."""
        with connect() as words:
            needs.require_room([node["Resources"] for node in nodes()])
            require_shared_runs(len(hosts()))
            sign = home() / "locks" / f"fleet-{secrets.token_hex(4)}"
            fleet = cls(open_runs(), needs, sign, callbacks)
            fleet.say(f"using {words}")
            write_atomic(sign, "", durable=False)
            try:
                yield fleet
            finally:
                fleet.leaving.set()
                sign.unlink(missing_ok=True)

    def asked_to_stop(self, run_ids: Sequence[str]) -> bool:
        """True if someone asked one of these runs to stop; a store that is away for a while asks nothing."""
        with suppress(StorageError):
            return any(self.runs.stop_requested(run_id) for run_id in run_ids)
        return False

    @staticmethod
    def say(words: str) -> None:
        """A line for the terminal or the run's log."""
        sys.stderr.write(f"{words}\n")
        sys.stderr.flush()

    def work(self, run_ids: Sequence[str], beats: Beats, *, parent: str | None = None) -> list[Outcome]:
        """Work on queued runs, all at once; a request to stop `parent` stops them all.

        Raises RunError when all have ended, if one failed.
        """
        for run_id in run_ids:
            self.runs.tag(run_id, {"mer.owner": owner(), "mer.needs": self.needs.to_json()})
        teams = [Team(self, run_id, [parent] if parent else []) for run_id in run_ids]
        try:
            self._attend(teams, beats)
        except BaseException:
            for team in teams:
                if team.outcome is None:
                    team.leave()
                    self._record({"run_id": team.run_id, "status": "stopped"})
            raise
        wrong = [team.outcome["error"] for team in teams if "error" in team.outcome]
        if wrong:
            raise RunError(wrong[0])
        return [self._outcome(team.outcome) for team in teams]

    def _attend(self, teams: Sequence[Team], beats: Beats) -> None:
        """Look after them until all have an outcome, and tell that those live which wait."""
        with ExitStack() as stack:
            for team in teams:
                stack.enter_context(beats.of(team.run_id))
            while unfinished := [team for team in teams if team.outcome is None]:
                for team in unfinished:
                    team.look()
                    if team.outcome:
                        self._record(team.outcome)
                beats.give()
                time.sleep(LOOK)

    def _record(self, outcome: dict[str, Any]) -> None:
        """Note the end of a run that its workers could not note themselves."""
        if self.runs.get(outcome["run_id"]).status not in ENDED:
            self.runs.finish(outcome["run_id"], outcome["status"], reason=outcome.get("error", "cancelled"))

    def _outcome(self, told: dict[str, Any]) -> Outcome:
        """What the first worker told."""
        if told["status"] != "finished":
            return Outcome(told["run_id"], told["status"])
        return Outcome.of(self.runs, told["run_id"], told["metrics"])


class OnCluster(Experiment):
    """Runs, and folds, that a fleet trains; this process prepares the clips for folds, and pools these."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__(lambda: fleet.runs)
        self.fleet = fleet

    def go_on(self, run: Run) -> Outcome:
        """Begin a queued run, or continue an unfinished one."""
        if Spec.from_dict(run.spec).config.split.folds and not run.parent:
            return super().go_on(run)
        return self.fleet.work([run.id], self.beats)[0]

    def _each(
        self, run_id: str, parts: list[Spec], known: dict[int, Run], material: Material
    ) -> Iterable[Outcome]:
        """Work on all folds at once."""
        done = {fold: finished(self.runs, run) for fold, run in known.items()}
        todo = {
            fold: self._child(known.get(fold), part, material, run_id)
            for fold, part in enumerate(parts)
            if not done.get(fold)
        }
        for child in todo.values():
            self.runs.enqueue(child)
        done |= dict(zip(todo, self.fleet.work(list(todo.values()), self.beats, parent=run_id), strict=True))
        return [done[fold] for fold in range(len(parts))]
