"""What a network answers to windows, without learning from them."""

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
    """What a network says of some clips, from what it gives for their windows, (windows, outputs).

    `probabilities` (clips, classes) are shares of the classes alone; `hits` (clips, 2) counts windows that
    are right, and all, None for several networks together; `outside` (clips,) is true where the likeliest of
    more outputs is no class, None where there are no more.
    """

    windows: Windows
    probabilities: np.ndarray
    hits: np.ndarray | None
    outside: np.ndarray | None

    @classmethod
    def of(cls, windows: Windows, found: np.ndarray, scores: np.ndarray) -> "Answers":
        """Pooled by clip, as the windows' scores (windows,) weigh them."""
        pooled, classes = windows.pool(found, scores), windows.classes
        outside = pooled.argmax(axis=1) >= classes if pooled.shape[1] > classes else None
        return cls(windows, within(pooled, classes), windows.hits(found), outside)

    def scores(self, *, groups: list[str], classes: tuple[str, ...]) -> dict[str, Any]:
        """Those of `mer.metrics.scores.evaluate`."""
        return evaluate(
            self.windows.labels,
            self.probabilities,
            groups=groups,
            classes=classes,
            windows=self.hits,
            outside=self.outside,
        )


def autocast(device: torch.device, config: TrainConfig) -> torch.autocast:
    """Where sums may be of bfloat16: on GPUs, if the settings say so."""
    return torch.autocast(device.type, torch.bfloat16, enabled=config.amp and device.type == "cuda")


def predict_windows(
    model: Classifier, feed: Feed, config: TrainConfig, ranks: Ranks = ALONE
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (windows, outputs of the model) and scores (windows,), float32 on the CPU.

    Several processes each look at a share of the batches, and all get the whole.
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
    """Probabilities (windows, outputs of the model) and scores (windows,); by way of `embed` if given."""
    feed = Feed(windows, transform, next(model.parameters()).device)
    if embed:
        feed = embedded(model, feed, embed, lambda *_: None)
    logits, scores = predict_windows(model, feed, config)
    return to_probabilities(logits, config.loss).numpy(), scores.numpy()
