"""Check a data set: which clips are usable, why others are not, and which clips share a song."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from mer.audio.decode import load
from mer.config.sections import AudioConfig
from mer.data.cache.store import Facts, FeatureStore
from mer.data.clips import Clip, Dataset
from mer.utils.errors import DataError
from mer.utils.files import home, read_kept, write_atomic
from mer.utils.parallel import process_map
from mer.utils.progress import Notify

__all__ = ["Grouping", "Report", "check", "group_by_sound"]

GROUPS_VERSION = 2


@dataclass(frozen=True, slots=True)
class Grouping:
    """How the songs of the clips were found.

    Parameters
    ----------
    source
        "by hand" (from the manifest), "by sound" (from similarity) or "none".
    links
        Pairs of clips that were linked by their sound: (clip, clip, similarity, evidence).
    confidence
        For each group of two or more clips, the confidence that they are one song, 0 to 1.
    thresholds
        The lowest similarity that links two clips, for each kind of evidence.
    """

    source: str
    links: tuple[tuple[str, str, float, str], ...] = ()
    confidence: dict[str, float] = field(default_factory=dict)
    thresholds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Report:
    """A data set after the check: only usable clips, and each audio once.

    Parameters
    ----------
    dataset
        The data set with the usable clips.
    facts
        One entry for each clip of `dataset.clips`, in the same order.
    left_out
        (id, reason) of each file that is not used.
    duplicates
        (kept id, dropped id) of each clip with the same audio as an earlier clip.
    grouping
        How the songs were found.
    """

    dataset: Dataset
    facts: tuple[Facts, ...]
    left_out: tuple[tuple[str, str], ...]
    duplicates: tuple[tuple[str, str], ...]
    grouping: Grouping

    def content_hash(self) -> str:
        """Hash of the audio and labels of all clips. File names and order do not matter."""
        rows = sorted(
            f"{f.content_hash} {clip.label}{clip.votes or ''}"
            for f, clip in zip(self.facts, self.dataset.clips, strict=True)
        )
        return blake2b("\n".join(rows).encode(), digest_size=8).hexdigest()

    def sound_hash(self) -> str:
        """Hash of the audio of all clips, without their labels."""
        hashes = sorted(facts.content_hash for facts in self.facts)
        return blake2b("\n".join(hashes).encode(), digest_size=8).hexdigest()

    def songs(self) -> int:
        """Number of known songs. A clip without a song counts as one song."""
        return len({clip.song or clip.id for clip in self.dataset.clips})

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data for JSON and pages. Durations are in seconds."""
        seconds = sorted(f.seconds for f in self.facts)
        groups = Counter(clip.song for clip in self.dataset.clips if clip.song)
        return {
            "name": self.dataset.name,
            "synthetic": self.dataset.synthetic,
            "hash": self.content_hash(),
            "clips": len(self.facts),
            "classes": self.dataset.class_counts(),
            "songs": self.songs(),
            "seconds": {
                "total": round(sum(seconds), 2),
                "min": round(seconds[0], 2),
                "median": round(seconds[len(seconds) // 2], 2),
                "max": round(seconds[-1], 2),
            },
            "sample_rates": {str(k): n for k, n in sorted(Counter(f.rate for f in self.facts).items())},
            "channels": {str(k): n for k, n in sorted(Counter(f.channels for f in self.facts).items())},
            "left_out": [{"file": name, "reason": reason} for name, reason in self.left_out],
            "remarks": [
                {"file": clip.id, "remarks": list(fact.remarks)}
                for clip, fact in zip(self.dataset.clips, self.facts, strict=True)
                if fact.remarks
            ],
            "duplicates": [{"kept": kept, "dropped": dropped} for kept, dropped in self.duplicates],
            "grouping": asdict(self.grouping) | {"groups": sum(n > 1 for n in groups.values())},
        }


def check(
    dataset: Dataset,
    store: FeatureStore,
    *,
    group: bool = True,
    trainable: bool = True,
    workers: int | None = None,
    progress: Notify | None = None,
) -> Report:
    """Decode every clip, drop unusable ones, and group the rest by sound if their songs are unknown.

    Clips that the store knows are not decoded again.

    Parameters
    ----------
    dataset
        The clips to check.
    store
        The feature store, which keeps the results of decoding.
    group
        Whether to group clips by sound if some have no song.
    trainable
        Whether the data set must be large enough to train on.
    workers
        Number of worker processes. Default: one per core.
    progress
        Called with (title, done, total).

    Raises
    ------
    DataError
        If the same audio has two labels, if no clip is usable, or, if `trainable`, when fewer than 2 classes
        or fewer than 2 clips in a class are left.
    """
    facts = store.facts(
        [clip.path for clip in dataset.clips], workers=workers, progress=_titled(progress, "decoding")
    )
    left_out = list(dataset.left_out)
    pairs = []
    for clip, fact in zip(dataset.clips, facts, strict=True):
        if fact.reason:
            left_out.append((clip.id, fact.reason))
        else:
            pairs.append((clip, fact))
    pairs, duplicates = _without_duplicates(pairs)
    usable = replace(dataset, clips=tuple(clip for clip, _ in pairs))
    if trainable:
        usable.require_trainable()
    elif not pairs:
        raise DataError(
            f"{dataset.root}: no usable clip; the first problem: {left_out[0][0]}, {left_out[0][1]}"
        )
    report = Report(
        usable, tuple(fact for _, fact in pairs), tuple(left_out), tuple(duplicates), Grouping("by hand")
    )
    if usable.songs_known:
        return report
    if not group:
        return replace(report, grouping=Grouping("none"))
    return group_by_sound(report, workers=workers, progress=progress)


def _titled(progress: Notify | None, title: str) -> Callable[[int, int], None] | None:
    """A function `progress(done, total)` that reports under a title."""
    return (lambda done, total: progress(title, done, total)) if progress else None


def _without_duplicates(
    pairs: list[tuple[Clip, Facts]],
) -> tuple[list[tuple[Clip, Facts]], list[tuple[str, str]]]:
    """Keep the first of the clips with equal audio. Raises DataError if their labels differ."""
    first: dict[str, Clip] = {}
    kept, duplicates, conflicts = [], [], []
    for clip, fact in pairs:
        known = first.setdefault(fact.content_hash, clip)
        if known is clip:
            kept.append((clip, fact))
        elif known.label == clip.label:
            duplicates.append((known.id, clip.id))
        else:
            conflicts.append(f"{known.id} ({known.label}) = {clip.id} ({clip.label})")
    if conflicts:
        raise DataError(
            f"the same audio is in two classes {len(conflicts)} time(s): {'; '.join(conflicts[:3])}; "
            "remove one of each"
        )
    return kept, duplicates


def _fingerprint(path: Path) -> Any:
    from mer.data.similarity import fingerprint  # imports librosa, which takes a second

    audio = AudioConfig(resampler="sinc")  # fixed: if groups changed, so would splits
    return fingerprint(load(path, audio), audio.sample_rate)


def group_by_sound(report: Report, *, workers: int | None = None, progress: Notify | None = None) -> Report:
    """Give each clip without a song the name of its group: the clips that share audio or sound alike.

    A group that contains a song given by hand takes that song's name. Other groups are numbered in the order
    of their first clip's name, because splits depend on the names of songs. The result is stored under
    MER_HOME by the hash of audio and labels, so the same data set is grouped only once.

    Parameters
    ----------
    report
        A checked data set.
    workers
        Number of worker processes. Default: one per core.
    progress
        Called with (title, done, total).

    Returns
    -------
    Report
        The same report with songs filled in and `grouping` set.
    """
    place = home() / "groups" / f"{report.content_hash()}.json"
    contents = {facts.content_hash for facts in report.facts}
    found = read_kept(place, lambda found: found if _is_whole(found, contents) else None)
    if found is None:
        found = _find_groups(report, workers, progress)
        write_atomic(place, json.dumps(found))
    titles: dict[int, str] = {}
    for _, content in sorted(
        (clip.id, fact.content_hash) for clip, fact in zip(report.dataset.clips, report.facts, strict=True)
    ):
        titles.setdefault(found["groups"][content], f"group {len(titles)}")
    names = {content: titles[number] for content, number in found["groups"].items()}
    by_hand = defaultdict(set)
    for clip, fact in zip(report.dataset.clips, report.facts, strict=True):
        if clip.song:
            by_hand[names[fact.content_hash]].add(clip.song)
    songs, ids = {}, {}
    for clip, fact in zip(report.dataset.clips, report.facts, strict=True):
        name = names[fact.content_hash]
        ids[fact.content_hash] = clip.id
        songs[clip.id] = min(by_hand[name]) if by_hand[name] else name
    links = tuple((ids[a], ids[b], round(s, 3), evidence) for a, b, s, evidence in found["links"])
    confidence = {titles[int(number)]: value for number, value in found["confidence"].items()}
    return replace(
        report,
        dataset=report.dataset.with_songs(songs),
        grouping=Grouping("by sound", links, confidence, found["thresholds"]),
    )


def _find_groups(report: Report, workers: int | None, progress: Notify | None) -> dict[str, Any]:
    """Compare all clips by sound. Returns the groups as plain data, with clips named by content hash."""
    from mer.data.similarity import SAME_AUDIO, SOUNDS_ALIKE, group

    hashes = [fact.content_hash for fact in report.facts]
    prints = process_map(
        _fingerprint,
        [clip.path for clip in report.dataset.clips],
        workers=workers,
        progress=_titled(progress, "comparing clips by sound"),
    )
    groups = group(prints)
    sizes = Counter(groups.labels)
    return {
        "version": GROUPS_VERSION,
        "thresholds": {"same audio": SAME_AUDIO, "sounds alike": SOUNDS_ALIKE},
        "groups": dict(zip(hashes, groups.labels, strict=True)),
        "links": [[hashes[p.first], hashes[p.second], float(p.similarity), p.evidence] for p in groups.pairs],
        "confidence": {
            str(number): float(value) for number, value in enumerate(groups.confidence) if sizes[number] > 1
        },
    }


def _is_whole(found: dict[str, Any], contents: set[str]) -> bool:
    """True if `found` is complete, is of this version, and groups exactly these contents."""
    groups, numbers = found["groups"], set(found["groups"].values())
    right = found["version"] == GROUPS_VERSION and set(groups) == contents
    right = right and all(type(number) is int for number in numbers)
    links = all(
        {a, b} <= contents and type(s) is float and isinstance(evidence, str)
        for a, b, s, evidence in found["links"]
    )
    sure = all(int(key) in numbers and type(value) is float for key, value in found["confidence"].items())
    return right and links and sure and isinstance(found["thresholds"], dict)
