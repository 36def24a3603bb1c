"""The classifier of the 2022 study as in its released code, with faults that its report does not mention.

It is here, and not beside the rest of the study in `mer.experiments.study2022`, because checkpoints of it are
loaded like any other.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from mer.config.sections import TrainConfig
from mer.models.classifier import Classifier
from mer.models.forward import in_batches
from mer.models.heads import Head
from mer.models.zoo import Backbone

__all__ = ["ReleasedClassifier"]


class KeptHead(Head):
    """A network's own dropout and output layer: embedding (n, features) -> logits (n, outputs)."""

    def __init__(self, output: nn.Linear, dropout: float) -> None:
        super().__init__()
        self.dropout, self.linear = nn.Dropout(dropout), output


class ReleasedClassifier(Classifier):
    """A classifier with one or both of two faults of the released code, to show their effect.

    With `outputs="imagenet"` the head is the network's own output layer, of 1000 logits, with the dropout
    before it. With `always_training` there is no evaluation mode: batch-norm uses the statistics of each
    batch, and dropout is active in tests too. Then an answer depends on the rest of its batch and on the
    seed.
    """

    def __init__(self, backbone: Backbone, body: nn.Module, *, classes: int, config: TrainConfig) -> None:
        super().__init__(backbone, body, classes=classes, config=config)
        self.always_training = config.always_training
        for module in body.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.track_running_stats = not self.always_training  # unused, so not updated

    def _head(self, output: nn.Linear, dropout: float, width: int, classes: int, config: TrainConfig) -> Head:
        """See `Classifier`; with `outputs="imagenet"` the network keeps its own output layer."""
        if config.outputs == "imagenet":
            return KeptHead(output, dropout)
        return super()._head(output, dropout, width, classes, config)

    @property
    def answers_alone(self) -> bool:
        """False if there is no evaluation mode."""
        return not self.always_training

    @property
    def body_changes(self) -> bool:
        """See `Classifier`."""
        return self.always_training or super().body_changes

    def train(self, mode: bool = True) -> "ReleasedClassifier":
        """See `Classifier`; without an evaluation mode, the whole network is always in training mode."""
        if not self.always_training:
            return super().train(mode)
        return nn.Module.train(self, True)

    @contextmanager
    def testing(self, seed: int) -> Iterator[None]:
        """See `Classifier`; `seed` is the seed of dropout."""
        with super().testing(seed):
            if self.answers_alone:
                yield
                return
            device = next(self.parameters()).device
            with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
                torch.manual_seed(seed)
                yield

    def test_batches(self, count: int, batch_size: int) -> list[torch.Tensor]:
        """See `Classifier`; without an evaluation mode, batches have the size of training batches.

        A single window is repeated, since batch-norm needs more than one value.
        """
        if self.answers_alone:
            return super().test_batches(count, batch_size)
        order = torch.arange(count)
        return in_batches(order, batch_size) if count > 1 else [order.repeat(2)]
