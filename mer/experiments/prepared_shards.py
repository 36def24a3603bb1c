"""What a run trains and tests on where the clips are a sharded set; it answers what `Material` answers.

There is no sound any more, only images, so there is no SVM beside the network and no control run; and no song
is found by sound, which would compare each clip with each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mer.config.sections import Config
from mer.data.cache.store import FeatureStore
from mer.data.hash_splits import hash_split
from mer.data.shards.read import ShardSet, ShardWindows
from mer.data.splits import Split, hash_names
from mer.metrics.predictions import answer_row
from mer.utils.errors import ConfigError, DataError

__all__ = ["ShardedMaterial"]


@dataclass(frozen=True, slots=True)
class ShardedMaterial:
    """The clips of a sharded set; see `mer.experiments.prepared.Material`."""

    shards: ShardSet
    store: FeatureStore
    config: Config

    voted = False
    control = "none"

    @classmethod
    def open(cls, root: Path, config: Config) -> "ShardedMaterial":
        """Raises DataError for what cannot be read, ConfigError where settings ask for what is not there."""
        shards = ShardSet.open(root)
        _require_same(root, shards, config)
        return cls(shards, FeatureStore.default(), config)

    @property
    def classes(self) -> tuple[str, ...]:
        """Labels in the order of the network's outputs."""
        return self.shards.classes

    @property
    def about(self) -> dict[str, Any]:
        """What the clips are, as the card of a model keeps it."""
        plan, summary = self.shards.plan, self.shards.summary
        found = {name: plan[name] for name in ("name", "synthetic", "licence")}
        found |= {name: summary[name] for name in ("hash", "sound", "clips", "songs")}
        return found | {"grouping": "by hand" if summary["songs_known"] else "none"}

    @property
    def notes(self) -> str:
        """What the labels mean, say."""
        return self.shards.plan["notes"]

    def windows(self, indices: Sequence[int]) -> ShardWindows:
        """The windows of some clips."""
        return self.shards.windows(indices)

    def groups(self, indices: Sequence[int]) -> list[str]:
        """Song of each clip, or the clip itself where no song is known."""
        both = (self.shards.column(name, indices) for name in ("song", "name"))
        return [song or name for song, name in zip(*both, strict=True)]

    def rows(self, indices: Sequence[int], probabilities: np.ndarray) -> list[dict[str, Any]]:
        """What was answered for some clips, (clips, classes), as plain data: a row a clip."""
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
        """Hash of the test clips' names: runs with the same hash were judged on the same clips."""
        return hash_names(self.shards.column("name", split.test))


def _require_same(root: Path, shards: ShardSet, config: Config) -> None:
    """Raise DataError or ConfigError if these settings need other features than there are."""
    for made, asked in ((shards.audio, config.audio), (shards.mel, config.mel)):
        for name, value in made.to_dict().items():
            if value != getattr(asked, name):
                option = name.replace("_", "-")
                raise DataError(
                    f"{root} was prepared with {name}={value}, not {getattr(asked, name)}; "
                    f"train with --{option} {value}, or prepare it again in a new folder"
                )
    if config.split.control != "none":
        raise ConfigError(
            f"control={config.split.control!r} needs clips, and {root} holds features alone; "
            "check the pipeline on a part of the clips, given as a CSV"
        )
    if config.split.baseline:
        raise ConfigError(
            f"an SVM beside the network needs clips, and {root} holds features alone; add --no-baseline"
        )
