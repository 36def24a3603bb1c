"""How long a training will take on this machine: a few of its steps are timed, and the rest is counted.

What was timed is kept in MER_HOME/speed.json under all that it depends on, so the next estimate is instant.
"""

import io
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import torch

from mer.audio import decode, resample, window_starts
from mer.augment import EvalTransform, TrainTransform
from mer.backbones import Classifier, configured_classifier
from mer.config import Config
from mer.errors import StorageError
from mer.features import Standardizer, images
from mer.feeds import choose_device
from mer.files import home, write_atomic
from mer.frozen import trains_head_alone
from mer.machine import cores
from mer.parallel import SMALL
from mer.resume import save_state
from mer.training import Callback, State, Step, fit, window_probabilities
from mer.windows import WindowSet

__all__ = ["Estimate", "estimate"]

CLASSES = 5
CPU_BATCH = 8  # on a CPU a step of more takes as much longer
STEPS = 4  # timed, after one that warms up; the fastest counts, being the least disturbed
EXAMPLE = (44_100, 2, 10.0)  # the clip whose preparation is timed: Hz, channels, s
POOL_SECONDS = 4.0  # to start worker processes, which import torch
RUN_SECONDS = 4.0  # to open the run store, build the network, score, and write the checkpoint
STANDARDIZER = Standardizer(-40.0, 20.0)


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds to get the clips ready, and to train and test (with folds: all of them)."""

    preparing: float
    training: float

    @property
    def total(self) -> float:
        """Seconds in all."""
        return self.preparing + self.training


def estimate(config: Config, clip_seconds: Sequence[float], *, prepared: bool = False) -> Estimate:
    """Time that a run over clips of these lengths (s) takes; with `prepared`, its features are there already.

    Within a factor of 1.7 if the machine is otherwise idle, then and now; the first estimate for a network
    times 10 steps of its training (1 to 14 s on two cores). Patience may end a run sooner. Grouping clips by
    sound and fetching weights are not counted. Raises BackboneError for an unknown network or an image size
    it does not take.
    """
    rate = config.audio.sample_rate
    counts = [len(window_starts(round(seconds * rate), config.audio)) for seconds in clip_seconds]
    preparing = 0.0 if prepared else _preparing(config, clip_seconds, sum(counts))
    return Estimate(preparing, _training(config, sum(counts)))


def _preparing(config: Config, clip_seconds: Sequence[float], windows: int) -> float:
    key = ["prepare", config.audio.to_dict(), config.mel.to_dict()]
    second, window = _kept(key, partial(_time_clip, config))
    seconds = sum(clip_seconds) * second + windows * window
    many = len(clip_seconds) > SMALL and cores() > 1
    return POOL_SECONDS + seconds / cores() if many else seconds


def _training(config: Config, windows: int) -> float:
    """Seconds over all folds: steps, saved states, and windows that only pass through."""
    train, split = config.train, config.split
    test = 1 / split.folds if split.folds else split.test
    learning = windows * (1 - test) * (1 - split.validation)
    validation = windows * (1 - test) * split.validation
    fixed, each, through, saving = _kept(_network_key(config), partial(_time_network, config))
    epoch = fixed * np.ceil(learning / train.batch_size) + each * learning + saving
    if _embeds_once(config):
        once = through * (learning + validation + test * windows)
    else:
        once = through * test * windows
        epoch += through * validation
    return float(max(1, split.folds) * (RUN_SECONDS + once + train.epochs * epoch))


def _embeds_once(config: Config) -> bool:
    with torch.device("meta"):
        model = configured_classifier(config.train, classes=CLASSES, weights="none")
    return trains_head_alone(model, TrainTransform(STANDARDIZER, config.augment))


def _network_key(config: Config) -> list:
    train = config.train
    device = choose_device(train.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    batch = 0 if device.type == "cpu" else train.batch_size
    settings = [train.backbone, train.head, train.freeze, train.optimizer, train.amp, train.always_training]
    settings += [train.outputs, _embeds_once(config)]
    return ["train", *settings, config.mel.image_size, name, batch]


def _kept(key: list, measure: Callable[[], Sequence[float]]) -> Sequence[float]:
    """What was measured under this key on this machine before, else now."""
    name = json.dumps([*key, cores(), torch.get_num_threads(), torch.__version__], sort_keys=True)
    path = home() / "speed.json"
    known = {}
    with suppress(OSError, ValueError):  # absent or damaged: measured again
        known = json.loads(path.read_text("utf-8"))
    found = known.get(name) if isinstance(known, dict) else None
    if not isinstance(found, list) or not all(isinstance(value, float) for value in found):
        found = list(map(float, measure()))
        with suppress(StorageError):  # an estimate needs no disk
            write_atomic(path, json.dumps((known if isinstance(known, dict) else {}) | {name: found}))
    return found


def _time_clip(config: Config) -> tuple[float, float]:
    """Seconds that decoding takes per second of sound, and the image of one window."""
    rate, channels, seconds = EXAMPLE
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (round(seconds * rate), channels))
    file = io.BytesIO()
    soundfile.write(file, noise, rate, format="FLAC")

    def decoding() -> np.ndarray:
        return resample(decode(file.getvalue()).waveform, rate=rate, target=config.audio.sample_rate)

    waveform = decoding()
    count = len(window_starts(len(waveform), config.audio))
    return _seconds(decoding) / seconds, _seconds(
        lambda: images(waveform, audio=config.audio, mel=config.mel)
    ) / count


def _seconds(work: Callable[[], object]) -> float:
    """Least time of a few calls, after one that warms up."""
    times = []
    for _ in range(STEPS + 1):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times[1:])


def _time_network(config: Config) -> tuple[float, float, float, float]:
    """Seconds per step, more per window of a step, per window that passes through, and per saved state.

    The weights are random and the images noise, which take as long as any.
    """
    train = config.train.replace(weights="none", batch_size=max(config.train.batch_size, 2))
    with torch.random.fork_rng(devices=[]):  # `fit` seeds the generator that others may be using
        model = configured_classifier(train, classes=CLASSES)
        model.require_input(config.mel.image_size)
        model = model.to(choose_device(train.device), memory_format=torch.channels_last)
        large = train.batch_size if choose_device(train.device).type != "cpu" else CPU_BATCH
        clock = _time_steps(model, config, 2)
        few = clock.step
        clock = _time_steps(model, config, large)
        each = max(clock.step - few, 0.0) / (large - 2) if large > 2 else 0.0
        windows = _noise(large, config)
        through = (
            _seconds(lambda: window_probabilities(model, windows, EvalTransform(STANDARDIZER), train)) / large
        )
    return max(few - 2 * each, 0.0), each, through, clock.saving


def _time_steps(model: Classifier, config: Config, size: int) -> "_Clock":
    """The clock of an epoch of a few steps of `size` windows."""
    clock = _Clock()
    train = config.train.replace(batch_size=size, epochs=1, warmup=0.0, keep="last", lr=1e-6)
    fit(
        model,
        _noise(size * (STEPS + 1), config),
        None,
        transform=TrainTransform(STANDARDIZER, config.augment),
        config=train,
        callbacks=[clock],
    )
    return clock


def _noise(windows: int, config: Config) -> WindowSet:
    """Clips of one window each."""
    rng, size = np.random.default_rng(0), config.mel.image_size
    clips = [rng.normal(-40, 20, (1, size, size)).astype(np.float16) for _ in range(windows)]
    return WindowSet(clips, np.arange(windows) % CLASSES, classes=CLASSES)


class _Clock(Callback):
    """Times steps, and the saving of a state, without leaving it behind."""

    def __init__(self) -> None:
        self.ticks: list[float] = []
        self.saving = 0.0

    @property
    def step(self) -> float:
        """Least seconds of the steps after the first."""
        return float(np.diff(self.ticks).min())

    def on_step(self, step: Step) -> None:  # noqa: ARG002 - the hook's signature
        """Note the time."""
        self.ticks.append(time.perf_counter())

    def on_epoch(self, state: State) -> None:
        """Save the state as a run would, to a folder that is thrown away."""
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            save_state(Path(folder) / "state", state)
        self.saving = time.perf_counter() - started
