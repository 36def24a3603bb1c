"""Measure `mer serve` under load: requests per second and latency, beside the bare forward pass.

Each client sends its next request as soon as the last is answered; after a 429 it waits as told. Clients and
server share the cores of this machine, and the CPU time of the clients is reported.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import numpy as np
import torch

from mer.data.demo import example_clip
from mer.inference.ensemble import open_predictor

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "checkpoints" / "demo_mobilenet_v3_small"
EDGE = "a-line-that-no-clip-contains"


@dataclass
class Load:
    """The clients' results: seconds of each answer, and counts of each status."""

    latencies: list[float] = field(default_factory=list)
    statuses: Counter = field(default_factory=Counter)

    def row(self, clients: int, seconds: float, own: float) -> dict:
        """The row as text."""
        found = [1000 * float(np.percentile(self.latencies, share)) for share in (50, 95, 99)]
        return {
            "clients": clients,
            "answers_per_second": round(self.statuses[200] / seconds, 1),
            **{f"p{share}_ms": round(value) for share, value in zip((50, 95, 99), found, strict=True)},
            "refused": self.statuses[429],
            "other": sum(count for status, count in self.statuses.items() if status not in (200, 429)),
            "cores_of_clients": round(own, 2),
        }


@contextmanager
def served(checkpoint: Path, *options: str) -> Iterator[int]:
    """Start `mer serve` on a free port; yields the port."""
    command = [sys.executable, "-m", "mer", "serve", str(checkpoint), "--port", "0", "--json", *options]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)  # noqa: S603
    try:
        yield urlsplit(json.loads(process.stdout.readline())["url"]).port
    finally:
        process.terminate()
        process.wait(30)


def bodies() -> list[bytes]:
    """Request bodies, each a form with a clip of 10 s."""
    head = f'--{EDGE}\r\nContent-Disposition: form-data; name="file"; filename="clip.wav"\r\n\r\n'
    clips = [example_clip(label) for label in ("Happy", "Sad", "Party", "Romantic")]
    return [head.encode() + clip + f"\r\n--{EDGE}--\r\n".encode() for clip in clips]


def client(port: int, forms: list[bytes], until: float, load: Load) -> None:
    """Send requests until the time is over."""
    headers, number = {"Content-Type": f"multipart/form-data; boundary={EDGE}"}, 0
    with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as line:
        while time.monotonic() < until:
            began, number = time.monotonic(), number + 1
            line.request("POST", "/predict", forms[number % len(forms)], headers)
            answer = line.getresponse()
            answer.read()
            load.statuses[answer.status] += 1
            if answer.status == 200:
                load.latencies.append(time.monotonic() - began)
            elif wait := answer.getheader("Retry-After"):
                line.close()
                time.sleep(float(wait))


def measure(port: int, clients: int, seconds: float) -> dict:
    """Measure one row."""
    forms, loads = bodies(), [Load() for _ in range(clients)]
    began, worked = time.monotonic(), os.times()
    with ThreadPoolExecutor(clients) as pool:
        for load in loads:
            pool.submit(client, port, forms, began + seconds, load)
    took, now = time.monotonic() - began, os.times()
    whole = Load()
    for load in loads:
        whole.latencies += load.latencies
        whole.statuses += load.statuses
    return whole.row(clients, took, (now.user + now.system - worked.user - worked.system) / took)


def bare(checkpoint: Path, repeats: int = 100) -> float:
    """Median milliseconds of one window through the network alone, on one thread."""
    network = open_predictor(checkpoint, device="cpu").networks[0]
    size = network.card.config.mel.image_size
    inputs, times = network.inputs(np.zeros((1, size, size), np.float16)), []
    torch.set_num_threads(1)
    for _ in range(repeats):
        began = time.perf_counter()
        network.look(inputs)
        times.append(1000 * (time.perf_counter() - began))
    return median(times)


def main() -> None:
    """Measure and print a line for each number of clients."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, default=SHIPPED)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--clients", default="1,2,8,32,64", metavar="N,N")
    options, more = parser.parse_known_args()
    sys.stdout.write(f"bare forward pass, one window, one thread: {bare(options.checkpoint):.1f} ms\n")
    with served(options.checkpoint, *more) as port:
        measure(port, 1, 1.0)
        for clients in map(int, options.clients.split(",")):
            sys.stdout.write(json.dumps(measure(port, clients, options.seconds)) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
