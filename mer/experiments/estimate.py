"""Estimates how long a run will take on this machine, from the measured time of a few training steps.

Measurements are kept in MER_HOME/speed.json. Their keys name everything that they depend on, so the next
estimate with the same settings is instant.
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

from mer.audio.decode import load
from mer.audio.mel import Standardizer, images
from mer.audio.transforms import EvalTransform, TrainTransform
from mer.audio.windows import window_starts
from mer.config.sections import AudioConfig, Config, TrainConfig
from mer.data.cache.descriptors import LONGEST, RATE, SIZE, descriptors, settings
from mer.data.windows import WindowSet
from mer.experiments.baseline import ENOUGH, fitted
from mer.models.build import configured_classifier
from mer.models.classifier import Classifier
from mer.models.forward import choose_device
from mer.models.solved import MOST_CENTRES
from mer.training.embeddings import trains_head_alone
from mer.training.loop import Callback, State, Step, fit
from mer.training.predict import window_probabilities
from mer.training.solve import solve
from mer.training.state import save_state
from mer.utils.errors import StorageError
from mer.utils.files import home, read_kept, write_atomic
from mer.utils.machine import cores
from mer.utils.parallel import SMALL

__all__ = ["Estimate", "estimate", "measured"]

CLASSES = 5
CPU_BATCH = 8  # on a CPU, time per window is constant from this size on
STEPS = 4  # timed after a warm-up step; the fastest counts, since it is the least disturbed
EXAMPLE = (44_100, 2, 10.0)  # the clip whose preparation is timed: Hz, channels, s
POOL_SECONDS = 4.0  # to start worker processes, which import torch
SVM_SECONDS = 3.0  # to import what the SVM needs
SVM_CLIPS = 60, 240  # numbers of clips for which fitting an SVM is timed
SOLVED_WINDOWS = 300  # windows for which solving is timed
RUN_SECONDS = 4.0  # to open the run store, build the network, score, and write the checkpoint
STANDARDIZER = Standardizer(-40.0, 20.0)


@dataclass(frozen=True, slots=True)
class Estimate:
    """Estimated duration of a run in seconds; for a cross-validation, of all its folds together.

    Parameters
    ----------
    preparing
        To decode the clips and compute their images.
    training
        To train and test the network.
    baseline
        To compute the descriptors for the SVM and to fit it; 0 without an SVM.
    """

    preparing: float
    training: float
    baseline: float = 0.0

    @property
    def total(self) -> float:
        """The sum, in seconds."""
        return self.preparing + self.training + self.baseline


def estimate(
    config: Config,
    clip_seconds: Sequence[float],
    *,
    unprepared: Sequence[float] | None = None,
    undescribed: Sequence[float] | None = None,
) -> Estimate:
    """Estimate the duration of a run.

    The estimate is right within a factor of 1.7 if the machine is otherwise idle, both when it is measured
    and during the run. The first estimate for a network times 10 of its training steps (1 to 14 s on two
    cores); the very first also times an SVM (5 s). A run is shorter if patience ends it early, or if its
    embeddings or its SVM are stored already. Grouping clips by sound and downloading weights are not counted.

    Parameters
    ----------
    config
        Settings of the run.
    clip_seconds
        Length of each clip, s.
    unprepared
        Lengths of the clips whose images are not in the store yet, s. Default: all clips.
    undescribed
        Lengths of the clips whose descriptors for the SVM are not in the store yet, s. Default: all clips.

    Raises
    ------
    BackboneError
        For an unknown network, or an image size that it does not accept.
    """
    preparing = _preparing(config, clip_seconds if unprepared is None else unprepared)
    training = _training(config, _windows(config, clip_seconds))
    if not config.split.baseline:
        return Estimate(preparing, training)
    describing = _describing(config.audio, clip_seconds if undescribed is None else undescribed)
    return Estimate(preparing, training, describing + _fitting(config, len(clip_seconds)))


def _windows(config: Config, clip_seconds: Sequence[float]) -> int:
    rate = config.audio.sample_rate
    return sum(len(window_starts(round(seconds * rate), config.audio)) for seconds in clip_seconds)


def _preparing(config: Config, clip_seconds: Sequence[float]) -> float:
    key = ["prepare", config.audio.to_key(), config.mel.to_key()]
    second, window = measured(key, partial(_time_clip, config))
    return _on_all_cores(
        sum(clip_seconds) * second + _windows(config, clip_seconds) * window, len(clip_seconds)
    )


def _describing(audio: AudioConfig, clip_seconds: Sequence[float]) -> float:
    (second,) = measured(["describe", settings(audio)], partial(_time_description, audio))
    return _on_all_cores(sum(min(seconds, LONGEST) for seconds in clip_seconds) * second, len(clip_seconds))


def _on_all_cores(seconds: float, clips: int) -> float:
    """Duration of work that takes `seconds` on one core. Many clips are divided between all cores."""
    return POOL_SECONDS + seconds / cores() if clips > SMALL and cores() > 1 else seconds


def _fitting(config: Config, clips: int) -> float:
    """Seconds to choose settings of the SVM and fit it; grows with the square of the clips."""
    split = config.split
    least, more = measured(["svm"], _time_svm)
    learning = min(clips * (1 - (1 / split.folds if split.folds else split.test)), ENOUGH)
    few, many = SVM_CLIPS
    return SVM_SECONDS + max(1, split.folds) * (least + more * learning**2 / (many**2 - few**2))


def _training(config: Config, windows: int) -> float:
    """Seconds for all folds: training steps, saved states, and forward passes without training."""
    train, split = config.train, config.split
    test = 1 / split.folds if split.folds else split.test
    learning = windows * (1 - test) * (1 - split.validation)
    validation = windows * (1 - test) * split.validation
    stepped = config.replace(train=train.replace(solver="steps"))
    fixed, each, through, saving = measured(_network_key(stepped), partial(_time_network, stepped))
    if train.solver != "steps":
        solving = _solving(config, learning)
        return float(max(1, split.folds) * (RUN_SECONDS + through * windows + solving))
    epoch = fixed * np.ceil(learning / train.batch_size) + each * learning + saving
    if _embeds_once(config):
        once = through * (learning + validation + test * windows)
    else:
        once = through * test * windows
        epoch += through * validation
    return float(max(1, split.folds) * (RUN_SECONDS + once + train.epochs * epoch))


def _solving(config: Config, windows: float) -> float:
    """Seconds to fit a solved head: linear in the windows; quadratic while a kernel uses all of them."""
    train, many = config.train, SOLVED_WINDOWS
    (seconds,) = measured(
        ["solve", train.solver, train.backbone, train.head, train.depth], partial(_time_solving, train)
    )
    whole = min(windows, MOST_CENTRES) if train.solver == "kernel" else many
    return seconds * (windows / many) * max(whole / many, 1.0)


def _time_solving(train: TrainConfig) -> tuple[float]:
    """Seconds to fit a solved head to noise with as many features as the network's embeddings."""
    with torch.device("meta"):
        width = len(configured_classifier(train, classes=CLASSES, weights="none").head.mean)
    rows, clips = np.random.default_rng(0).standard_normal((SOLVED_WINDOWS, width)), np.arange(SOLVED_WINDOWS)
    songs = [str(number) for number in clips]
    started = time.perf_counter()
    solve(rows, np.eye(CLASSES)[clips % CLASSES], clips, songs, solver=train.solver)
    return (time.perf_counter() - started,)


