"""Predictions for windows and clips, without training."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mer.audio.transforms import EvalTransform
from mer.config.sections import TrainConfig
from mer.data.windows import Windows
from mer.metrics.scores import evaluate
from mer.models.classifier import Classifier
from mer.models.outputs import to_probabilities, within
from mer.training.distributed import ALONE, Ranks
from mer.training.embeddings import Embed, embedded
from mer.training.feed import Feed

__all__ = ["Answers", "autocast", "predict_windows", "window_probabilities"]


@dataclass(frozen=True, slots=True)
class Answers:
    """Predictions for some clips.

    Attributes
    ----------
    windows
        The windows of the clips.
    probabilities
        Probabilities of the classes, (clips, classes); each row sums to 1.
    hits
        For each clip, the number of windows predicted correctly and of all windows, (clips, 2). None for an
        ensemble.
    outside
        For a network with more outputs than classes: true if a clip's most probable output is not a class,
        (clips,). Else None.
    """

    windows: Windows
    probabilities: np.ndarray
    hits: np.ndarray | None
    outside: np.ndarray | None

    @classmethod
    def of(cls, windows: Windows, found: np.ndarray, scores: np.ndarray) -> "Answers":
        """Pool probabilities of windows by clip.

        Parameters
        ----------
        windows
            The windows of the clips.
        found
            Probabilities, shape (windows, outputs); rows sum to 1.
        scores
            Pooling scores, shape (windows,).
        """
        pooled, classes = windows.pool(found, scores), windows.classes
        outside = pooled.argmax(axis=1) >= classes if pooled.shape[1] > classes else None
        return cls(windows, within(pooled, classes), windows.hits(found), outside)

    def scores(self, *, groups: list[str], classes: tuple[str, ...]) -> dict[str, Any]:
        """Scores by `mer.metrics.scores.evaluate`; `groups` are the songs of the clips."""
        return evaluate(
            self.windows.labels,
            self.probabilities,
            groups=groups,
            classes=classes,
            windows=self.hits,
            outside=self.outside,
        )


def autocast(device: torch.device, config: TrainConfig) -> torch.autocast:
    """Context that allows bfloat16 on GPUs, if the settings say so."""
    return torch.autocast(device.type, torch.bfloat16, enabled=config.amp and device.type == "cuda")


def predict_windows(
    model: Classifier, feed: Feed, config: TrainConfig, ranks: Ranks = ALONE
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run a network, or its head alone, on all windows of a feed.

    Parameters
    ----------
    model, feed
        The network and its input.
    config
        Uses `batch_size`, `seed` and `amp`.
    ranks
        Processes that share the batches. All return the whole result.

    Returns
    -------
    tuple of torch.Tensor
        Logits (windows, outputs of the model) and pooling scores (windows,), float32 on the CPU.
    """
    count = len(feed.windows)
    batches = model.test_batches(count, config.batch_size)
    found = torch.zeros(max(count, len(batches[-1])), model.outputs + 1, device=feed.device)
    mine = batches[ranks.rank :: ranks.size]
    with model.testing(config.seed), autocast(feed.device, config):
        for indices, inputs in zip(mine, feed.stream(mine) if mine else (), strict=True):
            logits, scores = feed.answer(model, inputs)
            found[indices] = torch.cat([logits.float(), scores.float()[:, None]], dim=1)
    whole = ranks.sum(found).cpu()[:count]
    return whole[:, :-1], whole[:, -1]


def window_probabilities(
    model: Classifier,
    windows: Windows,
    transform: EvalTransform,
    config: TrainConfig,
    *,
    embed: Embed | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of the outputs of a network for windows.

    Parameters
    ----------
    model, windows
        The network and its input.
    transform
        From image to network input.
    config
        Uses `loss`, `batch_size`, `seed` and `amp`.
    embed
        Computes embeddings of a frozen body, or reads them from the store. Default: run the whole network.

    Returns
    -------
    np.ndarray
        Probabilities, (windows, outputs of the model); each row sums to 1.
    np.ndarray
        Scores for pooling, (windows,).
    """
    feed = Feed(windows, transform, next(model.parameters()).device)
    if embed:
        feed = embedded(model, feed, embed, lambda *_: None)
    logits, scores = predict_windows(model, feed, config)
    return to_probabilities(logits, config.loss).numpy(), scores.numpy()
