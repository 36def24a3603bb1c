"""`--executor ray`: the same commands, with the work done by a Ray cluster."""

from argparse import Namespace
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mer.jobs.ray_cluster import Needs, require
from mer.utils.errors import ConfigError, MerError

if TYPE_CHECKING:
    from mer.experiments.prepared import Spec
    from mer.jobs.ray_driver import Fleet
    from mer.runs.outcomes import Outcome
    from mer.runs.run import Run

OPTIONS = ("workers", "cpus_per_worker", "gpus_per_worker", "memory_per_worker")


def asked_needs(arguments: Namespace) -> Needs | None:
    """What is asked of a cluster; None where this machine is to do the work. Raises ConfigError."""
    given = {name: getattr(arguments, name) for name in OPTIONS if getattr(arguments, name) is not None}
    if arguments.executor == "ray":
        needs = Needs(**{name.removesuffix("_per_worker"): value for name, value in given.items()})
        require()
        return needs
    if given:
        option = f"--{next(iter(given)).replace('_', '-')}"
        raise ConfigError(f"{option} needs --executor ray; several processes here: torchrun -m mer train ...")
    return None


@contextmanager
def _fleet(needs: Needs) -> "Iterator[Fleet]":
    from mer.cli.epochs import EpochBar
    from mer.jobs.ray_driver import Fleet
    from mer.runs.store import RunStore

    with Fleet.joined(RunStore.open, needs, callbacks=[EpochBar()]) as fleet:
        yield fleet


def train_on_cluster(spec: "Spec", needs: Needs) -> "Outcome":
    """A new run, driven by this process."""
    from mer.jobs.queue import enrol, inspect

    inspect(spec)
    with _fleet(needs) as fleet:
        return _work(fleet, enrol(fleet.runs, spec, needs=needs.to_json()))


def work_on_cluster(run: "Run") -> "Outcome":
    """Begin or go on with a queued run, driven by this process."""
    with _fleet(Needs.from_json(run.needs)) as fleet:
        return _work(fleet, run.id)


def sweep_on_cluster(specs: "Sequence[Spec]", needs: Needs) -> "list[Outcome | MerError]":
    """A new run each, all at once: what became of it, or why it failed."""
    from mer.jobs.queue import enrol

    def one(fleet: "Fleet", spec: "Spec") -> "Outcome | MerError":
        try:
            return _work(fleet, enrol(fleet.runs, spec, needs=needs.to_json()))
        except MerError as error:
            return error

    with _fleet(needs) as fleet, ThreadPoolExecutor(len(specs)) as pool:
        try:
            return list(pool.map(lambda spec: one(fleet, spec), specs))
        except BaseException:
            fleet.leaving.set()  # the pool is left when all have ended
            raise


def _work(fleet: "Fleet", run_id: str) -> "Outcome":
    from mer.jobs.queue import work
    from mer.jobs.ray_driver import OnCluster

    return work(OnCluster(fleet), run_id)
