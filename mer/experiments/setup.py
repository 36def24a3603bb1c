"""What a training begins with: the network, the windows it learns from, and how it is given them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mer.audio.mel import Standardizer
from mer.audio.transforms import TrainTransform
from mer.config.sections import Config
from mer.data.splits import Split
from mer.data.windows import Windows
from mer.experiments.prepared import Material
from mer.experiments.prepared_shards import ShardedMaterial
from mer.models.zoo import Classifier, configured_classifier
from mer.training.distributed import ALONE, Ranks
from mer.training.embeddings import KeptEmbeddings, embed, trains_head_alone
from mer.training.feed import choose_device
from mer.training.loop import Callback, State, fit
from mer.training.shard_embeddings import ShardEmbeddings

__all__ = ["Outset", "new_model"]


@dataclass(frozen=True, slots=True)
class Outset:
    """All of it, made of settings, clips and a split; the same wherever it is made."""

    config: Config
    model: Classifier
    train: Windows
    validation: Windows | None
    transform: TrainTransform
    kept: KeptEmbeddings | None

    @classmethod
    def of(cls, config: Config, material: Material | ShardedMaterial, split: Split) -> "Outset":
        """Raises BackboneError and WeightsError."""
        model = new_model(config, material)
        train = material.windows(split.train)
        transform = TrainTransform(_standardizer(config, train), config.augment)
        validation = material.windows(split.validation) if len(split.validation) else None
        kept = _kept_embeddings(model, transform, material)
        return cls(config, model, train, validation, transform, kept)

    def fit(
        self, callbacks: Sequence[Callback] = (), *, resume: State | None = None, ranks: Ranks = ALONE
    ) -> State:
        """Train; see `mer.training.loop.fit`."""
        return fit(
            self.model, self.train, self.validation, transform=self.transform, config=self.config.train,
            callbacks=callbacks, resume=resume, embed=self.kept or embed, ranks=ranks,
        )  # fmt: skip


def new_model(config: Config, material: Material | ShardedMaterial) -> Classifier:
    """A classifier on its device; its random parts are decided by the seed alone."""
    train = config.train
    torch.manual_seed(train.seed)
    model = configured_classifier(train, classes=len(material.classes))
    model.require_input(config.mel.image_size)
    return model.to(choose_device(train.device), memory_format=torch.channels_last)


def _standardizer(config: Config, train: Windows) -> Standardizer:
    """What brings images to zero mean and unit variance; it has seen the training part at most."""
    if config.train.standardize == "training":
        return Standardizer.fit(train.batches())
    return Standardizer(per_window=config.train.standardize == "window")


def _kept_embeddings(
    model: Classifier, transform: TrainTransform, material: Material | ShardedMaterial
) -> KeptEmbeddings | None:
    """The store's embeddings for this model, if it trains on embeddings at all."""
    if not trains_head_alone(model, transform):
        return None
    config = material.config
    kind = ShardEmbeddings if isinstance(material, ShardedMaterial) else KeptEmbeddings
    return kind.of(material.store, model, transform, audio=config.audio, mel=config.mel)
