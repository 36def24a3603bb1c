"""Many visitors at once beside a training run: what they wait for, what they are shown, what it costs.

    python -m tests.browser.load --sessions 20 --seconds 120

prints one JSON object. For each of two loads: seconds that acts took, errors shown, connections lost, cores
used, memory in MB of the server and with its commands, steps that the training run made in a second; the last
also for the run alone; and what the server grew by and how long it took when everyone gave it a song of five
minutes at once.
"""

import argparse
import asyncio
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import soundfile
from websockets.exceptions import ConnectionClosed

from mer.runs.store import RunStore
from tests.browser.conftest import ROOT, Server
from tests.browser.tab import Tab, TroubleError

PAGES = ("", "data", "train", "live", "compare", "confusion", "map", "study", "ladder", "predict")
OWN = "source=Upload&model=demo_mobilenet_v3_small"
RATE, SHORT, WHOLE = 22_050, 10, 300  # Hz, s, s
LOOKING = 8.0  # s that a visitor stays with Live
PAUSE = (1.0, 3.0)  # s between two acts
EPOCHS = 1000  # of the whole network: longer than any load
LONG = ("--preset=full", "--backbone=mobilenet_v3_small", "--weights=none", "--batch-size=8", "--patience=0")


def song(number: int, seconds: int = SHORT) -> bytes:
    """A chord as WAV, each number another one, so that no answer to one is remembered."""
    rng = np.random.default_rng(number)
    time_axis = np.arange(RATE * seconds) / RATE
    tones = [np.sin(2 * np.pi * hertz * time_axis) for hertz in rng.uniform(110, 880, 3)]
    file = io.BytesIO()
    soundfile.write(file, 0.2 * sum(tones) + 0.01 * rng.standard_normal(len(time_axis)), RATE, format="WAV")
    return file.getvalue()


async def predict(tab: Tab, number: int) -> None:
    """Give a clip of one's own to the shipped network, and read an emotion."""
    await tab.open("predict", OWN)
    await hear(tab, number, song(number))


async def hear(tab: Tab, number: int, content: bytes) -> None:
    """Upload a clip where it is asked for."""
    await tab.upload(f"tune {number}.wav", content, kind="predict")
    if not any(heading.body.endswith("%") for heading in tab.found("heading")):
        tab.errors.append(f"tune {number}: no emotion was named")


async def try_clip(tab: Tab) -> None:
    """Have the front door play and judge a clip."""
    await tab.open("")
    await tab.click("Try a clip", kind="predict")


async def look_on(tab: Tab) -> None:
    """Watch the run at work."""
    await tab.open("live")
    if not tab.polls:
        tab.errors.append("live: the page does not ask to be looked at again, though a run is active")
    await tab.poll(LOOKING)


async def visit(tab: Tab, number: int, seconds: float) -> int:
    """One visitor's acts, drawn by chance from a seed; returns how often the connection was lost.

    All begin with the same page at the same time, as a class does that is told to.
    """
    rng, end, dropped, tunes = random.Random(number), time.monotonic() + seconds, 0, 0
    await tab.open("data")
    while time.monotonic() < end:
        act = rng.choices(("browse", "predict", "try", "look"), (6, 3, 1, 2))[0]
        try:
            if act == "predict":
                tunes += 1
                await predict(tab, 1000 * number + tunes)
            elif act == "try":
                await try_clip(tab)
            elif act == "look":
                await look_on(tab)
            elif tab.socket:
                await tab.go(rng.choice(PAGES))
            else:
                await tab.open(rng.choice(PAGES))
        except ConnectionClosed:
            dropped += 1
            await tab.close()
        except (TroubleError, TimeoutError, OSError) as error:
            tab.errors.append(f"{act}: {type(error).__name__} {error}")
            await tab.close()
        await asyncio.sleep(rng.uniform(*PAUSE))
    await tab.close()
    return dropped


async def crowd(url: str, sessions: int, seconds: float, first: int) -> dict:
    """What all visitors met."""
    tabs = [Tab(url) for _ in range(sessions)]
    visits = [visit(tab, first + number, seconds) for number, tab in enumerate(tabs)]
    dropped = sum(await asyncio.gather(*visits))
    errors = [error for tab in tabs for error in tab.errors]
    return {"acts": figures(tabs), "errors": errors, "dropped": dropped}


def figures(tabs: list[Tab]) -> dict:
    """How often each kind of act was done, and the seconds that half, 95% and all of them took at most."""
    took = defaultdict(list)
    for tab in tabs:
        for kind, times in tab.took.items():
            took[kind] += times
    return {
        kind: {"n": len(times), **{f"p{q}": round(float(np.percentile(times, q)), 2) for q in (50, 95, 100)}}
        for kind, times in sorted(took.items())
    }


async def all_at_once(url: str, sessions: int) -> float:
    """Everyone gives a song of five minutes at the same moment; seconds until the last has an answer."""
    tabs = {Tab(url): song(9_000_000 + number, WHOLE) for number in range(sessions)}
    for tab in tabs:
        await tab.open("predict", OWN)
    began = time.monotonic()
    await asyncio.gather(*(hear(tab, 0, content) for tab, content in tabs.items()))
    length = time.monotonic() - began
    assert not any(tab.errors for tab in tabs), [tab.errors for tab in tabs]
    for tab in tabs:
        await tab.close()
    return length