def _embeds_once(config: Config) -> bool:
    """True if embeddings are computed once, so that epochs train the head alone."""
    with torch.device("meta"):
        model = configured_classifier(config.train, classes=CLASSES, weights="none")
    return trains_head_alone(model, TrainTransform(STANDARDIZER, config.augment))


def _network_key(config: Config) -> list:
    """All that the time of a training step depends on."""
    train = config.train
    device = choose_device(train.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    batch = 0 if device.type == "cpu" else train.batch_size
    settings = [train.backbone, train.head, train.freeze, train.optimizer, train.amp, train.always_training]
    settings += [train.outputs, _embeds_once(config)]
    return ["train", *settings, *config.input_shape, name, batch]


def measured(key: list, measure: Callable[[], Sequence[float]]) -> Sequence[float]:
    """The stored measurement for a key on this machine. If there is none, it is made and stored.

    Parameters
    ----------
    key
        All that the measurement depends on, as plain data. The first item is its kind.
    measure
        Makes the measurement: one or several numbers, most of them seconds.

    Returns
    -------
    sequence of float
        The numbers.
    """
    name = json.dumps([*key, cores(), torch.get_num_threads(), torch.__version__], sort_keys=True)
    path = home() / "speed.json"
    known = read_kept(path, lambda found: found if isinstance(found, dict) else None) or {}
    found = known.get(name)
    if not isinstance(found, list) or not all(isinstance(value, float) for value in found):
        found = list(map(float, measure()))
        with suppress(StorageError):  # an estimate needs no disk
            write_atomic(path, json.dumps(known | {name: found}))
    return found


def _time_clip(config: Config) -> tuple[float, float]:
    """Seconds to decode one second of sound, and to compute the image of one window."""
    content = _example()
    waveform = load(content, config.audio)
    count = len(window_starts(len(waveform), config.audio))
    decoding = _seconds(lambda: load(content, config.audio)) / EXAMPLE[2]
    return decoding, _seconds(lambda: images(waveform, audio=config.audio, mel=config.mel)) / count


def _example() -> bytes:
    """A file of noise for timing."""
    rate, channels, seconds = EXAMPLE
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (round(seconds * rate), channels))
    file = io.BytesIO()
    soundfile.write(file, noise, rate, format="FLAC")
    return file.getvalue()


