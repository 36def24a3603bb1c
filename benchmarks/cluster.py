"""Measure runs on a Ray cluster of this machine: a sweep on one CPU and two, a network by one process or two.

`python -m benchmarks.cluster` prints one JSON object. `--trainer` measures instead what a waiting run and a
start cost with Ray Train's TorchTrainer, beside our own workers.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import psutil

from benchmarks.timing import seconds
from mer.jobs.ray_cluster import QUIET
from mer.runs.store import RunStore

ROOT = Path(__file__).parents[1]
SETTINGS = [
    "--preset", "full", "--weights", "none", "--image-size", "160", "--device", "cpu", "--no-baseline",
    "--dropout", "0", "--time-masks", "0", "--frequency-masks", "0", "--time-shift", "0", "--mixup", "0",
]  # fmt: skip


@contextmanager
def cluster(cpus: int) -> Iterator[None]:
    """Start a head without CPUs and nodes with one CPU each, and set RAY_ADDRESS."""
    from ray.cluster_utils import Cluster

    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(cpus):
            started.add_node(num_cpus=1)
        os.environ["RAY_ADDRESS"] = started.address
        yield
    finally:
        os.environ.pop("RAY_ADDRESS", None)
        started.shutdown()


def mer(*words: str, through: tuple[str, ...] = ()) -> dict:
    """Run a command, directly or through another module; returns its JSON."""
    command = [sys.executable, "-m", *through, "mer", *words, "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    return json.loads(done.stdout)


def sweep(data: str, runs: int, epochs: int) -> dict:
    """Seconds of a whole sweep, start and tests included, on one CPU and on two."""
    sizes = ",".join(str(8 + number) for number in range(runs))
    words = ["sweep", "--data", data, "--executor", "ray", "--backbones", "mobilenet_v3_small"]
    words += ["--batch-sizes", sizes, "--epochs", str(epochs), *SETTINGS]
    took = {}
    for cpus in (1, 2):
        with cluster(cpus):
            took[cpus] = seconds(lambda: mer(*words))
    return {
        "runs": runs,
        "seconds_1_cpu": round(took[1], 1),
        "seconds_2_cpus": round(took[2], 1),
        "ratio": round(took[1] / took[2], 2),
    }


def data_parallel(data: str, epochs: int) -> dict:
    """Median seconds of an epoch, without the first, for one process of one thread and for two."""
    words = ["train", "--data", data, "--backbone", "efficientnet_lite0", "--batch-size", "16"]
    words += ["--epochs", str(epochs), *SETTINGS, "--image-size", "224"]

    def epoch(*more: str, through: tuple[str, ...] = ()) -> float:
        run = mer(*words, *more, through=through)["run_id"]
        return median([value for _, value in RunStore.open().history(run, "epoch_seconds")][1:])

    def joined(count: int) -> tuple[str, ...]:
        return ("torch.distributed.run", "--standalone", f"--nproc-per-node={count}", "-m")

    alone = epoch()
    found = {"one_process": alone, "torchrun_2": epoch(through=joined(2))}
    with cluster(2):
        found["ray_2_workers"] = epoch("--executor", "ray", "--workers", "2")
    ratios = {f"ratio_{name}": round(alone / value, 2) for name, value in found.items() if value != alone}
    return {f"epoch_seconds_{name}": round(value, 2) for name, value in found.items()} | ratios


def trainer() -> dict:
    """TorchTrainer: memory that a waiting run holds, and seconds to start an empty run."""
    import ray
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    class Hand:
        def work(self) -> None:
            """Nothing."""

    def fit() -> None:
        with TemporaryDirectory() as place:
            config = RunConfig(storage_path=place)
            TorchTrainer(lambda: None, scaling_config=ScalingConfig(num_workers=1), run_config=config).fit()

    def own() -> None:
        hand = ray.remote(num_cpus=1)(Hand).remote()
        ray.get(hand.work.remote())
        ray.kill(hand)

    def held() -> dict[int, float]:
        found = [one for one in psutil.Process().children(recursive=True) if "ray::" in one.name()]
        return {one.pid: one.memory_full_info().uss / 2**20 for one in found}

    ray.init(num_cpus=1, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    busy = ray.remote(num_cpus=1)(Hand).remote()
    ray.get(busy.work.remote())
    before, waiting = held(), threading.Thread(target=fit)
    waiting.start()
    time.sleep(20)
    more = [size for pid, size in held().items() if pid not in before]
    ray.kill(busy)
    waiting.join()
    found = {"waiting_processes": len(more), "waiting_mb": round(sum(more))}
    return found | {"start_seconds": round(seconds(fit), 1), "own_start_seconds": round(seconds(own), 1)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=12, metavar="N")
    parser.add_argument("--epochs", type=int, default=3, metavar="N")
    parser.add_argument("--clips", type=int, default=12, metavar="N", help="a class")
    parser.add_argument("--trainer", action="store_true")
    options = parser.parse_args()
    os.environ |= QUIET | {"OMP_NUM_THREADS": "1"}
    if options.trainer:
        found = trainer()
    else:
        with TemporaryDirectory() as place:
            os.environ["MER_HOME"] = str(Path(place, "home"))
            data = str(Path(place, "data"))
            mer("data", "demo", "--out", data, "--clips-per-class", str(options.clips))
            found = {"data_parallel": data_parallel(data, options.epochs)}
            if options.runs:
                found["sweep"] = sweep(data, options.runs, options.epochs)
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