class Memory:
    """Resident memory of a process, and with its commands, MB, looked at every half second."""

    def __init__(self, pid: int) -> None:
        self.process, self.seen, self.stop = psutil.Process(pid), [], threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def now(self) -> tuple[float, float]:
        """Pages that commands share with the server count twice."""
        own = self.process.memory_info().rss
        total = own
        for process in self.process.children(recursive=True):
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return round(own / 2**20), round(total / 2**20)

    def _watch(self) -> None:
        while not self.stop.wait(0.5):
            try:
                self.seen.append(self.now())
            except psutil.NoSuchProcess:
                return

    def peak(self) -> dict[str, float]:
        """The most since the last question."""
        seen, self.seen = self.seen, []
        own, total = zip(*seen, self.now(), strict=True)
        return {"server": max(own), "with_commands": max(total)}


class Training:
    """A run of the whole network that goes on until it is stopped."""

    def __init__(self, server: Server, data: Path) -> None:
        self.log = server.home.parent / "training.log"
        command = [sys.executable, "-m", "mer", "train", "--data", str(data), "--epochs", str(EPOCHS), *LONG]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--no-baseline"], cwd=ROOT, stdout=log, stderr=log,
                env=server.settings | {"OMP_WAIT_POLICY": "passive"},  # as the dashboard starts its runs
            )  # fmt: skip

    def steps(self) -> int:
        """How many it has made."""
        active = RunStore.open().active()
        return round(active[0].metrics.get("progress", 0.0) * (active[0].steps or 0)) if active else 0

    def begin(self) -> None:
        """Wait for its first steps."""
        deadline = time.monotonic() + 120
        while self.steps() <= 5:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.5)

    def stop(self) -> None:
        """As Ctrl-C does."""
        self.process.terminate()
        self.process.wait()


class Spent:
    """From here on: steps made in a second, and cores that the server, the training and this process use."""

    def __init__(self, server: Server, training: Training) -> None:
        self.training = training
        self.processes = {
            "server": psutil.Process(server.process.pid),
            "training": psutil.Process(training.process.pid),
            "visitors": psutil.Process(),
        }
        self.before, self.steps, self.began = self._cpu(), training.steps(), time.monotonic()

    def _cpu(self) -> dict[str, float]:
        times = {name: process.cpu_times() for name, process in self.processes.items()}
        return {name: used.user + used.system for name, used in times.items()}

    def so_far(self) -> dict:
        """The figures."""
        assert self.training.process.poll() is None, self.training.log.read_text()
        length, after = time.monotonic() - self.began, self._cpu()
        used = {name: after[name] - self.before[name] for name in after}
        steps = self.training.steps() - self.steps
        return {
            "steps_per_s": round(steps / length, 3),
            "steps_per_cpu_s": round(steps / used["training"], 3),
            "cores": {name: round(seconds / length, 3) for name, seconds in used.items()},
        }


def beside(crowd_of: Coroutine, witness: Callable[[], None] | None) -> object:
    """What a crowd met, in a thread of its own; meanwhile `witness` is called here, again and again."""
    with ThreadPoolExecutor(1) as pool:
        crowded = pool.submit(asyncio.run, crowd_of)
        while witness and not crowded.done():
            witness()
        return crowded.result()


def measure(
    home: Path,
    *,
    sessions: int,
    seconds: float,
    loads: int = 2,
    alone: float = 30.0,
    witness: Callable[[str], None] | None = None,
) -> dict:
    """A fresh server; a training run alone, then beside `loads` crowds; then everyone's songs at once.

    MER_HOME must name `home`. `witness` is called with the server's address again and again meanwhile.
    """
    data = furnish(home)
    server = Server(home)
    server.settings.pop("OMP_NUM_THREADS", None)  # what the tests set: here all cores are fought for
    server.start()
    memory, training = Memory(server.process.pid), Training(server, data)
    look = witness and (lambda: witness(server.url))
    try:
        training.begin()
        spent = Spent(server, training)
        time.sleep(alone)
        found = {"sessions": sessions, "seconds": seconds, "cpus": os.cpu_count(), "alone": spent.so_far()}
        found["loads"] = []
        for number in range(loads):
            spent = Spent(server, training)
            memory.peak()
            met = beside(crowd(server.url, sessions, seconds, 1000 * number), look)
            found["loads"].append(met | spent.so_far() | {"peak_mb": memory.peak()})
        training.stop()
        before = memory.now()[0]
        took = beside(all_at_once(server.url, sessions), None)
        found["all_at_once"] = {"seconds": round(took, 1), "grew_mb": memory.peak()["server"] - before}
        return found
    finally:
        memory.stop.set()
        training.stop()
        server.kill()


def furnish(home: Path) -> Path:
    """A home with a small demo corpus that it knows and a finished run; returns the corpus."""
    server, data = Server(home), home / "data" / "demo"
    server.mer("data", "demo", "--out", data, "--clips-per-class", "8")
    code = f"from mer.data.library import add; add({str(data)!r}, source='demo')"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=server.settings, check=True)
    server.mer("train", "--data", data, "--preset", "quick", "--epochs", "2", "--no-baseline")
    return data


def main() -> None:
    """Measure in a temporary home, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--loads", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MER_HOME"] = str(Path(folder) / "home")
        found = measure(Path(folder) / "home", **vars(given))
    print(json.dumps(found, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