def _time_description(audio: AudioConfig) -> tuple[float]:
    """Seconds to decode one second of sound and compute its descriptors."""
    content, heard = _example(), audio.replace(sample_rate=RATE)
    return (_seconds(lambda: descriptors(load(content, heard))) / EXAMPLE[2],)


def _time_svm() -> tuple[float, float]:
    """Seconds to fit an SVM to the smaller number of clips, and the additional seconds for the larger."""
    rng = np.random.default_rng(0)

    def fit_one(clips: int) -> None:
        songs = [str(number) for number in range(clips)]
        sound, labels = rng.standard_normal((clips, SIZE)), np.arange(clips) % CLASSES
        fitted(sound, labels, songs, lambda *_: None)

    fit_one(SVM_CLIPS[0])  # warms up
    times = []
    for clips in SVM_CLIPS:
        started = time.perf_counter()
        fit_one(clips)
        times.append(time.perf_counter() - started)
    return times[0], max(times[1] - times[0], 0.0)


def _seconds(work: Callable[[], object]) -> float:
    """Shortest duration of a few calls, after a warm-up call."""
    times = []
    for _ in range(STEPS + 1):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times[1:])


def _time_network(config: Config) -> tuple[float, float, float, float]:
    """Seconds per step, per window of a step, per window of a pass without training, and per saved state.

    Weights are random and images are noise; the time does not depend on them.
    """
    train = config.train.replace(weights="none", batch_size=max(config.train.batch_size, 2))
    with torch.random.fork_rng(devices=[]):  # `fit` seeds the generator that others may be using
        model = configured_classifier(train, classes=CLASSES)
        model.require_input(config.input_shape)
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
    """Time a few steps of `size` windows each."""
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
    rng, shape = np.random.default_rng(0), config.input_shape
    clips = [rng.normal(-40, 20, (1, *shape)).astype(np.float16) for _ in range(windows)]
    return WindowSet(clips, np.arange(windows) % CLASSES, classes=CLASSES)


class _Clock(Callback):
    """Times steps, and the saving of a state to a temporary folder."""

    def __init__(self) -> None:
        self.ticks: list[float] = []
        self.saving = 0.0

    @property
    def step(self) -> float:
        """Duration of the fastest step after the first, s."""
        return float(np.diff(self.ticks).min())

    def on_step(self, step: Step) -> None:  # noqa: ARG002 - the hook's signature
        """Record the time."""
        self.ticks.append(time.perf_counter())

    def on_epoch(self, state: State) -> None:
        """Time the saving of the state, as a run would save it."""
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            save_state(Path(folder) / "state", state)
        self.saving = time.perf_counter() - started
