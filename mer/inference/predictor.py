"""A clip in, probabilities out. There are no preprocessing arguments: the checkpoint's card has them."""

import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any, NoReturn, TypeVar

import numpy as np
import torch

from mer.audio.decode import load, window_starts
from mer.audio.mel import images
from mer.audio.quality import remarks
from mer.audio.transforms import EvalTransform
from mer.data.clips import AUDIO_SUFFIXES
from mer.metrics.calibration import tempered
from mer.metrics.probabilities import softmax
from mer.models.card import Card
from mer.models.checkpoint import load_checkpoint
from mer.models.gradcam import grad_cam
from mer.training.feed import choose_device, looking, pass_size, passes
from mer.training.losses import to_probabilities, within
from mer.utils.errors import AudioError, DataError
from mer.utils.machine import cores
from mer.utils.parallel import one_thread

__all__ = ["Listener", "Prediction", "Predictor", "Window", "audio_files"]

Item = TypeVar("Item")
Result = TypeVar("Result")

AT_ONCE = 64  # windows whose images are in memory
UNSURE = 0.10  # lead of the first emotion over the second below which neither is the answer


@dataclass(frozen=True, slots=True)
class Window:
    """Probabilities of one window, between `start` and `end` seconds of the clip.

    `attention` is what each of so many equal parts of a window counts for, summing to 1; empty where the
    network's head does not attend to some more than to others. A short clip fills a part of a window only.
    `weight` is the window's share in the answer to the clip, where the network weighs windows, else None.
    """

    start: float
    end: float
    probabilities: dict[str, float]
    attention: tuple[float, ...] = ()
    weight: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; `attention` and `weight` only where there are some."""
        data = {"start": self.start, "end": self.end, "probabilities": self.probabilities}
        data |= {} if self.weight is None else {"weight": self.weight}
        return data | ({"attention": list(self.attention)} if self.attention else {})


@dataclass(frozen=True, slots=True)
class Prediction:
    """Mean probabilities over the windows of a clip, and the most probable emotion.

    `remarks` are sentences on why the input should not be trusted (`mer.audio.quality`).
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
            "windows": [window.to_dict() for window in self.windows],
            "remarks": list(self.remarks),
        }


class Listener(ABC):
    """A loaded checkpoint; make it once, call `predict` often. Safe to share: nothing in it changes.

    `card` says how it hears; `networks` are those that it asks, `weights` (networks,) their shares.
    """

    card: Card
    networks: tuple["Predictor", ...]
    weights: np.ndarray

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
    """The network of a checkpoint that is no ensemble; `mer.inference.open_predictor` opens either."""

    weights = np.ones(1)

    def __init__(self, checkpoint: Path, *, device: str = "auto") -> None:
        model, standardizer, self.card = load_checkpoint(checkpoint)
        self.device = choose_device(device)
        self.model = model.to(self.device, memory_format=torch.channels_last)
        self._transform = EvalTransform(standardizer)
        # A GPU does one thing after the other; threads in turn there take no more of its memory than one. And
        # what is drawn at random comes from one generator for all threads.
        alone = self.device.type != "cpu" or self.model.always_training
        self._turn = Lock() if alone else nullcontext()

    @property
    def networks(self) -> tuple["Predictor", ...]:
        """Itself alone."""
        return (self,)

    def joined(self, answers: Sequence[np.ndarray]) -> np.ndarray:
        """The only answer."""
        return answers[0]

    def predict_waveform(self, waveform: np.ndarray) -> Prediction:
        """See `Listener`."""
        looked = list(self._over(waveform, window_starts(len(waveform), self.card.config.audio)))
        scores = np.array([score for *_, score in looked])
        weights = softmax(scores)  # what each window counts for
        whole = weights[None] @ np.array([row for _, row, _ in looked])
        windows = tuple(window for window, *_ in looked)
        if self.model.weigh:
            windows = tuple(replace(w, weight=float(own)) for w, own in zip(windows, weights, strict=True))
        mean = self._named(within(whole, len(self.card.classes))[0])
        found = remarks(waveform, sample_rate=self.card.config.audio.sample_rate)
        if whole.argmax() >= len(self.card.classes):
            found += (f"The likeliest of the network's {whole.size} outputs is none of the emotions.",)
        return Prediction(max(mean, key=mean.get), mean, windows, found)

    def windows(self, waveform: np.ndarray, starts: Sequence[int]) -> Iterator[Window]:
        """The windows of a waveform that begin at the samples `starts`, some in memory at a time."""
        return (window for window, *_ in self._over(waveform, starts))

    def _over(
        self, waveform: np.ndarray, starts: Sequence[int]
    ) -> Iterator[tuple[Window, np.ndarray, float]]:
        """Windows, what the network says of each with all its outputs, (outputs,), and their scores."""
        audio, mel = self.card.config.audio, self.card.config.mel
        rate, length = audio.sample_rate, audio.window_seconds
        size = round(length * rate)
        for group in (starts[first : first + AT_ONCE] for first in range(0, len(starts), AT_ONCE)):
            parts = [images(waveform[start : start + size], audio=audio, mel=mel) for start in group]
            rows, attention, scores = self.look(self.inputs(np.concatenate(parts)))
            shares = within(rows, len(self.card.classes))
            for start, share, weights, row, score in zip(group, shares, attention, rows, scores, strict=True):
                begin, end = start / rate, min(start / rate + length, len(waveform) / rate)
                own = self._named(share), tuple(map(float, weights))
                yield Window(round(begin, 3), round(end, 3), *own), row, score

    def answers(self, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Images in dB (n, size, size) -> probabilities (n, outputs), maybe of no class; scores (n,)."""
        rows, _, scores = self.look(self.inputs(windows))
        return rows, scores

    def inputs(self, windows: np.ndarray) -> torch.Tensor:
        """Images in dB (n, size, size) -> what the network sees, (n, 3, size, size) on its device."""
        return self._transform(torch.from_numpy(np.asarray(windows))).to(self.device)

    def respond(self, inputs: torch.Tensor) -> np.ndarray:
        """What the network sees of one clip -> its answer, probabilities (1, classes), as `predict` gives."""
        rows, _, scores = self.look(inputs)
        return within(softmax(scores)[None] @ rows, len(self.card.classes))

    def look(self, inputs: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Probabilities (n, outputs), attention (n, time), maybe of no columns, and scores (n,)."""
        train, size = self.card.config.train, len(inputs)
        found = []
        with self._turn, looking(self.model, train.seed):
            for part in passes(self.model, size, train):
                alone = part[0] == part[-1]  # then it may come twice; else a view will do
                seen = self.model.embed(inputs[part] if alone else inputs[part[0] : part[-1] + 1])
                logits, scores = self.model.answer(seen)
                found.append((logits, self.model.head.weights(seen), scores))
        logits, attention, scores = (
            torch.cat([part.float().cpu() for part in parts])[:size] for parts in zip(*found, strict=True)
        )
        rows = to_probabilities(logits, train.loss).numpy().astype(float)
        return tempered(rows, self.card.temperature), attention.numpy(), scores.numpy()

    def evidence(self, inputs: torch.Tensor, target: int) -> torch.Tensor:
        """What the network sees -> where it sees class number `target`; see `mer.models.gradcam`."""
        with self._turn:
            parts = inputs.split(pass_size(self.device))
            return torch.cat([grad_cam(self.model, part, target) for part in parts])


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
