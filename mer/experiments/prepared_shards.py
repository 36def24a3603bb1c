"""A sharded set as the data of a run.

A set holds images and no sound, so it allows neither the SVM baseline nor control runs. Songs are not found
by sound, which would compare every clip with every other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mer.config.sections import Config
from mer.data.apart import UNCHECKED, measured_leak
from mer.data.cache.store import FeatureStore
from mer.data.hash_splits import hash_split
from mer.data.shards.read import ShardSet, ShardWindows
from mer.data.splits import Split, hash_names
from mer.metrics.predictions import answer_row
from mer.utils.errors import ConfigError, DataError

if TYPE_CHECKING:
    from mer.audio.transforms import TrainTransform
    from mer.models.zoo import Classifier
    from mer.training.shard_embeddings import ShardEmbeddings

__all__ = ["PreparedShards"]


@dataclass(frozen=True, slots=True)
class PreparedShards:
    """The clips of a sharded set. See `mer.experiments.prepared.PreparedData` for the methods."""

    shards: ShardSet
    store: FeatureStore
    config: Config

    voted = False
    control = "none"

    @classmethod
    def open(cls, root: Path, config: Config) -> "PreparedShards":
        """Open a set. Raises DataError if it is unreadable, ConfigError if it does not fit the settings."""
        shards = ShardSet.open(root)
        _require_same(root, shards, config)
        return cls(shards, FeatureStore.default(), config)

    @property
    def classes(self) -> tuple[str, ...]:
        """Labels in the order of the network's outputs."""
        return self.shards.classes

    @property
    def about(self) -> dict[str, Any]:
        """Name, hash, licence, and numbers of clips and songs, for the card of a model."""
        plan, summary = self.shards.plan, self.shards.summary
        found = {name: plan[name] for name in ("name", "synthetic", "licence")}
        found |= {name: summary[name] for name in ("hash", "sound", "clips", "songs")}
        return found | {"grouping": "by hand" if summary["songs_known"] else "none"}

    @property
    def notes(self) -> str:
        """Remarks of the data set, such as the meaning of its labels."""
        return self.shards.plan["notes"]

    @property
    def left_out(self) -> int:
        """Number of files that could not be used when the set was made."""
        return self.shards.summary["left_out"]

    def windows(self, indices: Sequence[int]) -> ShardWindows:
        """The windows of some clips."""
        return self.shards.windows(indices)

    def content(self, index: int) -> bytes | None:  # noqa: ARG002 - there is no sound
        """None: see `PreparedClips`."""
        return None

    def groups(self, indices: Sequence[int]) -> list[str]:
        """Song of each clip, or the clip itself if its song is unknown."""
        both = (self.shards.column(name, indices) for name in ("song", "name"))
        return [song or name for song, name in zip(*both, strict=True)]

    def classes_of(self, indices: Sequence[int]) -> set[str]:
        """The classes of some clips."""
        return {self.classes[label] for label in np.unique(self.shards.index["label"][indices])}

    def rows(self, indices: Sequence[int], probabilities: np.ndarray) -> list[dict[str, Any]]:
        """Predictions (clips, classes) as plain data, one row per clip."""
        names, songs = (self.shards.column(name, indices) for name in ("name", "song"))
        labels = [self.classes[label] for label in self.shards.index["label"][indices]]
        return [
            answer_row(*answer, self.classes)
            for answer in zip(names, songs, labels, probabilities, strict=True)
        ]

    def split(self, config: Config) -> Split:
        """Train, validation and test clips, by hash or as the manifest says."""
        index = self.shards.index
        return hash_split(
            index["group" if config.split.group_by_song else "clip"],
            index["label"],
            index["part"],
            config.split,
            classes=self.classes,
            name=lambda number: self.shards.column("name", [number])[0],
        )

    def test_hash(self, split: Split) -> str:
        """Hash of the test clips' names. Runs with the same hash were tested on the same clips."""
        return hash_names(self.shards.column("name", split.test))

    def leak(self, split: Split) -> str:
        """Whether test songs are also in the other parts: one of `mer.data.apart.MARKS`."""
        found = measured_leak(self.shards.index["group"], split)
        return found or ("" if self.shards.summary["songs_known"] else UNCHECKED)

    def embeddings(self, model: "Classifier", transform: "TrainTransform") -> "ShardEmbeddings":
        """The store's embeddings of a frozen network, one file per shard."""
        from mer.training.shard_embeddings import ShardEmbeddings

        return ShardEmbeddings.for_model(
            self.store, model, transform, audio=self.config.audio, mel=self.config.mel
        )


def _require_same(root: Path, shards: ShardSet, config: Config) -> None:
    """Raise DataError or ConfigError if these settings need other features than the set holds."""
    for made, wanted in ((shards.audio, config.audio), (shards.mel, config.mel)):
        for name, value in made.to_dict().items():
            if value != getattr(wanted, name):
                option = name.replace("_", "-")
                raise DataError(
                    f"{root} was prepared with {name}={value}, not {getattr(wanted, name)}; "
                    f"train with --{option} {value}, or prepare it again in a new folder"
                )
    if config.split.control != "none":
        raise ConfigError(
            f"control={config.split.control!r} needs clips, but {root} holds only images; "
            "check the pipeline on a part of the clips, given as a CSV"
        )
    if config.split.baseline:
        raise ConfigError(
            f"an SVM beside the network needs clips, but {root} holds only images; add --no-baseline"
        )
