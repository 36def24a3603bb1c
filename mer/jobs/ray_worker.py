"""One worker of a training on a Ray cluster: an actor, which has a process of its own.

Its rank and the address of the first worker are in the environment variables that torchrun uses, so
`mer.training.distributed` connects the workers in the same way. Nothing here imports torch before the
environment is set.
"""

import os
import socket
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mer.jobs.ray_cluster import Needs
from mer.runs.outcomes import Outcome, finished
from mer.runs.run import Run
from mer.runs.store import RunStore
from mer.utils.errors import LostError, MerError
from mer.utils.files import home
from mer.utils.machine import processors

if TYPE_CHECKING:
    from mer.training.distributed import Ranks
    from mer.training.loop import Callback

__all__ = ["RunWorker", "worker_environment"]

PASSED_ON = ("MER_", "MLFLOW_", "OMP_WAIT_POLICY", "TORCH_HOME")  # prefixes of variables' names


def worker_environment() -> dict[str, str]:
    """The environment variables of this process that its workers get too."""
    mine = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
    return mine | {"MER_HOME": str(home())}


class RunWorker:
    """A worker of one run.

    Parameters
    ----------
    environment
        Variables of the driver's environment.
    run_id
        The run.
    rank
        Number of this worker, from 0.
    needs
        Workers of the run, and the resources of each.
    """

    def __init__(self, environment: dict[str, str], run_id: str, rank: int, needs: Needs) -> None:
        os.environ |= environment
        runs_here = int(len(processors()) // max(needs.cpus, 1))  # its share of the cores
        os.environ["MER_SLOTS"] = str(max(1, runs_here))
        if not needs.gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the node's GPUs are for runs that asked for them
        self.run_id, self.rank, self.size = run_id, rank, needs.workers
        sys.stdout = sys.stderr  # the driver's standard output is for results

    def __repr__(self) -> str:
        """Ray puts this before each line of the worker's output."""
        return f"run {self.run_id[:8]}" + (f" worker {self.rank}" if self.size > 1 else "")

    def address(self) -> tuple[str, int]:
        """Address and a free port of this node, where all workers of the run connect."""
        import ray

        with socket.socket() as free:
            free.bind(("", 0))
            return ray.util.get_node_ip_address(), free.getsockname()[1]

    def work(
        self, address: tuple[str, int] | None, marker: str, owner: str, callbacks: "Sequence[Callback]"
    ) -> dict[str, Any]:
        """Train the run, from its start or its last epoch, as one of its processes.

        Parameters
        ----------
        address
            The first worker's `address`; None if there is only one worker.
        marker
            A file in the driver's MER_HOME, which shows that this node sees the same folder.
        owner
            The driver's owner text (`mer.runs.run.owner`).
        callbacks
            Called in the training loop of the first worker.

        Returns
        -------
        dict
            The run's `Outcome` as plain data, or {"error": text}; with {"lost": True} if another worker is
            lost.
        """
        if not Path(marker).exists():
            return {
                "error": f"the node {socket.gethostname()} does not see MER_HOME={home()} of this machine; "
                "keep it on a folder that all nodes share"
            }
        if address:
            words = {"RANK": self.rank, "WORLD_SIZE": self.size, "LOCAL_RANK": 0}
            words |= {"MASTER_ADDR": address[0], "MASTER_PORT": address[1]}
            os.environ |= {name: str(value) for name, value in words.items()}
        try:
            return self._work(owner, callbacks)
        except LostError as error:
            return {"error": str(error), "lost": True}
        except MerError as error:
            return {"error": str(error)}
        except Exception as error:  # noqa: BLE001 - the driver gets one line; the log has all of it
            traceback.print_exc()
            return {"error": f"{type(error).__name__}: {error}"}

    def _work(self, owner: str, callbacks: "Sequence[Callback]") -> dict[str, Any]:
        from mer.experiments.torchrun import lead_or_follow
        from mer.utils.parallel import share_cores

        share_cores()
        return lead_or_follow(lambda ranks: self._lead(ranks, owner, callbacks)) or {}

    def _lead(self, ranks: "Ranks", owner: str, callbacks: "Sequence[Callback]") -> dict[str, Any]:
        """Work on the run as the first of its processes; returns its outcome as plain data."""
        from mer.experiments.experiment import Experiment

        experiment = Experiment(
            lambda: RunStore.open().for_worker(owner=owner), callbacks=callbacks, ranks=ranks, driven=True
        )
        run = experiment.runs.get(self.run_id)
        if run.status not in ("queued", "running", "stopping"):  # cancelled, or ended by another worker
            return _outcome_of_ended(experiment.runs, run)
        return experiment.work(run.id).to_dict()


def _outcome_of_ended(runs: RunStore, run: Run) -> dict[str, Any]:
    """The outcome of a run that has ended already, in the form that `RunWorker.work` returns."""
    if run.status == "failed":
        return {"error": run.reason}
    return (finished(runs, run) or Outcome(run.id, run.status)).to_dict()
