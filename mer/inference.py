"""A clip in, probabilities out. There are no preprocessing arguments: the checkpoint's card has them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mer.audio import load, window_starts
from mer.augment import EvalTransform
from mer.checkpoints import load_checkpoint
from mer.features import images
from mer.losses import to_probabilities
from mer.quality import remarks
from mer.training import choose_device

__all__ = ["Prediction", "Predictor", "Window"]

BATCH = 32
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


class Predictor:
    """A loaded checkpoint; make it once, call `predict` often. Safe to share: nothing in it changes."""

    def __init__(self, checkpoint: Path, *, device: str = "auto") -> None:
        model, standardizer, self.card = load_checkpoint(checkpoint)
        self.device = choose_device(device)
        self.model = model.to(self.device, memory_format=torch.channels_last)
        self._transform = EvalTransform(standardizer)

    def predict(self, source: Path | bytes, *, name: str | None = None) -> Prediction:
        """Predict a file or its bytes; `name` is what errors call it. Raises AudioError."""
        return self.predict_waveform(load(source, self.card.config.audio, name=name))

    def predict_waveform(self, waveform: np.ndarray) -> Prediction:
        """Predict what `load` gives with the card's settings: float32 (samples,) at its sample rate."""
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
        """Images in dB (n, size, size) -> probabilities (n, classes)."""
        with torch.inference_mode():
            logits = [
                self.model(self._transform(part).to(self.device)).float().cpu()
                for part in torch.from_numpy(np.asarray(windows)).split(BATCH)
            ]
        return to_probabilities(torch.cat(logits), self.card.config.train.loss).numpy().astype(float)

    def _named(self, row: np.ndarray) -> dict[str, float]:
        return {name: float(value) for name, value in zip(self.card.classes, row, strict=True)}
