"""Rows for data: the first pass over audio files, and later epochs."""

import shutil
import threading
import time
from collections import deque
from collections.abc import Sequence

import torch
from torch.utils.data import Dataset

from benchmarks import baseline, limits
from benchmarks.rows import Bench, Measured
from benchmarks.timing import alternate, in_ms, seconds
from mer.audio.mel import Standardizer
from mer.audio.transforms import TrainTransform
from mer.config.presets import preset
from mer.config.sections import AugmentConfig
from mer.data.cache.store import FeatureStore
from mer.data.windows import WindowSet

__all__ = ["first_pass", "later_epochs", "training_windows"]

CONFIG = preset("paper")
FEATURES = 1024  # width of an embedding; MobileNetV3-Small's


def _iterate(clips: Dataset, *, shuffle: bool = False) -> float:
    """Seconds that the baseline takes to load all clips once."""
    taken = seconds(lambda: deque(baseline.batches(clips, shuffle=shuffle), maxlen=0))
    while threading.active_count() > 1:  # no fork while the loader's last thread ends
        time.sleep(0.01)
    return taken


def first_pass(bench: Bench) -> Measured:
    """Features of all clips into a new store, against one pass of the baseline's loader."""
    paths, labels = bench.sample.paths, bench.sample.labels
    clips = baseline.Clips(paths, labels)
    settings = {"audio": CONFIG.audio, "mel": CONFIG.mel, "workers": baseline.WORKERS}

    def ours(_: int) -> float:
        root = bench.folder("pass")
        taken = seconds(lambda: FeatureStore(root).prepare(paths, **settings))
        shutil.rmtree(root)
        return taken

    times = alternate(ours, lambda _: _iterate(clips), times=3)
    mine, theirs = (len(paths) / median for median in times.medians)
    own, other = limits.steps(paths[0], CONFIG), limits.baseline_steps(paths[0])
    most = baseline.WORKERS * 1000 / sum(own.values())
    details = [
        limits.words("ours", own) + f": at most {most:.0f} clips/s by two processes",
        limits.words("the baseline", other),
    ]
    return Measured(mine, theirs, details)


def training_windows(bench: Bench, part: Sequence[int]) -> WindowSet:
    """The windows of some clips, from the store that all rows share."""
    store, facts = bench.prepared
    arrays = [store.load(facts[index], audio=CONFIG.audio, mel=CONFIG.mel) for index in part]
    labels = [bench.sample.labels[index] for index in part]
    return WindowSet(arrays, labels, classes=max(bench.sample.labels) + 1)


def _check(batch: torch.Tensor, size: int) -> None:
    if batch.shape != (size, 3, 224, 224) or batch.dtype != torch.float32:
        raise RuntimeError(f"a batch is {batch.dtype} of {tuple(batch.shape)}, no network input")


def later_epochs(bench: Bench) -> Measured:
    """All training windows once in random order, in batches of 64, without augmentation."""
    part, _ = baseline.split(len(bench.sample.paths))
    windows = training_windows(bench, part)
    transform = TrainTransform(Standardizer.fit(windows.batches()), AugmentConfig())
    clips = baseline.Clips(
        *zip(*((bench.sample.paths[i], bench.sample.labels[i]) for i in part), strict=True)
    )

    def epoch() -> None:
        for indices in torch.randperm(len(windows)).split(baseline.BATCH):
            _check(transform(torch.from_numpy(windows.images(indices.numpy()))), len(indices))

    embeddings = torch.rand(len(windows), FEATURES)

    def frozen_epoch() -> None:
        for indices in torch.randperm(len(windows)).split(baseline.BATCH):
            embeddings[indices]

    times = alternate(lambda _: seconds(epoch), lambda _: _iterate(clips, shuffle=True), times=3, first=1)
    opening = in_ms(lambda: training_windows(bench, part), times=3)
    values = in_ms(lambda: [torch.ones(64, 3, 224, 224) for _ in range(-(-len(windows) // 64))], times=5)
    frozen = in_ms(frozen_epoch, times=5)
    details = [
        f"{len(windows)} windows of {len(part)} clips; opening the store first, once a run: {opening:.0f} ms",
        f"writing as many numbers without reading any: {values:.0f} ms",
        f"of kept features, for a frozen body: {frozen:.2f} ms, {1000 * times.medians[1] / frozen:,.0f} x",
    ]
    return Measured(*times.medians, details)
