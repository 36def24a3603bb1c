"""Several networks as one: the weighted mean of their probabilities, each network with its own settings.

A linear opinion pool (Stone, 1961): what the networks err in differently is averaged out (Hansen and Salamon,
1990). Windows may differ from one network to another, so the mean is taken clip by clip.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mer.inference.predictor import Listener, Prediction, Predictor, Window
from mer.metrics.calibration import tempered
from mer.models.card import load_card, member_folders

__all__ = ["Ensemble", "open_predictor"]


class Ensemble(Listener):
    """The members of an ensemble's checkpoint, asked together; one without weight is not asked."""

    def __init__(self, checkpoint: Path, *, device: str = "auto") -> None:
        self.card = load_card(checkpoint)
        asked = [
            (member.weight, place)
            for member, place in zip(self.card.members, member_folders(checkpoint, self.card), strict=True)
            if member.weight
        ]
        self.networks = tuple(Predictor(place, device=device) for _, place in asked)
        self.weights = np.array([weight for weight, _ in asked])

    def joined(self, answers: Sequence[np.ndarray]) -> np.ndarray:
        """Their weighted mean, tempered as the ensemble's own card says."""
        return tempered(np.tensordot(self.weights, np.stack(answers), axes=1), self.card.temperature)

    def predict_waveform(self, waveform: np.ndarray) -> Prediction:
        """The mean over the networks' answers to the clip.

        Windows are those of the first network asked; what another says of one lies on the line between its
        own windows before and after, by their middles.
        """
        found = [network.predict_waveform(waveform) for network in self.networks]
        windows = found[0].windows
        at = [(window.start + window.end) / 2 for window in windows]
        clip = self.joined([self._rows([prediction]) for prediction in found])[0]
        course = self.joined([self._course(prediction.windows, at) for prediction in found])
        mean = self._named(clip)
        return Prediction(
            max(mean, key=mean.get),
            mean,
            tuple(
                Window(window.start, window.end, self._named(row))
                for window, row in zip(windows, course, strict=True)
            ),
            found[0].remarks,
        )

    def _rows(self, parts: Sequence[Prediction | Window]) -> np.ndarray:
        return np.array([[part.probabilities[name] for name in self.card.classes] for part in parts])

    def _course(self, windows: Sequence[Window], at: Sequence[float]) -> np.ndarray:
        """Probabilities (times, classes) at some seconds of the clip."""
        middles = [(window.start + window.end) / 2 for window in windows]
        return np.stack([np.interp(at, middles, values) for values in self._rows(windows).T], axis=1)


def open_predictor(checkpoint: Path, *, device: str = "auto") -> Listener:
    """The predictor of a checkpoint, whether of one network or of an ensemble. Raises CheckpointError."""
    return (Ensemble if load_card(checkpoint).members else Predictor)(checkpoint, device=device)
