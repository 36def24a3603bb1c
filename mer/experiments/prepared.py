"""The request for a run, and the prepared data that the run works on."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mer.config.sections import Config
from mer.data.apart import measured_leak
from mer.data.cache.controls import CONTROLS, donors, entry
from mer.data.cache.store import FeatureStore, is_content
from mer.data.check import Report, check
from mer.data.clips import is_sharded
from mer.data.load import load_dataset, reading
from mer.data.notes import tell
from mer.data.song_names import AUTO, NO_PATTERN
from mer.data.splits import Split, split_clips
from mer.data.windows import Windows, WindowSet
from mer.experiments.prepared_shards import PreparedShards
from mer.metrics.predictions import answer_row
from mer.utils.errors import ConfigError, RunError
from mer.utils.progress import Notify

if TYPE_CHECKING:
    from mer.audio.transforms import TrainTransform
    from mer.models.zoo import Classifier
    from mer.training.embeddings import KeptEmbeddings

__all__ = ["PreparedClips", "PreparedData", "Spec", "prepare"]


@dataclass(frozen=True, slots=True)
class Spec:
    """The request for a run, which is stored with it.

    Parameters
    ----------
    data
        Path of the data set: a folder, a zip, a CSV, or a sharded set.
    config
        All settings.
    label_column, song_column
        Columns of the CSV.
    song_pattern
        Pattern of file names that names songs; see `mer.data.load.load_dataset`.
    drop_conflicts
        Whether clips with the same audio in two classes are left out, not refused.
    command
        The command line that started the run.
    ladder, rung
        The ladder that the run is part of, and its rung (`study2022.ladder`); empty for other runs.
    """

    data: str
    config: Config
    label_column: str = "label"
    song_column: str = "song"
    command: str = ""
    ladder: str = ""
    rung: str = ""
    song_pattern: str = AUTO
    drop_conflicts: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self) | {"config": self.config.to_dict()}

    @property
    def reading(self) -> dict[str, str]:
        """The keyword arguments of `load_dataset` for this data set."""
        return reading(self)

    def name(self, data: str) -> str:
        """The name of its run on the data set named `data`."""
        control = CONTROLS.get(self.config.split.control)
        parts = [f"{self.config.train.backbone} {data}", self.rung, f"control: {control}" if control else ""]
        return " · ".join(filter(None, parts))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Spec":
        """The inverse of `to_dict`; raises ConfigError or RunError. Older runs had no pattern for songs."""
        try:
            return cls(**{"song_pattern": NO_PATTERN} | data | {"config": Config.from_dict(data["config"])})
        except (KeyError, TypeError) as error:
            raise RunError(f"this run's settings cannot be read ({error}); start a new run") from error


class PreparedData(Protocol):
    """The data of a run: clips that were checked, with their features.

    Clips are named by their index. `store` is where features and embeddings are kept, `config` the settings
    that they were made with.
    """

    store: FeatureStore
    config: Config

    @property
    def classes(self) -> tuple[str, ...]:
        """Labels in the order of the network's outputs."""

    @property
    def about(self) -> dict[str, Any]:
        """Name, hash, licence, and numbers of clips and songs, for the card of a model."""

    @property
    def notes(self) -> str:
        """Remarks of the data set, such as the meaning of its labels."""

    @property
    def left_out(self) -> int:
        """Number of files that cannot be used."""

    @property
    def voted(self) -> bool:
        """True if listeners' votes are learned in place of labels."""

    @property
    def control(self) -> str:
        """The kind of control run (see `mer.data.cache.controls`), or "none"."""

    def windows(self, indices: Sequence[int]) -> Windows:
        """The windows of some clips."""

    def content(self, index: int) -> bytes | None:
        """The bytes of a clip's file; None if the file has changed, or was not used as it is."""

    def groups(self, indices: Sequence[int]) -> list[str]:
        """Song of each clip, or the clip itself if its song is unknown."""

    def classes_of(self, indices: Sequence[int]) -> set[str]:
        """The classes of some clips."""

    def rows(self, indices: Sequence[int], probabilities: np.ndarray) -> list[dict[str, Any]]:
        """Predictions (clips, classes) as plain data, one row per clip."""

    def split(self, config: Config) -> Split:
        """Train, validation and test clips; raises SplitError."""

    def test_hash(self, split: Split) -> str:
        """Hash of the test clips' names. Runs with the same hash were tested on the same clips."""

    def leak(self, split: Split) -> str:
        """Whether test songs are also in the other parts: one of `mer.data.apart.MARKS`."""

    def embeddings(self, model: "Classifier", transform: "TrainTransform") -> "KeptEmbeddings":
        """The store's embeddings of a frozen network."""


