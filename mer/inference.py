"""A clip in, probabilities out. There are no preprocessing arguments: the checkpoint's card has them."""

import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, NoReturn, TypeVar

import numpy as np
import torch

from mer.audio import load, window_starts
from mer.augment import EvalTransform
from mer.calibration import tempered
from mer.cards import Card
from mer.checkpoints import load_checkpoint
from mer.datasets.base import AUDIO_SUFFIXES
from mer.errors import AudioError, DataError
from mer.features import images
from mer.feeds import choose_device, pass_size
from mer.losses import to_probabilities
from mer.machine import cores
from mer.parallel import one_thread
from mer.quality import remarks

__all__ = ["Listener", "Prediction", "Predictor", "Window", "audio_files"]

Item = TypeVar("Item")
Result = TypeVar("Result")

UNSURE = 0.10  # lead of the first emotion over the second below which neither is the answer


@dataclass(frozen=True, slots=True)
class Window:
    """Probabilities of one window, between `start` and `end` seconds of the clip."""

    start: float
    end: float
    probabilities: dict[str, float]


@dataclass(frozen=True, slots=True)
class Prediction:
    """Mean probabilities over the windows of a clip, and the most probable emotion.

    `remarks` are sentences on why the input should not be trusted (`mer.quality`).
    """

    emotion: str
    probabilities: dict[str, float]
    windows: tuple[Window, ...]
    remarks: tuple[str, ...] = ()

    @property
    def runner_up(self) -> str:
        """The second most probable emotion."""
        return sorted(self.probabilities, key=self.probabilities.get)[-2]

    @property
    def unsure(self) -> bool:
        """True if the two most probable emotions are less than 0.10 apart."""
        second, first = sorted(self.probabilities.values())[-2:]
        return first - second < UNSURE

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "emotion": self.emotion,
            "probabilities": self.probabilities,
            "windows": [
                {"start": w.start, "end": w.end, "probabilities": w.probabilities} for w in self.windows
            ],
            "remarks": list(self.remarks),
        }


class Listener(ABC):
    """A loaded checkpoint; make it once, call `predict` often. Safe to share: nothing in it changes.

    `card` says how it hears; `networks` are those that it asks.
    """

    card: Card
    networks: tuple["Predictor", ...]

    @abstractmethod
    def predict_waveform(self, waveform: np.ndarray) -> Prediction:
        """Predict what `load` gives with the card's settings: float32 (samples,) at its sample rate."""

    @abstractmethod
    def joined(self, answers: Sequence[np.ndarray]) -> np.ndarray:
        """One answer from that of each network: probabilities, each (rows, classes)."""

    def predict(self, source: Path | bytes, *, name: str | None = None) -> Prediction:
        """Predict a file or its bytes; `name` is what errors call it. Raises AudioError."""
        return self.predict_waveform(load(source, self.card.config.audio, name=name))

    def predict_many(
        self, paths: Sequence[Path], *, workers: int | None = None
    ) -> Iterator[tuple[Path, Prediction | AudioError]]:
        """Predict files in the order given, several at once; a file that cannot be used comes as its error.

        `workers` threads (default: one a core) of one torch thread each are at most twice as many files
        ahead, so memory does not grow with their number. Closing the iterator waits only for the files
        that are being predicted. One file, or one worker, has all of torch's threads.
        """
        return _side_by_side(self._attempt, paths, min(workers or cores(), len(paths)))

    def _attempt(self, path: Path) -> Prediction | AudioError:
        try:
            return self.predict(path)
        except AudioError as error:
            return AudioError(str(error))  # a new one: the traceback of the old keeps all samples in memory
        except OSError as error:
            return AudioError(f"{path}: cannot be read ({error.strerror}); check its name and permissions")
        except UnicodeError:
            return AudioError(f"{path}: file name is not Unicode; rename it")

    def _named(self, row: np.ndarray) -> dict[str, float]:
        return {name: float(value) for name, value in zip(self.card.classes, row, strict=True)}


