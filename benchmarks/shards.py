"""Measure time and memory of each stage of a sharded set, for several numbers of clips.

    python -m benchmarks.shards --clips 100000 --folder DIR

generates manifests, and shards of small images of noise, in DIR, measures each stage in its own process,
and prints one JSON object. For `--plan-only` clips there are no images, and so no epoch.
What grows with the clips is the difference between two rows; "idle" is a process that has imported everything
and done nothing. With `--decode N`, N real WAV files of 10 s are prepared as well; with `--large`, shards of
256 MB are read from a cold disk.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import soundfile
import torch
from pyarrow import parquet

from mer.config.presets import IMAGES, preset
from mer.config.sections import Config
from mer.data.shards.fill import shards_of
from mer.data.shards.layout import record, shard_path
from mer.data.shards.make import make, write_index
from mer.data.shards.plan import make_plan
from mer.data.shards.read import ShardSet
from mer.experiments.prepared_shards import PreparedShards
from mer.metrics.scores import evaluate

CLASSES, WINDOWS, SIZE, BATCH = 5, 3, 32, 64
FULL, LARGE = 224, 10  # pixels of the default, and how many shards of it are read
SHARD = 2**28
ROWS = 2**16  # lines that are generated at a time


def config(size: int = SIZE) -> Config:
    """The default settings for networks of images, with small images."""
    return preset("default", backbone=IMAGES, image_size=size, baseline=False)


def shard_bytes(size: int = SIZE) -> int:
    """Bytes of a shard with as many windows as a shard of 256 MB with default settings."""
    return SHARD * record((size, size)).itemsize // record((FULL, FULL)).itemsize


def memory(name: str = "VmHWM") -> float:
    """Peak memory of this process, MB; with VmRSS the current memory."""
    return int(re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def write_manifest(path: Path, clips: int) -> None:
    """Write a manifest of clips that do not exist, four per song."""
    schema = pa.schema([("path", pa.string()), ("label", pa.string()), ("song", pa.string())])
    with parquet.ParquetWriter(path, schema) as writer:
        for start in range(0, clips, ROWS):
            numbers = range(start, min(start + ROWS, clips))
            columns = [
                [f"artist {n // 100:05}/album {n // 20:05}/song {n // 4:06}/{n:07}.flac" for n in numbers],
                [f"emotion {n // 4 % CLASSES}" for n in numbers],
                [f"song {n // 4:06} of artist {n // 100:05}" for n in numbers],
            ]
            writer.write_table(pa.table(columns, schema))


def write_shards(out: Path, plan: dict, *, images: bool, size: int = SIZE) -> None:
    """Write shards as decoding would: noise, all clips different."""
    rng, order = np.random.default_rng(0), np.load(out / "order.npy")
    types = {"row": pa.int64(), "windows": pa.int32(), "content": pa.binary(), "reason": pa.string()}
    (out / "shards").mkdir(exist_ok=True)
    for number in shards_of(plan):
        rows = order[number * plan["per_shard"] : (number + 1) * plan["per_shard"]]
        content = rng.bytes(16 * len(rows))
        parts = [content[i : i + 16] for i in range(0, len(content), 16)]
        table = pa.table(
            [rows, np.full(len(rows), WINDOWS, np.int32), parts, [None] * len(rows)],
            pa.schema(list(types.items())),
        )
        parquet.write_table(table, shard_path(out, number, ".parquet"), write_page_checksum=True)
        if images:
            write_images(shard_path(out, number), WINDOWS * len(rows), size, rng)


def write_images(path: Path, count: int, size: int, rng: np.random.Generator) -> None:
    """Write a shard of noise with its checksums."""
    import zlib

    found = np.empty(count, record((size, size)))
    found["image"] = rng.normal(-40, 10, (256, size, size)).astype(np.float16)[np.arange(count) % 256]
    found["image"][:, 0, 0] = np.arange(count) % 60
    found["crc"] = [zlib.crc32(image) for image in found["image"]]
    path.write_bytes(found.data)


def folder_of(folder: Path, clips: int) -> Path:
    """The folder of the set with this many clips."""
    return folder / f"set-{clips}"


# --- stages, each in a process of its own -------------------------------------------------------------


def idle(_: Path, __: int) -> dict:
    """Do nothing."""
    return {}


def plan(folder: Path, clips: int) -> dict:
    """Read the manifest and assign each clip to a shard."""
    manifest = folder / f"{clips}.parquet"
    found = make_plan(manifest, folder_of(folder, clips), config(), shard_bytes=shard_bytes() // WINDOWS)
    return {"manifest_mb": manifest.stat().st_size / 1e6, "shards": len(shards_of(found))}


def index(folder: Path, clips: int) -> dict:
    """Write the index, find equal audio by hash, and hash the set."""
    out = folder_of(folder, clips)
    made = write_index(out, json.loads((out / "plan.json").read_text()), 0)
    (out / "set.json").write_text(json.dumps(made.to_dict()))
    return {"index_bytes_a_clip": (out / "index.npy").stat().st_size / clips}


def split(folder: Path, clips: int) -> dict:
    """Open the set and split it."""
    material = PreparedShards.open(folder_of(folder, clips), config())
    found = material.split(config())
    return {name: len(getattr(found, name)) for name in ("train", "validation", "test")}


def epoch(folder: Path, clips: int) -> dict:
    """Read an epoch's windows in the order of training, in batches."""
    material = PreparedShards.open(folder_of(folder, clips), config())
    windows = material.windows(material.split(config()).train)
    torch.manual_seed(0)
    began = time.perf_counter()
    for part in windows.order().split(BATCH):
        windows.images(part.numpy())
    seconds = time.perf_counter() - began
    return {"windows": len(windows), "windows_a_second": len(windows) / seconds}


