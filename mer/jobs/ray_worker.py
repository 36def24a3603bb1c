"""One worker of a training on a Ray cluster: an actor in a process of its own, on some node.

It is told its rank and where the workers meet as torchrun tells it, so
`mer.training.distributed` joins them in the one way there is.
Nothing here imports torch before the environment is set.
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

__all__ = ["Hand", "surroundings"]

PASSED_ON = ("MER_", "MLFLOW_", "OMP_WAIT_POLICY", "TORCH_HOME")  # beginnings of variables' names


def surroundings() -> dict[str, str]:
    """What of this process's environment its workers are to have too."""
    mine = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
    return mine | {"MER_HOME": str(home())}


class Hand:
    """Worker `rank` of those that one run needs."""

    def __init__(self, environment: dict[str, str], run_id: str, rank: int, needs: Needs) -> None:
        os.environ |= environment
        runs_here = int(len(processors()) // max(needs.cpus, 1))  # it is to use its share of the cores
        os.environ["MER_SLOTS"] = str(max(1, runs_here))
        if not needs.gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""  # those of the node are for who asked for them
        self.run_id, self.rank, self.size = run_id, rank, needs.workers
        sys.stdout = sys.stderr  # the driver's standard output is for results

    def __repr__(self) -> str:
        """What Ray puts before each line of its output."""
        return f"run {self.run_id[:8]}" + (f" worker {self.rank}" if self.size > 1 else "")

    def place(self) -> tuple[str, int]:
        """Address and free port of this node, for all to meet at."""
        import ray

        with socket.socket() as free:
            free.bind(("", 0))
            return ray.util.get_node_ip_address(), free.getsockname()[1]

    def work(
        self, place: tuple[str, int] | None, sign: str, owner: str, callbacks: "Sequence[Callback]"
    ) -> dict[str, Any]:
        """Begin or go on with the run, as one of its processes; `owner` is the driver's.

        What became of it, as `Outcome.to_dict` has it, or {"error": text}; with {"lost": True} if another
        worker is gone.
        """
        if not Path(sign).exists():
            return {
                "error": f"the node {socket.gethostname()} does not see MER_HOME={home()} of this machine; "
                "keep it on a folder that all nodes share"
            }
        if place:
            words = {"RANK": self.rank, "WORLD_SIZE": self.size, "LOCAL_RANK": 0}
            words |= {"MASTER_ADDR": place[0], "MASTER_PORT": place[1]}
            os.environ |= {name: str(value) for name, value in words.items()}
        try:
            return self._work(owner, callbacks)
        except LostError as error:
            return {"error": str(error), "lost": True}
        except KeyboardInterrupt:  # asked to stop while the clips were prepared
            return {"run_id": self.run_id, "status": "stopped"}
        except MerError as error:
            return {"error": str(error)}
        except Exception as error:  # noqa: BLE001 - the driver is told; the log has all of it
            traceback.print_exc()
            return {"error": f"{type(error).__name__}: {error}"}

    def _work(self, owner: str, callbacks: "Sequence[Callback]") -> dict[str, Any]:
        from mer.experiments.torchrun import lead_or_follow
        from mer.utils.parallel import share_cores

        share_cores()
        return lead_or_follow(lambda ranks: self._lead(ranks, owner, callbacks)) or {}

    def _lead(self, ranks: "Ranks", owner: str, callbacks: "Sequence[Callback]") -> dict[str, Any]:
        """Work on the run, as the first of its processes."""
        from mer.experiments.experiment import Experiment
        from mer.jobs.queue import Stage

        experiment = Experiment(
            lambda: RunStore.open().for_worker(owner=owner), callbacks=callbacks, ranks=ranks, retried=True
        )
        runs = experiment.runs
        run = runs.get(self.run_id)
        if run.status == "queued":
            runs.start(run.id)
        elif run.status not in ("running", "stopping"):  # cancelled, or another worker ended it
            return _ended(runs, run)
        experiment.notify = Stage(runs, run.id, experiment.beats)
        return experiment.go_on(run).to_dict()


def _ended(runs: RunStore, run: Run) -> dict[str, Any]:
    """What became of a run that has ended, as `Hand.work` tells it."""
    if run.status == "failed":
        return {"error": run.reason}
    return (finished(runs, run) or Outcome(run.id, run.status)).to_dict()
