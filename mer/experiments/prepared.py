"""What a run is asked to do, and the checked clips and features that it works on."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mer.config.sections import Config
from mer.data.cache.controls import CONTROLS, donors, entry
from mer.data.cache.store import FeatureStore
from mer.data.check import Report, check
from mer.data.clips import is_sharded
from mer.data.load import load_dataset
from mer.data.splits import Split, split_clips
from mer.data.windows import WindowSet
from mer.experiments.prepared_shards import ShardedMaterial
from mer.metrics.predictions import answer_row
from mer.utils.errors import RunError

__all__ = ["Material", "Notify", "Spec", "prepare"]

Notify = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Spec:
    """What is asked for: the data, how to read it, all settings, and the command that asked.

    `ladder` and `rung` name the ladder that the run is a part of, if it is (`study2022.ladder`).
    """

    data: str
    config: Config
    label_column: str = "label"
    song_column: str = "song"
    command: str = ""
    ladder: str = ""
    rung: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self) | {"config": self.config.to_dict()}

    def name(self, data: str) -> str:
        """What to call its run on the data set of that name."""
        control = CONTROLS.get(self.config.split.control)
        said = [self.rung, f"control: {control}" if control else ""]
        return " · ".join(filter(None, [f"{self.config.train.backbone} {data}", *said]))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Spec":
        """The inverse of `to_dict`; raises ConfigError or RunError."""
        try:
            return cls(**data | {"config": Config.from_dict(data["config"])})
        except (KeyError, TypeError) as error:
            raise RunError(f"this run's settings cannot be read ({error}); start a new run") from error


@dataclass(frozen=True, slots=True)
class Material:
    """Checked clips whose features are in the store."""

    report: Report
    store: FeatureStore
    config: Config

    @property
    def classes(self) -> tuple[str, ...]:
        """Labels in the order of the network's outputs."""
        return self.report.dataset.classes

    @property
    def about(self) -> dict[str, Any]:
        """What the clips are, as the card of a model keeps it."""
        report = self.report
        return {
            "name": report.dataset.name,
            "hash": report.content_hash(),
            "sound": report.sound_hash(),
            "synthetic": report.dataset.synthetic,
            "licence": report.dataset.licence,
            "clips": len(report.facts),
            "songs": report.songs(),
            "grouping": report.grouping.source,
        }

    @property
    def notes(self) -> str:
        """What the labels mean, say."""
        return self.report.dataset.notes

    @property
    def voted(self) -> bool:
        """True where listeners' votes are learned in place of labels."""
        return bool(self.report.dataset.order)

    @property
    def control(self) -> str:
        """What makes this a control run (see `mer.data.cache.controls`), or "none"."""
        return self.config.split.control

    def windows(self, indices: Sequence[int]) -> WindowSet:
        """The windows of some clips."""
        facts, clips, config = self.report.facts, self.report.dataset.clips, self.config
        settings = {"audio": config.audio, "mel": config.mel, "control": self.control}
        return WindowSet(
            [self.store.load(facts[i], **settings) for i in indices],
            [self.classes.index(clips[i].label) for i in indices],
            classes=len(self.classes),
            hashes=[entry(self.control, facts[i].file_hash) for i in indices],
            votes=[clips[i].votes for i in indices] if self.voted else None,
        )

    def groups(self, indices: Sequence[int]) -> list[str]:
        """Song of each clip, or the clip itself where no song is known."""
        clips = self.report.dataset.clips
        return [clips[i].song or clips[i].id for i in indices]

    def rows(self, indices: Sequence[int], probabilities: np.ndarray) -> list[dict[str, Any]]:
        """What was answered for some clips, (clips, classes), as plain data: a row a clip."""
        clips = self.report.dataset.clips
        return [
            answer_row(clips[index].id, clips[index].song, clips[index].label, shares, self.classes)
            | ({"votes": list(clips[index].votes)} if self.voted else {})
            for index, shares in zip(indices, probabilities, strict=True)
        ]

    def split(self, config: Config) -> Split:
        """Train, validation and test clips."""
        return split_clips(self.report.dataset.clips, config.split)

    def test_hash(self, split: Split) -> str:
        """Hash of the test clips' names: runs with the same hash were judged on the same clips."""
        return split.to_hash(self.report.dataset.clips)


def prepare(
    spec: Spec, *, notify: Notify | None = None, workers: int | None = None
) -> Material | ShardedMaterial:
    """Read, decode and check the data set and fill the feature store; decodes each new clip once.

    A sharded set has all that already and is only opened.
    """
    if is_sharded(Path(spec.data)):
        return ShardedMaterial.open(Path(spec.data), spec.config)
    dataset = load_dataset(
        Path(spec.data), label_column=spec.label_column, song_column=spec.song_column
    ).require_trainable()
    store, config, control = FeatureStore.default(), spec.config, spec.config.split.control
    progress = (lambda done, total: notify("preparing clips", done, total)) if notify else None
    paths = [clip.path for clip in dataset.clips]
    settings = {"audio": config.audio, "mel": config.mel, "control": control}
    store.prepare(paths, **settings, workers=workers, progress=progress)
    report = check(dataset, store, group=config.split.group_by_song, workers=workers, progress=notify)
    if control == "labels":
        report = _shuffled(report, seed=config.split.seed)
    return Material(report, store, config)


def _shuffled(report: Report, *, seed: int) -> Report:
    """The same clips with their labels shuffled over songs."""
    clips = report.dataset.clips
    givers = donors([clip.label for clip in clips], [clip.song or clip.id for clip in clips], seed=seed)
    mixed = tuple(
        replace(clip, label=clips[i].label, votes=clips[i].votes)
        for clip, i in zip(clips, givers, strict=True)
    )
    return replace(report, dataset=replace(report.dataset, clips=mixed).require_trainable())