def judging(folder: Path, clips: int) -> dict:
    """Scores, rows and their JSON for the test part, from random predictions."""
    material = PreparedShards.open(folder_of(folder, clips), config())
    test = material.split(config()).test
    answers = np.random.default_rng(0).dirichlet(np.ones(CLASSES), len(test))
    began = time.perf_counter()
    groups = material.groups(test)
    evaluate(
        material.shards.index["label"][test].astype(int), answers, groups=groups, classes=material.classes
    )
    scoring = time.perf_counter() - began
    rows = material.rows(test, answers)
    (folder / "predictions.json").write_text(json.dumps(rows))
    size = (folder / "predictions.json").stat().st_size
    return {"test_clips": len(test), "scoring_s": scoring, "json_bytes_a_row": size / len(test)}


STAGES = {stage.__name__: stage for stage in (idle, plan, index, split, epoch, judging)}


def measured(stage: str, folder: Path, clips: int) -> dict:
    """Run a stage in its own process; returns seconds and peak memory."""
    words = [sys.executable, "-m", "benchmarks.shards", "--stage", stage, "--clips", str(clips)]
    done = subprocess.run([*words, "--folder", str(folder)], stdout=subprocess.PIPE, check=True)  # noqa: S603
    return json.loads(done.stdout)


def run_stage(stage: str, folder: Path, clips: int) -> dict:
    """Run a stage in this process; returns seconds and peak memory."""
    before, began = memory("VmRSS"), time.perf_counter()
    found = STAGES[stage](folder, clips)
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "before_mb": before, "peak_mb": memory()} | found


def entries(folder: Path, clips: int, *, images: bool) -> dict:
    """Run all stages for this many clips."""
    manifest, out = folder / f"{clips}.parquet", folder_of(folder, clips)
    write_manifest(manifest, clips)
    found = {stage: measured(stage, folder, clips) for stage in ("idle", "plan")}
    write_shards(out, json.loads((out / "plan.json").read_text()), images=images)
    stages = ("index", "split", *(("epoch",) if images else ()), "judging")
    return found | {stage: measured(stage, folder, clips) for stage in stages}


def decoding(folder: Path, clips: int) -> dict:
    """Prepare this many real WAV files of 10 s."""
    rate, rng = 16_000, np.random.default_rng(0)
    source = folder / "clips"
    source.mkdir(exist_ok=True)
    names = [f"{number:05}.wav" for number in range(clips)]
    for name in names:
        wave = rng.integers(-8000, 8000, 10 * rate, dtype=np.int16)
        soundfile.write(source / name, wave, rate, subtype="PCM_16")
    labels = [f"emotion {number % CLASSES}" for number in range(clips)]
    parquet.write_table(pa.table({"path": names, "label": labels}), source / "manifest.parquet")
    began = time.perf_counter()
    bytes_of = record((FULL, FULL)).itemsize * max(1, clips // 8)
    made = make(source / "manifest.parquet", folder / "decoded", config(FULL), shard_bytes=bytes_of)
    seconds = time.perf_counter() - began
    return {"clips": made.clips, "seconds": seconds, "clips_a_second": made.clips / seconds}


def cold(out: Path) -> None:
    """Drop the shards of a set from the kernel's cache."""
    os.sync()
    for path in (out / "shards").glob("*.bin"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def large(folder: Path) -> dict:
    """Windows per second from shards of 256 MB on a cold disk, in training order and in random order."""
    manifest, out = folder / "large.parquet", folder / "large"
    clips = LARGE * SHARD // (WINDOWS * record((FULL, FULL)).itemsize)
    write_manifest(manifest, clips)
    found = make_plan(manifest, out, config(FULL), shard_bytes=SHARD // WINDOWS)  # no clip tells its length
    write_shards(out, found, images=True, size=FULL)
    made = write_index(out, found, 0)
    (out / "set.json").write_text(json.dumps(made.to_dict()))
    shards = ShardSet.open(out)
    windows = shards.windows(np.arange(len(shards.index)))
    speeds = {}
    for name, order in (("blocks", windows.order()), ("all", torch.randperm(len(windows)))):
        cold(out)
        began = time.perf_counter()
        for part in order.split(BATCH):
            windows.images(part.numpy())
        speeds[name] = len(windows) / (time.perf_counter() - began)
    return {"shards": made.shards, "windows": made.windows, "windows_a_second": speeds, "peak_mb": memory()}


def main() -> None:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=100_000, help="with images; and a tenth of it")
    parser.add_argument("--plan-only", type=int, default=0, metavar="N", help="also N clips without images")
    parser.add_argument("--decode", type=int, default=0, metavar="N")
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    asked.folder.mkdir(parents=True, exist_ok=True)
    if asked.stage:
        print(json.dumps(run_stage(asked.stage, asked.folder, asked.clips)))  # noqa: T201
        return
    found = {count: entries(asked.folder, count, images=True) for count in (asked.clips // 10, asked.clips)}
    if asked.plan_only:
        found[asked.plan_only] = entries(asked.folder, asked.plan_only, images=False)
    if asked.decode:
        found["decode"] = decoding(asked.folder, asked.decode)
    if asked.large:
        found["large"] = large(asked.folder)
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main()