@dataclass(frozen=True, slots=True)
class PreparedClips:
    """Clips whose features are in the store. See `PreparedData` for the methods."""

    report: Report
    store: FeatureStore
    config: Config

    @property
    def classes(self) -> tuple[str, ...]:
        """Labels in the order of the network's outputs."""
        return self.report.dataset.classes

    @property
    def about(self) -> dict[str, Any]:
        """Name, hash, licence, and numbers of clips and songs, for the card of a model."""
        report = self.report
        naming, remark = report.dataset.naming, report.grouping.remark
        special = {"song_pattern": naming and naming.pattern, "grouping_remark": remark}
        return {
            "name": report.dataset.name,
            "hash": report.content_hash(),
            "sound": report.sound_hash(),
            "synthetic": report.dataset.synthetic,
            "licence": report.dataset.licence,
            "clips": len(report.facts),
            "songs": report.songs(),
            "grouping": report.grouping.source,
        } | {key: text for key, text in special.items() if text}

    @property
    def notes(self) -> str:
        """Remarks of the data set, such as the meaning of its labels."""
        return self.report.dataset.notes

    @property
    def left_out(self) -> int:
        """Number of files that cannot be used."""
        return len(self.report.left_out)

    @property
    def voted(self) -> bool:
        """True if listeners' votes are learned in place of labels."""
        return bool(self.report.dataset.order)

    @property
    def control(self) -> str:
        """The kind of control run (see `mer.data.cache.controls`), or "none"."""
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

    def content(self, index: int) -> bytes | None:
        """The bytes of a clip's file; None if the file has changed, or was replaced in a control run."""
        if self.control in ("silence", "noise"):
            return None
        try:
            content = self.report.dataset.clips[index].path.read_bytes()
        except OSError:
            return None
        return content if is_content(content, self.report.facts[index].file_hash) else None

    def groups(self, indices: Sequence[int]) -> list[str]:
        """Song of each clip, or the clip itself if its song is unknown."""
        clips = self.report.dataset.clips
        return [clips[i].song or clips[i].id for i in indices]

    def classes_of(self, indices: Sequence[int]) -> set[str]:
        """The classes of some clips."""
        return {self.report.dataset.clips[i].label for i in indices}

    def rows(self, indices: Sequence[int], probabilities: np.ndarray) -> list[dict[str, Any]]:
        """Predictions (clips, classes) as plain data, one row per clip."""
        clips = self.report.dataset.clips
        return [
            answer_row(clips[index].id, clips[index].song, clips[index].label, shares, self.classes)
            | ({"votes": list(clips[index].votes)} if self.voted else {})
            for index, shares in zip(indices, probabilities, strict=True)
        ]

    def split(self, config: Config) -> Split:
        """Train, validation and test clips; raises SplitError."""
        return split_clips(self.report.dataset.clips, config.split)

    def test_hash(self, split: Split) -> str:
        """Hash of the test clips' names. Runs with the same hash were tested on the same clips."""
        return split.to_hash(self.report.dataset.clips)

    def leak(self, split: Split) -> str:
        """Whether test songs are also in the other parts: one of `mer.data.apart.MARKS`."""
        return measured_leak([clip.song or "" for clip in self.report.dataset.clips], split)

    def embeddings(self, model: "Classifier", transform: "TrainTransform") -> "KeptEmbeddings":
        """The store's embeddings of a frozen network."""
        from mer.training.embeddings import KeptEmbeddings  # imports torchvision, which takes seconds

        return KeptEmbeddings.for_model(
            self.store, model, transform, audio=self.config.audio, mel=self.config.mel
        )


def prepare(spec: Spec, *, notify: Notify | None = None, workers: int | None = None) -> PreparedData:
    """Read, decode and check the data set, and fill the feature store. Each new clip is decoded once.

    A sharded set has its features already and is only opened.

    Parameters
    ----------
    spec
        The request.
    notify
        Called with (title, done, total).
    workers
        Number of processes. Default: one per core.

    Raises
    ------
    DataError
        If the data set cannot be used.
    ConfigError
        If the settings need something that a sharded set does not have.
    """
    if is_sharded(Path(spec.data)):
        if spec.song_pattern not in (AUTO, NO_PATTERN):
            raise ConfigError("--song-pattern has no effect on a sharded set; prepare it with a column song")
        return PreparedShards.open(Path(spec.data), spec.config)
    dataset = load_dataset(Path(spec.data), **spec.reading).require_trainable()
    store, config, control = FeatureStore.default(), spec.config, spec.config.split.control
    progress = (lambda done, total: notify("preparing clips", done, total)) if notify else None
    paths = [clip.path for clip in dataset.clips]
    settings = {"audio": config.audio, "mel": config.mel, "control": control}
    store.prepare(paths, **settings, workers=workers, progress=progress)
    report = check(
        dataset,
        store,
        group=config.split.group_by_song,
        conflicts="drop" if spec.drop_conflicts else "refuse",
        split=config.split,
        workers=workers,
        progress=notify,
    )
    tell(report, notify)
    if control == "labels":
        report = _shuffled(report, seed=config.split.seed)
    return PreparedClips(report, store, config)


def _shuffled(report: Report, *, seed: int) -> Report:
    """The same clips with their labels shuffled over songs."""
    clips = report.dataset.clips
    givers = donors([clip.label for clip in clips], [clip.song or clip.id for clip in clips], seed=seed)
    mixed = tuple(
        replace(clip, label=clips[i].label, votes=clips[i].votes)
        for clip, i in zip(clips, givers, strict=True)
    )
    return replace(report, dataset=replace(report.dataset, clips=mixed).require_trainable())
