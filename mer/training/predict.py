"""What a network answers to windows, without learning from them."""

import numpy as np
import torch

from mer.audio.transforms import EvalTransform
from mer.config.sections import TrainConfig
from mer.data.windows import Windows
from mer.models.zoo import Classifier
from mer.training.distributed import ALONE, Ranks
from mer.training.embeddings import Embed, embedded
from mer.training.feed import Feed, looking, passes
from mer.training.losses import to_probabilities

__all__ = ["autocast", "predict_windows", "window_probabilities"]


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
    batches = passes(model, count, config)
    found = torch.zeros(max(count, len(batches[-1])), model.outputs + 1, device=feed.device)
    mine = batches[ranks.rank :: ranks.size]
    with looking(model, config.seed), autocast(feed.device, config):
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
