"""Predicts the emotion of clips. All preprocessing settings come from the checkpoint's card."""

import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any, TypeVar

import numpy as np
import torch

from mer.audio import quality
from mer.audio.decode import Source, hear
from mer.audio.mel import images
from mer.audio.transforms import EvalTransform
from mer.audio.waveforms import as_clip, as_samples, as_whole
from mer.audio.windows import sounding_starts, window_starts
from mer.data.windows import pool, window_weights
from mer.models.card import Card
from mer.models.checkpoint import load_checkpoint
from mer.models.forward import choose_device
from mer.models.gradcam import grad_cam
from mer.models.outputs import to_probabilities, within
from mer.utils.errors import AudioError
from mer.utils.machine import cores
from mer.utils.parallel import one_thread

__all__ = ["Listener", "Prediction", "Predictor", "Window"]

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST_WORKERS = 1024
AT_ONCE = 64  # windows whose images are in memory at a time
UNSURE = 0.10  # an answer is unsure if its probability is less than this above the second


@dataclass(frozen=True, slots=True)
class Window:
    """The answer to one window.

    Parameters
    ----------
    start, end
        The window, in seconds of the clip.
    probabilities
        Probability of each emotion.
    attention
        Weights of equal parts of a whole window, also if the clip is shorter; their sum is 1. Empty if the
        head has no attention.
    weight
        Weight of the window in the answer to the clip; None if the network does not weight windows.
    """

    start: float
    end: float
    probabilities: dict[str, float]
    attention: tuple[float, ...] = ()
    weight: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; without `attention` and `weight` if there are none."""
        data = {"start": self.start, "end": self.end, "probabilities": self.probabilities}
        data |= {} if self.weight is None else {"weight": self.weight}
        return data | ({"attention": list(self.attention)} if self.attention else {})


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer to a clip.

    Parameters
    ----------
    emotion
        The most probable emotion.
    probabilities
        Probability of each emotion: the weighted mean over the windows.
    windows
        The answer to each window.
    remarks
        Sentences on why the answer may not be reliable; see `mer.audio.quality`.
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
        """True if the probabilities of the first two emotions are less than 0.10 apart."""
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
    """A loaded checkpoint of one network or an ensemble. Load it once; threads may share it.

    `card` has the settings and classes. `networks` are the networks that answer, and `weights` (networks,)
    are their weights, with sum 1.
    """

    card: Card
    networks: tuple["Predictor", ...]
    weights: np.ndarray

    @abstractmethod
    def answer(self, waveform: np.ndarray, remarks: tuple[str, ...] = ()) -> Prediction:
        """Predict a waveform that `hear` found for the card's settings; it is not checked again.

        `remarks` are those of `hear`; the prediction begins its own with them.
        """

    @abstractmethod
    def joined(self, answers: Sequence[np.ndarray]) -> np.ndarray:
        """Combine the probabilities (rows, classes) of each network into one array (rows, classes)."""

    def predict_waveform(self, waveform: np.ndarray) -> Prediction:
        """Predict a waveform.

        Parameters
        ----------
        waveform
            Samples at `card.config.audio.sample_rate`: a numpy array or torch tensor of floats or integers,
            with up to 8 channels; see `mer.audio.waveforms.as_samples`.

        Raises
        ------
        AudioError
            If the waveform is not sound, is silent, shorter than 0.5 s or longer than an hour.
        """
        rate = self.card.config.audio.sample_rate
        waveform = as_clip(waveform, rate=rate)
        return self.answer(waveform, quality.of_recording(waveform, rate, used=rate))

    def predict(self, source: Source, *, name: str | None = None) -> Prediction:
        """Predict an audio file, given as a path or as bytes. Raises AudioError if it cannot be used.

        `name` is the name of the clip in errors (default: the path).
        """
        sound = hear(source, self.card.config.audio, name=name)
        return self.answer(sound.waveform, sound.remarks)

    def predict_many(
        self, paths: Sequence[Source], *, workers: int | None = None
    ) -> Iterator[tuple[Source, Prediction | AudioError]]:
        """Predict several files in parallel.

        At most two files per worker are in progress, so memory does not grow with the number of files.
        Closing the iterator waits only for the files that are being predicted.

        Parameters
        ----------
        paths
            Paths of audio files, or their bytes.
        workers
            Number of threads, 1 to 1024, each with one torch thread. Default: one per core. A single worker
            or file uses all of torch's threads.

        Returns
        -------
        iterator
            Each file and its prediction, in the order given. If a file cannot be used, its AudioError takes
            the place of the prediction.

        Raises
        ------
        AudioError
            If `paths` is a single path.
        ConfigError
            If `workers` is out of range.
        """
        if isinstance(paths, str | bytes | os.PathLike):
            raise AudioError(f"{paths!r:.80}: a single clip; give a list of paths, or call predict")
        if workers is not None:
            workers = as_whole(workers, "workers", low=1, high=MOST_WORKERS)
        return _in_parallel(self._attempt, paths, min(workers or cores(), len(paths)))

    def _attempt(self, path: Source) -> Prediction | AudioError:
        """Predict a file; returns the error if it cannot be used."""
        try:
            return self.predict(path)
        except AudioError as error:
            return AudioError(str(error))  # without the traceback, which keeps all samples in memory
        except OSError as error:
            return AudioError(f"{path}: cannot be read ({error.strerror}); check its name and permissions")

    def _named(self, row: np.ndarray) -> dict[str, float]:
        return {name: float(value) for name, value in zip(self.card.classes, row, strict=True)}


class Predictor(Listener):
    """A loaded checkpoint of one network; `mer.inference.open_predictor` also loads ensembles.

    Parameters
    ----------
    checkpoint
        Folder of the checkpoint.
    device
        "auto", or a torch device such as "cpu", "cuda" or "mps".
    """

    weights = np.ones(1)

    def __init__(self, checkpoint: str | os.PathLike, *, device: str = "auto") -> None:
        model, standardizer, self.card = load_checkpoint(checkpoint)
        self.device = choose_device(device)
        self.model = model.to(self.device, memory_format=torch.channels_last)
        self._transform = EvalTransform(standardizer)
        # A GPU runs passes one after another anyway, and threads that take turns need the memory of one pass.
        # A network that draws random numbers uses one generator for all threads.
        alone = self.device.type != "cpu" or not self.model.answers_alone
        self._turn = Lock() if alone else nullcontext()

    @property
    def networks(self) -> tuple["Predictor", ...]:
        """Only this network."""
        return (self,)

    def joined(self, answers: Sequence[np.ndarray]) -> np.ndarray:
        """The answer of the only network."""
        return answers[0]

    def answer(self, waveform: np.ndarray, remarks: tuple[str, ...] = ()) -> Prediction:
        """Predict a waveform that `hear` found for the card's settings."""
        audio = self.card.config.audio
        starts = sounding_starts(waveform, audio)
        looked = list(self._predict_windows(waveform, starts))
        scores = np.array([score for *_, score in looked])
        whole = pool(np.array([row for _, row, _ in looked]), scores)
        windows = tuple(window for window, *_ in looked)
        if self.model.weigh:
            weights = window_weights(scores, np.zeros(len(scores), int))
            windows = tuple(replace(w, weight=float(own)) for w, own in zip(windows, weights, strict=True))
        mean = self._named(within(whole, len(self.card.classes))[0])
        found = remarks + quality.of_music(waveform, audio.sample_rate)
        if silent := len(window_starts(len(waveform), audio)) - len(starts):
            found += (f"Windows without a vote, since they are silent: {silent} of {silent + len(starts)}.",)
        if whole.argmax() >= len(self.card.classes):
            found += (f"The likeliest of the network's {whole.size} outputs is none of the emotions.",)
        return Prediction(max(mean, key=mean.get), mean, windows, found)

    def windows(self, waveform: np.ndarray, starts: Sequence[int]) -> Iterator[Window]:
        """Predict the windows that begin at the samples `starts`, 64 at a time to bound memory.

        `waveform` has the card's sample rate. Raises AudioError if `mer.audio.waveforms.as_samples` refuses
        it, and ConfigError if a start is outside it.
        """
        waveform = as_samples(waveform)
        starts = [as_whole(start, "start", low=0, high=len(waveform) - 1) for start in starts]
        return (window for window, *_ in self._predict_windows(waveform, starts))

    def _predict_windows(
        self, waveform: np.ndarray, starts: Sequence[int]
    ) -> Iterator[tuple[Window, np.ndarray, float]]:
        """Yield each window, the probabilities of all its outputs (outputs,), and its score."""
        audio, mel = self.card.config.audio, self.card.config.mel
        rate, length = audio.sample_rate, audio.window_seconds
        size = round(length * rate)
        for group in (starts[first : first + AT_ONCE] for first in range(0, len(starts), AT_ONCE)):
            cuts = [waveform[start : start + size] for start in group]
            parts = [images(cut, audio=audio, mel=mel, checked=True) for cut in cuts]
            rows, attention, scores = self.look(self.inputs(np.concatenate(parts)))
            shares = within(rows, len(self.card.classes))
            for start, share, weights, row, score in zip(group, shares, attention, rows, scores, strict=True):
                begin, end = start / rate, min(start / rate + length, len(waveform) / rate)
                own = self._named(share), tuple(map(float, weights))
                yield Window(round(begin, 3), round(end, 3), *own), row, score

    def answers(self, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Images in dB (n, size, size) -> probabilities (n, outputs) and scores (n,).

        There may be more outputs than classes.
        """
        rows, _, scores = self.look(self.inputs(windows))
        return rows, scores

    def inputs(self, windows: np.ndarray) -> torch.Tensor:
        """Images in dB (n, size, size) -> input of the network, (n, 3, size, size) on its device."""
        return self._transform(torch.from_numpy(np.asarray(windows))).to(self.device)

    def respond(self, inputs: torch.Tensor, *, clips: int = 1) -> np.ndarray:
        """Inputs of all windows of clips (n, 3, rows, columns) -> probabilities (clips, classes).

        The clips have the same number of windows, and the windows of one clip follow each other.
        """
        rows, _, scores = self.look(inputs)
        clip = np.repeat(np.arange(clips), len(inputs) // clips)
        return within(pool(rows, scores, clip), len(self.card.classes))

    def look(self, inputs: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Inputs (n, 3, size, size) -> probabilities (n, outputs), attention (n, time) and scores (n,).

        The attention has shape (n, 0) if the head has none. The scores weight windows in `pool`.
        """
        train, size = self.card.config.train, len(inputs)
        found = []
        with self._turn, self.model.testing(train.seed):
            for part in self.model.test_batches(size, train.batch_size):
                alone = part[0] == part[-1]  # one window, maybe repeated; other batches are slices
                seen = self.model.embed(inputs[part] if alone else inputs[part[0] : part[-1] + 1])
                logits, scores = self.model.answer(seen)
                found.append((logits, self.model.head.weights(seen), scores))
        logits, attention, scores = (
            torch.cat([part.float().cpu() for part in parts])[:size] for parts in zip(*found, strict=True)
        )
        rows = to_probabilities(logits.double(), train.loss, self.card.temperature).numpy()
        return rows, attention.numpy(), scores.numpy()

    def evidence(self, inputs: torch.Tensor, target: int) -> torch.Tensor:
        """Grad-CAM maps (n, rows, columns) of inputs for class number `target`; see `mer.models.gradcam`."""
        train, size = self.card.config.train, len(inputs)
        with self._turn, self.model.testing(train.seed), torch.inference_mode(False):  # gradients are needed
            parts = self.model.test_batches(size, train.batch_size)
            return torch.cat([grad_cam(self.model, inputs[part], target) for part in parts])[:size]


def _in_parallel(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[tuple[Item, Result]]:
    """Yield `(item, function(item))` for each item in order, computed by threads with one torch thread each.

    Decoding, numpy and torch release Python's lock, so the threads run in parallel. On two idle cores this
    predicts 1.4 times as many 10 s clips per second as a loop in which torch divides each operation between
    the cores, since most operations are too small for that. On busy cores it is up to 10 times as many, since
    a divided operation waits for the slower core.
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
                    yield _next_result(ahead)
            while ahead:
                yield _next_result(ahead)
        finally:
            pool.shutdown(cancel_futures=True)


def _next_result(ahead: deque[tuple[Item, Future]]) -> tuple[Item, Any]:
    item, future = ahead.popleft()
    return item, future.result()
