"""Ensembles: the weighted mean of the probabilities of several networks, each with its own settings.

This is a linear opinion pool (Stone, 1961). Errors that the networks do not share are averaged out (Hansen
and Salamon, 1990). Networks may have different windows, so the mean is taken over answers to whole clips.
"""

from collections.abc import Sequence
from os import PathLike

import numpy as np

from mer.inference.predictor import Listener, Prediction, Predictor, Window
from mer.metrics.calibration import tempered
from mer.models.card import load_card, member_folders
from mer.utils.files import as_path

__all__ = ["Ensemble", "open_predictor"]


class Ensemble(Listener):
    """The loaded networks of an ensemble's checkpoint.

    Members of weight 0 are not loaded.

    Parameters
    ----------
    checkpoint
        Folder of the ensemble.
    device
        "auto", or a torch device such as "cpu", "cuda" or "mps".

    References
    ----------
    Stone, "The opinion pool", Annals of Mathematical Statistics, 1961.
    """

    def __init__(self, checkpoint: str | PathLike, *, device: str = "auto") -> None:
        checkpoint = as_path(checkpoint, "checkpoint")
        self.card = load_card(checkpoint)
        asked = [
            (member.weight, place)
            for member, place in zip(self.card.members, member_folders(checkpoint, self.card), strict=True)
            if member.weight
        ]
        self.networks = tuple(Predictor(place, device=device) for _, place in asked)
        self.weights = np.array([weight for weight, _ in asked])

    def joined(self, answers: Sequence[np.ndarray]) -> np.ndarray:
        """Weighted mean of the networks' answers, scaled by the temperature of the ensemble's card."""
        return tempered(np.tensordot(self.weights, np.stack(answers), axes=1), self.card.temperature)

    def answer(self, waveform: np.ndarray, remarks: tuple[str, ...] = ()) -> Prediction:
        """Weighted mean of the networks' answers to the clip.

        The windows are those of the first network. The probabilities of the other networks are interpolated
        linearly between the middles of their own windows.
        """
        found = [network.answer(waveform, remarks) for network in self.networks]
        windows = found[0].windows
        at = [(window.start + window.end) / 2 for window in windows]
        clip = self.joined([self._rows([prediction]) for prediction in found])[0]
        course = self.joined([self._interpolated(prediction.windows, at) for prediction in found])
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

    def _interpolated(self, windows: Sequence[Window], at: Sequence[float]) -> np.ndarray:
        """Probabilities (times, classes), interpolated at the times `at` in seconds."""
        middles = [(window.start + window.end) / 2 for window in windows]
        return np.stack([np.interp(at, middles, values) for values in self._rows(windows).T], axis=1)


def open_predictor(checkpoint: str | PathLike, *, device: str = "auto") -> Listener:
    """Load a checkpoint of one network or of an ensemble.

    Parameters
    ----------
    checkpoint
        Folder of the checkpoint.
    device
        "auto", or a torch device such as "cpu", "cuda" or "mps".

    Returns
    -------
    Listener
        A `Predictor` for one network, an `Ensemble` for an ensemble.

    Raises
    ------
    CheckpointError
        If the checkpoint is missing or damaged.
    """
    return (Ensemble if load_card(checkpoint).members else Predictor)(checkpoint, device=device)