class Predictor(Listener):
    """The network of a checkpoint that is no ensemble; `mer.ensembles.open_predictor` opens either."""

    def __init__(self, checkpoint: Path, *, device: str = "auto") -> None:
        model, standardizer, self.card = load_checkpoint(checkpoint)
        self.device = choose_device(device)
        self.model = model.to(self.device, memory_format=torch.channels_last)
        self._transform = EvalTransform(standardizer)
        # A GPU does one thing after the other; threads in turn there take no more of its memory than one.
        self._turn = nullcontext() if self.device.type == "cpu" else Lock()

    @property
    def networks(self) -> tuple["Predictor", ...]:
        """Itself alone."""
        return (self,)

    def joined(self, answers: Sequence[np.ndarray]) -> np.ndarray:
        """The only answer."""
        return answers[0]

    def predict_waveform(self, waveform: np.ndarray) -> Prediction:
        """See `Listener`."""
        config = self.card.config
        rows = self.probabilities(images(waveform, audio=config.audio, mel=config.mel))
        rate, length = config.audio.sample_rate, config.audio.window_seconds
        spans = [
            (start / rate, min(start / rate + length, len(waveform) / rate))
            for start in window_starts(len(waveform), config.audio)
        ]
        mean = self._named(rows.mean(axis=0))
        windows = tuple(
            Window(round(start, 3), round(end, 3), self._named(row))
            for (start, end), row in zip(spans, rows, strict=True)
        )
        found = remarks(waveform, sample_rate=rate)
        return Prediction(max(mean, key=mean.get), mean, windows, found)

    def probabilities(self, windows: np.ndarray) -> np.ndarray:
        """Images in dB (n, size, size) -> probabilities (n, classes), calibrated as the card says."""
        with torch.inference_mode(), self._turn:
            logits = [
                self.model(self._transform(part).to(self.device)).float().cpu()
                for part in torch.from_numpy(np.asarray(windows)).split(pass_size(self.device))
            ]
        found = to_probabilities(torch.cat(logits), self.card.config.train.loss).numpy().astype(float)
        return tempered(found, self.card.temperature)


def _side_by_side(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[tuple[Item, Result]]:
    """`(item, function(item))` for each item, in order, by threads of one torch thread each.

    Decoding, numpy and torch let other threads run. On two idle cores that predicts 1.4 times as many 10 s
    clips a second as a loop whose operations are each shared by both, most being too small for it; on busy
    ones up to 10 times, since sharing an operation means to wait for the slower core.
    """
    if workers <= 1:
        yield from ((item, function(item)) for item in items)
        return
    ahead: deque[tuple[Item, Future]] = deque()
    with one_thread():
        pool = ThreadPoolExecutor(workers)
        try:
            for item in items:
                ahead.append((item, pool.submit(function, item)))
                if len(ahead) == 2 * workers:
                    yield _first(ahead)
            while ahead:
                yield _first(ahead)
        finally:
            pool.shutdown(cancel_futures=True)


def _first(ahead: deque[tuple[Item, Future]]) -> tuple[Item, Any]:
    item, future = ahead.popleft()
    return item, future.result()


def audio_files(folder: Path) -> list[Path]:
    """Every audio file below a folder, by path; hidden ones are left out.

    Links to folders are not followed, nor are links to files outside `folder`. Raises DataError if there
    is no audio, or a folder cannot be read.
    """
    root, found = folder.resolve(), []
    try:
        for parent, folders, names in os.walk(folder, onerror=_raise):
            folders[:] = [name for name in folders if not name.startswith(".")]
            audio = [Path(parent, name) for name in names if _is_audio(name)]
            found += [path for path in audio if path.is_file() and path.resolve().is_relative_to(root)]
    except OSError as error:
        raise DataError(f"{error.filename}: {error.strerror}; change its permissions") from error
    if not found:
        raise DataError(f"{folder}: no audio below it; choose a folder of WAV, FLAC, Ogg, MP3, AIFF or AU")
    return sorted(found)


def _is_audio(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in AUDIO_SUFFIXES


def _raise(error: OSError) -> NoReturn:
    raise error
