"""One life of a run, in a process of its own: it can be killed, or its disk filled, at any operation.

A life is a process forked from this one, which has imported everything and opened nothing.
"""

import json
import mmap
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

import mer.experiments.callbacks
import mer.experiments.experiment
import mer.experiments.setup
import mer.models.tensors
import mer.training.loop
from mer.runs.store import RunStore
from mer.utils.errors import MerError

WHILE = (  # what a life may be doing
    "beginning",
    "making the database",
    "preparing data",
    "training",
    "writing the state",
    "writing to the database",
    "testing",
    "writing a checkpoint",
    "finishing",
)
DONE, REFUSED, BROKEN = 0, 2, 3  # exit statuses of a life
COUNT, STEPS, MOST_STEPS = slice(8, 16), 16, 8000  # places in the memory that a life shares with its parent


def in_a_fork(work: Callable[[], Any], *, log: Path) -> int:
    """Start a process with its own process group that does some work; returns its id."""
    pid = os.fork()
    if pid:
        return pid
    status = BROKEN
    try:
        os.setsid()
        said = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.dup2(said, 1)
        os.dup2(said, 2)
        work()
        status = DONE
    except MerError as error:
        os.write(2, f"error: {error}\n".encode())
        status = REFUSED
    except BaseException:  # noqa: BLE001 - shown by the status
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


def wait(pid: int) -> int | None:
    """Exit status of a process, or None if it was killed."""
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return None if status < 0 else status


def asked(question: Callable[[], Any], log: Path) -> Any:
    """Call a function in a new process; returns its result, which must fit into JSON."""
    with tempfile.NamedTemporaryFile() as file:
        answer = Path(file.name)
        status = wait(in_a_fork(lambda: answer.write_text(json.dumps(question())), log=log))
        if status != DONE:
            raise AssertionError(f"looking at what is left ended with {status}:\n{log.read_text()[-3000:]}")
        return json.loads(answer.read_text())


class Trap:
    """Counts the operations of this process that change the disk, and calls `spring` at number `at`.

    `seen` is memory shared with the parent: what this life is doing, the number of operations so far, and
    what it was doing at each.
    """

    def __init__(self, seen: mmap.mmap, at: int = 0, spring: Callable[[], None] = lambda: None) -> None:
        self.seen, self.at, self.spring, self.count = seen, at, spring, 0

    def step(self) -> None:
        """Count an operation."""
        self.count += 1
        self.seen[COUNT] = self.count.to_bytes(8, "little")
        self.seen[STEPS + self.count % MOST_STEPS] = self.seen[0]
        if self.count == self.at:
            self.spring()

    def set(self) -> None:
        """Patch all functions that write. Nothing is restored, because the process ends soon."""
        for name in ("replace", "fsync"):
            setattr(os, name, self.around(getattr(os, name)))
        shutil.rmtree = self.around(shutil.rmtree)
        for name in ("write_bytes", "write_text"):
            setattr(Path, name, self.halved(getattr(Path, name)))
        mer.models.tensors.save_file = self.torn(mer.models.tensors.save_file)
        event.listen(Engine, "after_cursor_execute", lambda *rest: self.step())
        event.listen(Engine, "commit", lambda connection: self.step())
        self.show(mer.experiments.setup, "prepare", "preparing data")
        self.show(mer.training.loop._Loop, "_epoch", "training")
        self.show(mer.experiments.callbacks, "save_state", "writing the state")
        for name in ("create", "tag", "log", "finish"):
            self.show(RunStore, name, "writing to the database")
        self.show(mer.experiments.experiment, "judge", "testing")
        self.show(RunStore, "save_folder", "writing a checkpoint")
        self.show(mer.experiments.experiment, "headline", "finishing", stay=True)

    def around(self, function: Callable) -> Callable:
        """Count an operation just before the call and one just after."""

        @wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            self.step()
            result = function(*arguments, **named)
            self.step()
            return result

        return call

    def halved(self, write: Callable) -> Callable:
        """Count an operation in the middle of writing a small file."""

        @wraps(write)
        def call(path: Path, content: Any, *rest: Any, **named: Any) -> Any:
            if self.count + 1 == self.at:
                write(path, content[: len(content) // 2], *rest, **named)
            self.step()
            return write(path, content, *rest, **named)

        return call

    def torn(self, save: Callable) -> Callable:
        """Count an operation in the middle of writing tensors."""

        @wraps(save)
        def call(tensors: dict, path: Path, **named: Any) -> Any:
            if self.count + 1 == self.at:
                save(tensors, path, **named)
                os.truncate(path, path.stat().st_size // 2)
            self.step()
            return save(tensors, path, **named)

        return call

    def show(self, place: Any, name: str, doing: str, *, stay: bool = False) -> None:
        """Record that this life is inside a function, or with `stay` that it was."""
        function = getattr(place, name)

        @wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            before, self.seen[0] = self.seen[0], WHILE.index(doing)
            try:
                return function(*arguments, **named)
            finally:
                if not stay:
                    self.seen[0] = before

        setattr(place, name, call)


def kill_all() -> None:
    """Kill this process and its workers."""
    os.killpg(os.getpgrp(), signal.SIGKILL)
    time.sleep(60)


def fill(place: Path) -> None:
    """Fill a file system."""
    with (place / "ballast").open("ab", buffering=0) as file, suppress(OSError):
        for size in (65_536, 4096, 1):
            with suppress(OSError):
                while file.write(bytes(size)):
                    pass
