"""The row for training a whole network: the overhead of the training loop."""

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks import baseline
from benchmarks.preparing import training_windows
from benchmarks.rows import Bench, Measured
from benchmarks.timing import alternate, seconds
from mer.audio.mel import Standardizer
from mer.audio.transforms import TrainTransform
from mer.config.presets import preset
from mer.data.windows import WindowSet
from mer.experiments.callbacks import LogMetrics, Reporter, SaveState
from mer.models.build import configured_classifier
from mer.runs.run import state_path
from mer.runs.store import RunStore
from mer.training.loop import fit

__all__ = ["full_fine_tune"]

CONFIG = preset("full")
TRAIN = CONFIG.train.replace(
    backbone="efficientnet_lite0", weights="none", batch_size=16, epochs=1, device="cpu"
)
QUICK = 48  # windows


def _network(classes: int) -> nn.Module:
    torch.manual_seed(0)
    return configured_classifier(TRAIN, classes=classes).to(memory_format=torch.channels_last)


def _bare(model: nn.Module, steps: int, classes: int) -> None:
    """Run forward and backward on one batch in memory, repeatedly."""
    inputs = torch.rand(TRAIN.batch_size, 3, 224, 224).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(TRAIN.batch_size) % classes
    model.train()
    for _ in range(steps):
        F.cross_entropy(model(inputs), labels).backward()
        model.zero_grad(set_to_none=True)


def full_fine_tune(bench: Bench) -> Measured:
    """An epoch of full batches by `fit`, as in a run, against the same number of bare steps."""
    part, _ = baseline.split(len(bench.sample.paths))
    windows = training_windows(bench, part)
    steps = (min(len(windows), QUICK) if bench.quick else len(windows)) // TRAIN.batch_size
    count, classes = steps * TRAIN.batch_size, windows.classes
    windows = WindowSet(
        [windows.images([index]) for index in range(count)], windows.window_labels[:count], classes=classes
    )
    transform = TrainTransform(Standardizer.fit(windows.batches()), CONFIG.augment)
    model, other = _network(classes), _network(classes)

    def ours(number: int) -> float:
        run_id = runs.create(f"benchmark {number}", {"config": CONFIG.to_dict()})
        runs.start(run_id)
        log = LogMetrics(runs, run_id)
        callbacks = [SaveState(state_path(run_id)), log, Reporter(runs, run_id)]

        def training() -> None:
            fit(model, windows, None, transform=transform, config=TRAIN, callbacks=callbacks)
            log.flush()

        taken = seconds(training)
        runs.finish(run_id, "finished")
        return taken

    def bare(_: int) -> float:
        return seconds(lambda: _bare(other, steps, classes))

    _bare(other, 2, classes)  # the first allocates memory, the second chooses kernels
    first = 0 if bench.quick else 1
    with bench.own_home():
        runs = RunStore.open()
        times = alternate(ours, bare, times=3, first=first)
    mine, theirs = (count / median for median in times.medians)
    detail = f"{steps} steps an epoch; a step takes {1000 * times.medians[0] / steps:.0f} ms, "
    return Measured(mine, theirs, [detail + f"the bare one {1000 * times.medians[1] / steps:.0f} ms"])
