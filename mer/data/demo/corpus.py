"""Write the demo corpus, several songs in parallel, into a temporary folder that is renamed when complete."""

import csv
import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import soundfile

from mer.data.clips import MER500_CLASSES
from mer.data.demo.band import play
from mer.data.demo.styles import draw_song
from mer.data.demo.voices import SR
from mer.utils.errors import DataError, StorageError
from mer.utils.machine import processors

__all__ = ["GENERATOR", "SECONDS", "write_demo"]

GENERATOR = 1  # increase it when the same seed gives other clips
SECONDS = 10.0
_PER_SONG = 4


@dataclass(frozen=True, slots=True)
class _Task:
    """One song to write: the first `clips` excerpts of song `index` (from 0) of a class."""

    label: str
    index: int
    name: str
    clips: int


def write_demo(
    out: Path,
    *,
    clips_per_class: int = 40,
    seed: int = 0,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a synthetic data set of MER500's five classes.

    It consists of <label>/songNNNx.flac (10 s, 16 kHz, mono, 16 bit; x is the letter of the excerpt),
    manifest.csv (path, label, song) and dataset.json. A song has up to four excerpts. A class has at least
    five songs, or one per clip if it has fewer than five clips. The same seed gives the same bytes for any
    number of workers. On an error nothing is left behind.

    Worker processes import the main script. So a page, or a script without a main guard, must pass workers=1
    or call this in a process of its own.

    Parameters
    ----------
    out
        Folder to write. It must not exist, or be empty.
    clips_per_class
        Number of clips in each class, at least 2.
    seed
        Seed of the generator, at least 0.
    workers
        Number of worker processes. None: one per available core. 1: work in this process.
    progress
        Called with (clips written, all clips).

    Returns
    -------
    Path
        The absolute path of `out`.

    Raises
    ------
    DataError
        If `out` is in use or a number is out of range.
    StorageError
        If `out` cannot be written.
    """
    out = Path(out).resolve()
    _require_valid(out, clips_per_class, seed, workers)
    tasks = _tasks(clips_per_class)
    with _complete_or_absent(out) as folder:
        rows: list[tuple[str, str, str]] = []
        for done in _run(folder, seed, tasks, workers or len(processors())):
            rows += done
            if progress:
                progress(len(rows), clips_per_class * len(MER500_CLASSES))
        _write_manifest(folder, sorted(rows), clips_per_class, seed)
    return out


def _require_valid(out: Path, clips_per_class: int, seed: int, workers: int | None) -> None:
    for name, value, least in (
        ("clips_per_class", clips_per_class, 2),
        ("seed", seed, 0),
        ("workers", 1 if workers is None else workers, 1),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise DataError(f"{name} is {value!r}: give a whole number, {least} or more")
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file: name a folder that is empty or does not exist yet")
    if out.is_dir() and any(out.iterdir()):
        raise DataError(f"{out} is not empty: name another folder, or empty this one first")


def _tasks(clips_per_class: int) -> list[_Task]:
    """Divide the clips of each class into songs. Songs are numbered from 1 across all classes."""
    songs = max(-(-clips_per_class // _PER_SONG), min(clips_per_class, 5))
    return [
        _Task(label, i, f"song{c * songs + i + 1:03d}", len(range(i, clips_per_class, songs)))
        for c, label in enumerate(MER500_CLASSES)
        for i in range(songs)
    ]


def _run(folder: Path, seed: int, tasks: list[_Task], workers: int) -> Iterator[list[tuple[str, str, str]]]:
    """Write all songs. Yields the manifest rows of each song when it is done."""
    if workers == 1:
        yield from (_write_song(folder, seed, task) for task in tasks)
        return
    with ProcessPoolExecutor(min(workers, len(tasks)), mp_context=get_context("spawn")) as pool:
        try:
            for future in as_completed([pool.submit(_write_song, folder, seed, task) for task in tasks]):
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _write_song(folder: Path, seed: int, task: _Task) -> list[tuple[str, str, str]]:
    """Write the excerpts of one song. Returns their rows (path, label, song)."""
    key = (seed, MER500_CLASSES.index(task.label), task.index)
    song = draw_song(task.label, np.random.default_rng(np.random.SeedSequence(key)))
    (folder / task.label).mkdir(exist_ok=True)
    rows = []
    for excerpt in range(task.clips):
        clip = play(song, np.random.default_rng(np.random.SeedSequence((*key, 1 + excerpt))), SECONDS)
        path = f"{task.label}/{task.name}{chr(ord('a') + excerpt)}.flac"
        soundfile.write(folder / path, clip, SR, subtype="PCM_16")
        rows.append((path, task.label, task.name))
    return rows


def _write_manifest(folder: Path, rows: list[tuple[str, str, str]], clips_per_class: int, seed: int) -> None:
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("path", "label", "song"), *rows])
    facts = {
        "name": "demo",
        "synthetic": True,
        "licence": "CC0-1.0 (generated)",
        "seed": seed,
        "clips_per_class": clips_per_class,
        "generator": GENERATOR,
    }
    (folder / "dataset.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


@contextmanager
def _complete_or_absent(out: Path) -> Iterator[Path]:
    """A temporary folder beside `out`: renamed to `out` on success, removed on failure."""
    folder = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        folder.mkdir(parents=True)
        yield folder
        if out.is_dir():
            out.rmdir()
        folder.rename(out)
    except OSError as error:
        raise StorageError(
            f"{out} cannot be written ({error}): free the space or name another folder"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
