"""Kills runs with SIGKILL, or fills their disk, at random moments, and checks what is left.

`python -m tests.killing 50 --seed 0` kills 50 runs, each in its own home. It checks the files on disk,
resumes until the run is done, compares its weights with those of an undisturbed run, and prints one JSON
object. With `--full FOLDER`, a small file system, the disk fills up at those moments instead.

A run has several lives, each from a start to its end (`tests.life`). Half of the moments at which a life ends
are random times; the others are just before, during or after an operation that changes the disk.
"""

import argparse
import importlib
import json
import mmap
import os
import re
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from mer.data.cache.arrays import is_whole
from mer.data.cache.store import FeatureStore
from mer.experiments.experiment import Experiment
from mer.experiments.prepared import Spec
from mer.models.checkpoint import load_checkpoint
from mer.runs.store import RunStore
from mer.training.state import load_state
from mer.utils import files
from mer.utils.errors import MerError
from tests.life import (
    COUNT,
    DONE,
    MOST_STEPS,
    REFUSED,
    STEPS,
    WHILE,
    Trap,
    asked,
    fill,
    in_a_fork,
    kill_all,
    wait,
)
from tests.run_helpers import tiny_config, write_songs

KINDS = {  # the kinds of runs, and their settings
    "the whole network": {"keep": "best"},
    "a head on a frozen body": {"freeze": "head", "standardize": "window"},
    "a cross-validation": {"folds": 2, "freeze": "head", "standardize": "window"},
    "a launched run": {"freeze": "head", "standardize": "window"},
}
MEMORY = Path("/dev/shm")  # if it exists: a kill leaves the same there as on a disk, and it is faster
LIVES = 4  # at most; the last is not killed


@dataclass(frozen=True)
class Moment:
    """When a life ends: after some seconds, or at an operation."""

    seconds: float = 0.0
    operation: int = 0


@dataclass
class Lab:
    """The folder of an experiment: songs, an empty home with a database, and results of undisturbed runs.

    `full` is a small file system for the homes, if the disk is to fill up.
    """

    root: Path
    full: Path | None = None
    known: dict[str, dict] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        """The output of all lives."""
        return self.root / "log"

    def prepare(self) -> "Lab":
        """Create what all runs share."""
        self.root.mkdir(parents=True, exist_ok=True)
        write_songs(self.root / "songs")
        os.environ["MER_HOME"] = str(self.root / "empty")
        self.making = self.watched(RunStore.open)
        self.home(self.root / "undisturbed")
        for name in asked(
            partial(loaded, self.root / "songs"), self.log
        ):  # otherwise each life would import for seconds
            with suppress(ImportError):
                importlib.import_module(name)
        return self

    def home(self, place: Path) -> None:
        """Create an empty home, and set it for all processes that are forked from now on."""
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self.root / "empty", place)
        database = place / "mlflow.db"
        with closing(sqlite3.connect(database)) as connection, connection:
            where = (place / "artifacts").as_uri()
            connection.execute("UPDATE experiments SET artifact_location = ?", (where,))
        os.environ["MER_HOME"] = str(place)

    def undisturbed(self, kind: str) -> dict:
        """Train an undisturbed run once; returns its weights, seconds and operations."""
        if kind in self.known:
            return self.known[kind]
        self.home(self.root / "undisturbed")
        found = self.watched(partial(go_on, kind, self.root / "songs"))
        self.known[kind] = found | {"weights": asked(weights, self.log)}
        return self.known[kind]

    def watched(self, work: Callable[[], Any]) -> dict:
        """Run an undisturbed life; returns its seconds, and its operations by what it was doing."""
        began = time.monotonic()
        ended, _, steps = self.live(work)
        assert ended == DONE, self.log.read_text()[-3000:]
        by_doing = {WHILE[doing]: np.flatnonzero(steps == doing) + 1 for doing in set(steps)}
        return {"seconds": time.monotonic() - began, "operations": by_doing}

    def live(
        self, work: Callable[[], Any], moment: Moment | None = None, spring: Callable[[], None] = kill_all
    ) -> tuple[int | None, str, np.ndarray]:
        """Run one life; returns how it ended, what it was doing then, and at each operation."""
        moment = moment or Moment()
        seen = mmap.mmap(-1, STEPS + MOST_STEPS)

        def trapped() -> None:
            Trap(seen, moment.operation, spring).set()
            work()

        pid = in_a_fork(trapped, log=self.log)
        if moment.seconds:
            time.sleep(moment.seconds)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        ended = wait(pid)
        count = int.from_bytes(seen[COUNT], "little")
        return ended, WHILE[seen[0]], np.frombuffer(seen[STEPS + 1 : STEPS + 1 + count], np.uint8)

    @staticmethod
    def draw(undisturbed: dict, rng: np.random.Generator, *, by_the_clock: bool = True) -> Moment:
        """Draw a moment of such a life: a time, or an operation of a random activity."""
        if by_the_clock and rng.random() < 0.5:
            return Moment(seconds=float(rng.uniform(0, undisturbed["seconds"])))
        doing = rng.choice(sorted(undisturbed["operations"]))
        return Moment(operation=int(rng.choice(undisturbed["operations"][doing])))


