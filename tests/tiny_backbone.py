"""A network that trains in milliseconds (convolutions, batch-norm, dropout), and a task for it.

Test modules add it to the zoo for each test, by `with tiny_zoo(): yield` in an autouse fixture.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from mer.audio.mel import Standardizer
from mer.audio.transforms import TrainTransform
from mer.config.sections import AugmentConfig, Config, TrainConfig
from mer.data.windows import WindowSet
from mer.models.build import configured_classifier
from mer.models.card import Card
from mer.models.weights import TorchvisionWeights
from mer.models.zoo import ZOO, Backbone
from mer.training.loop import fit

SIZE = 16
STANDARDIZER = Standardizer(-35.0, 10.0)


class TinyNet(nn.Module):
    """Two convolutions and a classifier, named like the networks of torchvision."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 4, 3, stride=2, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Conv2d(4, 8, 3, stride=2, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
        )
        self.classifier = nn.Sequential(nn.Dropout(0.3), nn.Linear(8, 10))

    def forward(self, x):
        return self.classifier(self.features(x).mean(dim=(2, 3)))


TINY = Backbone(
    name="tiny",
    build=TinyNet,
    source=TorchvisionWeights("resnet18"),
    output="classifier.1",
    last=("features.4", "features.5"),
    cam="features",
    feature_map=lambda net, x: net.features(x),
)


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one thread: on a busy machine, waiting for a second thread takes longer than the computation."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def tiny_zoo() -> Iterator[None]:
    """TINY in the zoo, on one thread."""
    ZOO["tiny"] = TINY
    try:
        with one_thread():
            yield
    finally:
        del ZOO["tiny"]


def tiny_config(**changes):
    """A short CPU run on the tiny network."""
    settings = {"backbone": "tiny", "weights": "none", "device": "cpu", "dropout": 0.1, "lr": 0.02}
    return TrainConfig(**settings | {"batch_size": 8, "epochs": 4} | changes)


def tiny_model(config, *, classes=2, seed=0, channels_last=False):
    """The untrained classifier that `config` describes; the same seed gives the same weights."""
    torch.manual_seed(seed)
    model = configured_classifier(config, classes=classes)
    return model.to(memory_format=torch.channels_last) if channels_last else model


def tones_or_beats(clips=10, *, windows=2, seed=0, noise=6.0):
    """Clips of two classes: 0 has loud rows of the image (tones), 1 has loud columns (beats)."""
    rng = np.random.default_rng(seed)
    labels = np.arange(clips) % 2
    arrays = []
    for label in labels:
        images = rng.normal(-40, noise, (windows, SIZE, SIZE))
        loud = images[:, ::4] if label == 0 else images[:, :, ::4]
        loud += 20
        arrays.append(images.astype(np.float16))
    return WindowSet(arrays, labels, classes=2)


def tiny_card(train, *, classes=("Happy", "Sad"), **changes):
    """The card of a tiny network for windows of one second at 4 kHz."""
    config = Config(train=train).updated(
        sample_rate=4000,
        window_seconds=1.0,
        hop_seconds=0.5,
        n_fft=256,
        hop_length=64,
        n_mels=16,
        f_max=2000.0,
        image_size=32,
    )
    normalization = {"mean": STANDARDIZER.mean, "std": STANDARDIZER.std}
    return Card(classes=tuple(classes), config=config, normalization=normalization, **changes)


def tiny_fit(config, *, train=None, validation=None, augment=None, model=None, **options):
    """Fit a fresh tiny model (or `model`) to the task; returns the model and the final state."""
    model = model or tiny_model(config)
    transform = TrainTransform(STANDARDIZER, augment or AugmentConfig())
    state = fit(model, train or tones_or_beats(), validation, transform=transform, config=config, **options)
    return model, state
