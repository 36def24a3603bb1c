"""Measure resident memory while many clips are prepared, trained on and predicted.

    python -m benchmarks.memory --clips 20000 --folder DIR

writes that many clips of 10 s (16 kHz, mono; 320 kB each) with a manifest into DIR unless they are there,
runs the commands on them in a separate home in DIR, and prints the largest resident memory of any one of
their processes. Of full fine-tuning it watches the first minutes: each step is like the one before.
"""

import argparse
import csv
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import soundfile

RATE, SECONDS, LABELS = 16_000, 10, ("Romantic", "Happy", "Sad", "Devotional", "Party")
ROOT = Path(__file__).parents[1]
NETWORK = ("--backbone", "mobilenet_v3_small", "--weights", "none", "--no-baseline")


def write_clips(folder: Path, count: int) -> Path:
    """Write clips of noise, all different; returns their manifest, which names a song for every two clips."""
    manifest = folder / f"{count}.csv"
    if manifest.exists():
        return manifest
    rng = np.random.default_rng(0)
    noise = rng.integers(-8000, 8000, 4 * RATE * SECONDS, dtype=np.int16)
    rows = []
    for number in range(count):
        path = folder / f"{number // 1000:03}" / f"{number:06}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        start = rng.integers(len(noise) - RATE * SECONDS)
        if not path.exists():
            clip = noise[start : start + RATE * SECONDS].copy()
            clip[0] = number % 8000
            soundfile.write(path, clip, RATE, subtype="PCM_16")
        rows.append((path.relative_to(folder), LABELS[number // 2 % len(LABELS)], f"song {number // 2}"))
    with manifest.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "song"), *rows])
    return manifest


def peaks(words: list[str], home: Path, limit: float) -> tuple[float, float, list[float]]:
    """Run a command; returns seconds, peak memory of one process (MB), and the peak of each tenth.

    After `limit` seconds it is ended.
    """
    seen = []
    with (home.parent / "memory.log").open("a") as log:
        process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-m", "mer", *words],
            cwd=ROOT,
            env=os.environ | {"MER_HOME": str(home)},
            stdout=log,
            stderr=log,
        )
        began = time.monotonic()
        while process.poll() is None and time.monotonic() - began < limit:
            seen.append(largest(process.pid))
            time.sleep(0.2)
        process.terminate()
        if process.wait() not in (0, 130):
            raise SystemExit(f"error: 'mer {words[0]}' ended with {process.returncode}; see {log.name}")
    tenth = max(1, len(seen) // 10)
    return time.monotonic() - began, max(seen), [max(seen[i : i + tenth]) for i in range(0, len(seen), tenth)]


def largest(pid: int) -> float:
    """Memory of the largest among a process and its children, MB."""
    found = 0.0
    try:
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            found = max(found, process.memory_info().rss / 1e6)
    except psutil.NoSuchProcess:
        pass
    return found


def main() -> None:
    """Prepare, train the head, fine-tune, and predict."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--limit", type=float, default=300.0, help="seconds of full fine-tuning to watch")
    arguments = parser.parse_args()
    manifest = write_clips(arguments.folder / "clips", arguments.clips)
    home, data = arguments.folder / f"home-{arguments.clips}", str(manifest)
    model = str(ROOT / "checkpoints" / "demo_mobilenet_v3_small")
    commands = {
        "prepare": (["prepare", data], 1e6),
        "prepare again": (["prepare", data], 1e6),
        "train a frozen network's head": (["train", "--data", data, "--preset", "quick", *NETWORK], 1e6),
        "fine-tune": (["train", "--data", data, *NETWORK], arguments.limit),
        "predict": (["predict", model, str(manifest.parent / "000")], 1e6),
    }
    for title, (words, limit) in commands.items():
        taken, most, tenths = peaks(words, home, limit)
        course = " ".join(f"{value:.0f}" for value in tenths)
        print(f"{title}: {taken:.0f} s, at most {most:.0f} MB; by tenths: {course}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
