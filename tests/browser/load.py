"""Many visitors at once beside a training run: what they wait for, what they are shown, what it costs.

    python -m tests.browser.load --sessions 20 --seconds 120

prints one JSON object: seconds that acts took (p50, p95, max), errors shown, connections dropped, memory of
the server with its commands in MB for each of two loads, CPU time, and the speed of the training run in steps
a second, alone and beside each load.
"""

import argparse
import asyncio
import io
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import soundfile

from tests.browser.conftest import ROOT, Server
from tests.browser.tab import ConnectionClosed, Tab, Trouble

PAGES = ("", "data", "train", "live", "compare", "confusion", "map", "study", "ladder", "predict")
SHIPPED = "demo_mobilenet_v3_small"
RATE, SECONDS = 22_050, 10
LOOKING = 8.0  # s that a visitor stays with Live
PAUSE = (1.0, 3.0)  # s between two acts
EPOCHS = 1000  # of the whole network: longer than any load
LONG = "--preset full --backbone mobilenet_v3_small --weights none --batch-size 8 --patience 0 --no-baseline".split()


def song(number: int) -> bytes:
    """10 s of chords as WAV, each number another tune, so that no answer to one is remembered."""
    rng = np.random.default_rng(number)
    time_axis = np.arange(RATE * SECONDS) / RATE
    tones = [np.sin(2 * np.pi * hertz * time_axis) for hertz in rng.uniform(110, 880, 3)]
    file = io.BytesIO()
    soundfile.write(file, 0.2 * sum(tones) + 0.01 * rng.standard_normal(len(time_axis)), RATE, format="WAV")
    return file.getvalue()


async def predict(tab: Tab, number: int) -> None:
    """Give a clip of one's own to the shipped network, and read an emotion."""
    await tab.open("predict", f"source=Upload&model={SHIPPED}")
    await tab.upload(f"tune {number}.wav", song(number), kind="predict")
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
    """One visitor's acts, drawn by chance from a seed; returns how often the connection was lost."""
    rng, end, dropped, tunes = random.Random(number), time.monotonic() + seconds, 0, 0
    await asyncio.sleep(rng.uniform(0, PAUSE[1]))
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
        except (Trouble, TimeoutError, OSError) as error:
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
    took = defaultdict(list)
    for tab in tabs:
        for kind, times in tab.took.items():
            took[kind] += times
    acts = {
        kind: {"n": len(times), **{f"p{q}": round(float(np.percentile(times, q)), 2) for q in (50, 95, 100)}}
        for kind, times in sorted(took.items())
    }
    return {"acts": acts, "errors": [error for tab in tabs for error in tab.errors], "dropped": dropped}


class Memory:
    """Resident memory of a process and its commands, MB, looked at every half second."""

    def __init__(self, pid: int) -> None:
        self.process, self.seen, self.stop = psutil.Process(pid), [], threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def now(self) -> float:
        """Pages that commands share with the server count twice."""
        total = 0
        for process in (self.process, *self.process.children(recursive=True)):
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return round(total / 2**20, 1)

    def _watch(self) -> None:
        while not self.stop.wait(0.5):
            self.seen.append(self.now())

    def peak(self) -> float:
        """The most since the last question."""
        seen, self.seen = self.seen, []
        return max(seen, default=self.now())


class Training:
    """A run of the whole network that goes on until it is stopped."""

    def __init__(self, server: Server, data: Path) -> None:
        self.server = server
        words = ["train", "--data", str(data), "--epochs", str(EPOCHS), *LONG]
        self.log = server.home.parent / "training.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mer", *words],
                cwd=ROOT, env=server.settings, stdout=log, stderr=log,
            )  # fmt: skip

    def steps(self) -> int:
        """How far it is."""
        from mer.tracking import RunStore

        (run,) = RunStore.open().active()
        return round(run.metrics.get("progress", 0.0) * (run.steps or 0))

    def begin(self) -> None:
        """Wait for its first steps."""
        deadline = time.monotonic() + 120
        while True:
            try:
                if self.steps() > 5:
                    return
            except ValueError:  # not there yet
                pass
            assert self.process.poll() is None and time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.5)

    def stop(self) -> None:
        """As Ctrl-C does."""
        self.process.terminate()
        self.process.wait()


def cpu(pid: int) -> float:
    """CPU seconds of a process so far."""
    used = psutil.Process(pid).cpu_times()
    return used.user + used.system


def under_load(
    server: Server, training: Training, memory: Memory, sessions: int, seconds: float, first: int
) -> dict:
    """One load with its figures."""
    pids = {"server": server.process.pid, "training": training.process.pid}
    before = {name: cpu(pid) for name, pid in pids.items()} | {"visitors": time.process_time()}
    memory.peak()
    began, steps = time.monotonic(), training.steps()
    found = asyncio.run(crowd(server.url, sessions, seconds, first))
    length = time.monotonic() - began
    after = {name: cpu(pid) for name, pid in pids.items()} | {"visitors": time.process_time()}
    found["steps_per_s"] = round((training.steps() - steps) / length, 3)
    found["cores"] = {name: round((after[name] - before[name]) / length, 3) for name in before}
    found["memory_mb"] = {"peak": memory.peak(), "after": memory.now()}
    found["threads"] = psutil.Process(server.process.pid).num_threads()
    return found


def furnish(home: Path) -> Path:
    """A home with a small demo corpus that it knows and a finished run; returns the corpus."""
    server, data = Server(home), home / "data" / "demo"
    server.mer("data", "demo", "--out", data, "--clips-per-class", "8")
    code = f"from mer.library import add; add({str(data)!r}, source='demo')"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=server.settings, check=True)
    server.mer("train", "--data", data, "--preset", "quick", "--epochs", "2", "--no-baseline")
    return data


def measure(home: Path, *, sessions: int, seconds: float, loads: int = 2, alone: float = 30.0) -> dict:
    """A fresh server, a training run alone, then beside `loads` crowds. MER_HOME must name `home`."""
    data = furnish(home)
    server = Server(home).start()
    memory, training = Memory(server.process.pid), None
    try:
        training = Training(server, data)
        training.begin()
        steps, began, used = training.steps(), time.monotonic(), cpu(training.process.pid)
        time.sleep(alone)
        length = time.monotonic() - began
        found = {"sessions": sessions, "seconds": seconds, "cpus": os.cpu_count(), "memory_mb": memory.now()}
        speed = round((training.steps() - steps) / length, 3)
        found["alone"] = {
            "steps_per_s": speed,
            "cores": round((cpu(training.process.pid) - used) / length, 3),
        }
        found["loads"] = [
            under_load(server, training, memory, sessions, seconds, first=1000 * number)
            for number in range(loads)
        ]
        return found
    finally:
        memory.stop.set()
        if training:
            training.stop()
        server.kill()


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
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