def loaded(songs: Path) -> list[str]:
    """Return the names of all modules that a run imports."""
    go_on("a head on a frozen body", songs)
    return sorted(sys.modules)


def go_on(kind: str, songs: Path) -> None:
    """Start the run of this home, or resume it."""
    experiment = Experiment()
    known = [run for run in RunStore.open().runs() if not run.parent] if RunStore.exists() else []
    spec = Spec(data=str(songs), config=tiny_config(**KINDS[kind]))
    if kind == "a launched run":
        run_id = known[0].id if known else experiment.runs.create("a launched run", spec.to_dict())
        experiment.runs.enqueue(run_id)
        experiment.work(run_id)
    elif known:
        experiment.resume(known[0].id)
    else:
        experiment.train(spec)


def look() -> dict:
    """Return the runs of this home, and all faults in it."""
    home, wrong = files.home(), []
    with closing(sqlite3.connect(home / "mlflow.db")) as connection:
        (whole,) = connection.execute("PRAGMA integrity_check").fetchone()
    wrong += [] if whole == "ok" else [f"database: {whole}"]
    checkpoints = {"whole": 0, "incomplete": 0}
    for folder in {path.parent for path in (home / "artifacts").rglob("model.safetensors")}:
        try:
            load_checkpoint(folder)
            checkpoints["whole"] += 1
        except MerError:
            checkpoints["incomplete"] += 1
            if not folder.parent.name.startswith("."):
                wrong.append(f"half a checkpoint under its final name: {folder}")
    for path in (home / "runs").glob("*/state.safetensors"):
        load_state(path)
    wrong += [
        f"damaged entry: {path}" for path in (home / "store").glob("*/*/*/[!.]*.npy") if not is_whole(path)
    ]
    FeatureStore.default().facts([])
    names = ("id", "status", "parent", "reason", "name")
    found = [{name: getattr(run, name) for name in names} for run in RunStore.open().runs()]
    return {"runs": found, "wrong": wrong, "checkpoints": checkpoints}


def weights() -> list[str]:
    """Hashes of the weights of all checkpoints in this home, oldest first."""
    runs, found = RunStore.open(), []
    for run in reversed(runs.runs()):
        if run.checkpoint_run == run.id:  # not a cross-validation, which points to a fold
            tensors = load_file(runs.folder(run.id, "checkpoint") / "model.safetensors")
            content = b"".join(tensors[name].numpy().tobytes() for name in sorted(tensors))
            found.append(sha256(content).hexdigest())
    return found


def ended() -> dict:
    """Return the faults in a home whose run is finished, and its weights."""
    runs, wrong = RunStore.open(), []
    for run in runs.runs():
        if run.status != "finished":
            wrong.append(f"{run.name} is {run.status}")
        if not run.data_hash or not run.classes:
            wrong.append(f"{run.name} does not know what its clips are")
        steps = [step for step, _ in runs.history(run.id, "train_loss")]
        if runs.children(run.id):
            continue
        if steps != list(range(1, 4)):
            wrong.append(f"{run.name} logged epochs {steps}")
        steps = [step for step, _ in runs.history(run.id, "step_loss")]
        if len(set(steps)) != len(steps):
            wrong.append(f"{run.name} logged steps twice: {steps}")
    drafts = [path for path in files.home().rglob(".*.*") if "store" not in path.parts]  # those are pruned
    wrong += [f"left over: {path}" for path in drafts if not path.name.endswith(".lock")]
    return {"wrong": wrong, "weights": weights()}


def made_anew(lab: Lab, rng: np.random.Generator) -> dict:
    """Kill a process that creates the database; another must then be able to create it."""
    shutil.rmtree(lab.root / "new", ignore_errors=True)
    os.environ["MER_HOME"] = str(lab.root / "new")
    status, _, _ = lab.live(RunStore.open, lab.draw(lab.making, rng))
    done, _, _ = lab.live(lambda: RunStore.open().runs())
    wrong = [] if done == DONE else [f"no database after a kill: {lab.log.read_text()[-1000:]}"]
    return {"doing": ["making the database"] if status is None else [], "wrong": wrong}


