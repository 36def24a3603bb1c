"""`--executor ray`: training and sweeps on a Ray cluster."""

from argparse import Namespace
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mer.jobs.ray_cluster import Needs, require
from mer.utils.errors import ConfigError, MerError

if TYPE_CHECKING:
    from mer.experiments.prepared import Spec
    from mer.jobs.ray_driver import Driver
    from mer.runs.outcomes import Outcome
    from mer.runs.run import Run

OPTIONS = ("workers", "cpus_per_worker", "gpus_per_worker", "memory_per_worker")


def requested_needs(arguments: Namespace) -> Needs | None:
    """The requested resources on a cluster; None if this machine does the work. Raises ConfigError."""
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
def _driver(needs: Needs) -> "Iterator[Driver]":
    from mer.cli.epochs import EpochBar
    from mer.jobs.ray_driver import Driver
    from mer.runs.store import RunStore

    with Driver.connected(RunStore.open, needs, callbacks=[EpochBar()]) as driver:
        yield driver


def train_on_cluster(spec: "Spec", needs: Needs) -> "Outcome":
    """Train a new run, driven by this process."""
    from mer.jobs.queue import check_request

    check_request(spec)  # before a cluster is started
    with _driver(needs) as driver:
        return _train(driver, spec)


def work_on_cluster(run: "Run") -> "Outcome":
    """Begin or resume a queued run, driven by this process."""
    from mer.jobs.ray_driver import ClusterExperiment

    with _driver(Needs.from_json(run.needs)) as driver:
        return ClusterExperiment(driver).work(run.id)


def sweep_on_cluster(specs: "Sequence[Spec]", needs: Needs) -> "list[Outcome | MerError]":
    """Train new runs, all at the same time. Returns the outcome of each, or its error."""

    def one(driver: "Driver", spec: "Spec") -> "Outcome | MerError":
        """Train one run; returns its error if it fails."""
        try:
            return _train(driver, spec)
        except MerError as error:
            return error

    with _driver(needs) as driver, ThreadPoolExecutor(len(specs)) as pool:
        try:
            return list(pool.map(lambda spec: one(driver, spec), specs))
        except BaseException:
            driver.leaving.set()  # ends the runs, which the pool waits for
            raise


def _train(driver: "Driver", spec: "Spec") -> "Outcome":
    from mer.jobs.queue import submit
    from mer.jobs.ray_driver import ClusterExperiment

    run_id = submit(driver.runs, spec, needs=driver.needs.to_json())
    return ClusterExperiment(driver).work(run_id)
