"""Rows for the work of the 2022 study: from audio files to the test scores of its networks.

Both sides are commands, so starting Python and importing are part of it. Ours begins in an empty MER_HOME
each time and keeps runs, checkpoints and predictions; the baseline keeps nothing. The baseline's networks
come half before and half after our command, so that changes in the machine's speed affect both.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from benchmarks import baseline, limits
from benchmarks.rows import Bench, Measured
from benchmarks.sample import choose
from benchmarks.timing import seconds
from mer.config.presets import preset
from mer.utils.machine import cores

__all__ = ["BACKBONES", "SIZES", "paper_run", "paper_sweep", "sweep_words"]

ROOT = Path(__file__).parents[1]
BACKBONES = ("alexnet", "vgg16", "mobilenet_v3_small", "resnet18", "densenet121", "efficientnet_b0")
SIZES = (16, 32, 64)


def _backbones(bench: Bench) -> tuple[str, ...]:
    return ("mobilenet_v3_small",) if bench.quick else BACKBONES


def sweep_words(data: str, backbones: Sequence[str], sizes: Sequence[int]) -> list[str]:
    """The arguments of our command, after `python`."""
    options = ["--data", data, "--preset", "paper", "--weights", "none", "--backbones", ",".join(backbones)]
    options += ["--batch-sizes", ",".join(map(str, sizes)), "--no-group-by-song", "--no-baseline"]
    options += ["--device", "cpu", "--json"]
    return ["-m", "mer", "sweep", *options]


def _command(words: Sequence[str], home: Path) -> tuple[float, dict]:
    """Seconds of a Python command in the repository, and the JSON it prints; RuntimeError if it fails."""
    done: list[subprocess.CompletedProcess[str]] = []
    command, settings = [sys.executable, *words], os.environ | {"MER_HOME": str(home)}

    def run() -> None:
        done.append(
            subprocess.run(  # noqa: S603 - our own program
                command, cwd=ROOT, env=settings, capture_output=True, text=True, check=False
            )
        )

    taken = seconds(run)
    if done[0].returncode:
        raise RuntimeError(f"{' '.join(words[:3])} failed: {done[0].stderr.strip().splitlines()[-1:]}")
    return taken, json.loads(done[0].stdout)


def _baseline(bench: Bench, backbones: Sequence[str], size: int) -> float:
    """Seconds of the baseline's command for some networks with one batch size."""
    if not backbones:
        return 0.0
    words = ["-m", "benchmarks.baseline", "--data", str(bench.sample.folder)]
    words += ["--backbones", ",".join(backbones), "--batch-sizes", str(size)]
    taken, printed = _command(words, bench.scratch)
    each = ", ".join(f"{run['backbone']} {run['seconds']:.0f} s" for run in printed["runs"])
    bench.say(f"  the baseline with batches of {size}: {taken:.0f} s ({each})")
    return taken


def _ours(bench: Bench, sizes: Sequence[int]) -> float:
    """Seconds of our command, in an empty home; RuntimeError unless every network has its score."""
    words = sweep_words(str(bench.sample.folder), _backbones(bench), sizes)
    taken, printed = _command(words, bench.folder("home"))
    scores = [run["metrics"].get("test_accuracy") for run in printed["runs"]]
    if None in scores or len(scores) != len(sizes) * len(_backbones(bench)):
        raise RuntimeError(f"mer sweep gave {len(scores)} runs, failed: {printed['failed']}")
    bench.say(f"  ours with batches of {', '.join(map(str, sizes))}: {taken:.0f} s")
    return taken


def _at_64(bench: Bench) -> list[tuple[float, float]]:
    """Seconds of both sides with batches of 64, for each repetition; measured once for both rows."""
    if "at 64" not in bench.known:
        names, pairs = _backbones(bench), []
        for _ in range(bench.repeats):
            before = _baseline(bench, names[: len(names) // 2], baseline.BATCH)
            ours = _ours(bench, [baseline.BATCH])
            after = _baseline(bench, names[len(names) // 2 :], baseline.BATCH)
            pairs.append((ours, before + after))
        bench.known["at 64"] = pairs
    return bench.known["at 64"]


def _limit(bench: Bench) -> str:
    """The time for the bare computation: features of each clip, and one forward pass per clip and network."""
    steps = limits.steps(bench.sample.paths[0], preset("paper"))
    count = len(bench.sample.paths)
    features = count * sum(steps.values()) / 1000 / cores()
    each = {name: count * limits.batch_forward(name) for name in _backbones(bench)}
    through = ", ".join(f"{name} {taken:.1f} s" for name, taken in each.items())
    total = features + sum(each.values())
    return f"bare: features {features:.1f} s, all clips once through {through}; together {total:.0f} s"


def paper_run(bench: Bench) -> Measured:
    """All networks with batches of 64."""
    ours, theirs = zip(*_at_64(bench), strict=True)
    return Measured(median(ours), median(theirs), [_repetitions(bench), _limit(bench)])


def paper_sweep(bench: Bench) -> Measured:
    """All networks with batches of 16, 32, 64; on all clips the baseline's time at 64 is the paper run's."""
    fewer = bench.sweep_clips is not None and bench.sweep_clips < len(bench.sample.paths)
    if fewer:
        sample = choose(bench.sample.folder, bench.folder("sweep"), bench.sweep_clips)
        bench = replace(bench, sample=sample)
        at_64 = [_baseline(bench, _backbones(bench), baseline.BATCH) for _ in range(bench.repeats)]
    else:
        at_64 = [theirs for _, theirs in _at_64(bench)]
    pairs = []
    for number in range(bench.repeats):
        before = _baseline(bench, _backbones(bench), SIZES[0])
        ours = _ours(bench, SIZES)
        after = _baseline(bench, _backbones(bench), SIZES[1])
        pairs.append((ours, before + after + at_64[number]))
    ours, theirs = zip(*pairs, strict=True)
    clips = f"on {len(bench.sample.paths)} of the clips, with which fixed costs weigh more" if fewer else ""
    return Measured(median(ours), median(theirs), [_repetitions(bench), *filter(None, [clips])])


def _repetitions(bench: Bench) -> str:
    return "measured once" if bench.repeats == 1 else f"median of {bench.repeats}"