def killed(lab: Lab, kind: str, rng: np.random.Generator) -> dict:
    """Kill one run at one to three moments, then finish it; returns what it was doing, and the faults."""
    undisturbed = lab.undisturbed(kind)
    lab.home(lab.root / "home")
    doing, wrong = [], []
    for life in range(LIVES):
        again = life == 0 or (life < LIVES - 1 and rng.random() < 0.3)
        moment = lab.draw(undisturbed, rng) if again else None
        status, did, _ = lab.live(partial(go_on, kind, lab.root / "songs"), moment)
        left = asked(look, lab.log)
        wrong += left["wrong"]
        first = [run for run in left["runs"] if not run["parent"]]
        if len(first) > 1:
            wrong.append(f"{len(first)} runs of one")
        if status is None:
            doing.append(did)
            stuck = [run for run in left["runs"] if run["status"] not in ("interrupted", "finished")]
            wrong += [f"killed while {did}, but {run['status']}" for run in stuck]
        elif status != DONE:
            wrong.append(f"a life ended with {status}: {lab.log.read_text()[-2000:]}")
        if status is not None or [run["status"] for run in first] == ["finished"]:
            break
    return {"doing": doing, "wrong": wrong or after(lab, kind)}


def filled(lab: Lab, kind: str, rng: np.random.Generator) -> dict:
    """Fill the disk at a moment of a run, free it, and finish the run."""
    lab.undisturbed(kind)
    shutil.rmtree(lab.full / "home", ignore_errors=True)
    lab.home(lab.full / "home")
    moment = lab.draw(lab.undisturbed(kind), rng, by_the_clock=False)
    work = partial(go_on, kind, lab.root / "songs")
    status, _, steps = lab.live(work, moment, partial(fill, lab.full))
    did = WHILE[steps[min(moment.operation, len(steps)) - 1]]
    (lab.full / "ballast").unlink()
    said = lab.log.read_text()[-1000:]
    wrong = [] if status in (DONE, REFUSED) else [f"no clear message while {did}: {said}"]
    if status == REFUSED and not re.search("free some space|try again", said.splitlines()[-1]):
        wrong.append(f"no remedy while {did}: {said}")
    left = asked(look, lab.log)
    wrong += left["wrong"]
    ends = ("finished",) if status == DONE else ("failed", "interrupted", "finished")
    wrong += [f"full while {did}, but {run['status']}" for run in left["runs"] if run["status"] not in ends]
    if status == REFUSED and [run["status"] for run in left["runs"] if not run["parent"]] != ["finished"]:
        status, _, _ = lab.live(work)
        wrong += [] if status == DONE else [f"not resumed after {did}: {lab.log.read_text()[-1000:]}"]
    return {"doing": [did], "wrong": wrong or after(lab, kind)}


def after(lab: Lab, kind: str) -> list[str]:
    """Return the faults in this home, whose run should have finished like an undisturbed one."""
    found = asked(ended, lab.log)
    other = found["weights"] != lab.undisturbed(kind)["weights"]
    return found["wrong"] + (["other weights than undisturbed"] if other else [])


def try_all(count: int, *, seed: int, kinds: Sequence[str] = tuple(KINDS), full: Path | None = None) -> dict:
    """Kill this many runs, or fill their disk; returns {runs, ended, while, wrong, seconds}."""
    began, rng = time.monotonic(), np.random.default_rng(seed)
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        lab = Lab(Path(folder), full).prepare()
        found = []
        for number in range(count):
            kind = kinds[number % len(kinds)]
            if number % 10 == 9 and not full:
                one = made_anew(lab, rng)
            else:
                one = filled(lab, kind, rng) if full else killed(lab, kind, rng)
            found.append(one | {"wrong": [f"{number}, {kind}: {text}" for text in one["wrong"]]})
    doing = Counter(word for one in found for word in one["doing"])
    return {
        "runs": count,
        "ended": doing.total(),
        "while": {word: doing[word] for word in WHILE if doing[word]},
        "wrong": [text for one in found for text in one["wrong"]],
        "seconds": round(time.monotonic() - began, 1),
    }


def main() -> None:
    """Kill runs and print the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=list(KINDS), help="only runs of this kind")
    parser.add_argument("--full", type=Path, metavar="FOLDER", help="a small file system to fill up instead")
    options = parser.parse_args()
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    torch.set_num_threads(1)
    kinds = [options.kind] if options.kind else tuple(KINDS)
    found = try_all(options.count, seed=options.seed, kinds=kinds, full=options.full)
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
