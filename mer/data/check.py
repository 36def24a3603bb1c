"""Check a data set: which clips are usable, why others are not, and which clips share a song."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

from mer.audio.decode import load
from mer.config.sections import AudioConfig, SplitConfig
from mer.data.cache.store import Facts, FeatureStore
from mer.data.clips import Dataset
from mer.data.duplicates import conflict_text, pair_to_dict, without_conflicts, without_duplicates
from mer.data.splits import split_fault
from mer.utils.errors import DataError
from mer.utils.files import home, read_kept, write_atomic
from mer.utils.parallel import process_map
from mer.utils.progress import Notify

__all__ = ["GUESSED", "Grouping", "Report", "check", "group_by_sound", "one_class"]

GROUPS_VERSION = 2
GUESSED = (  # figures: docs/data.md
    "guessed from sound; up to a quarter of the pairs of clips of one song is missed, so that clips of one "
    "song may still be in both training and test"
)
KINDS = ("same audio", "sounds alike")
WAYS = {"by name": "from file names", "by sound": "from sound"}
GIVEN_UP = (
    "The songs guessed {} made the split impossible ({}), so {}. This can raise scores: name the songs."
)


@dataclass(frozen=True, slots=True)
class Grouping:
    """How the songs of the clips were found.

    Parameters
    ----------
    source
        "by hand" (from the manifest), "by name" (from file names), "by sound" (guessed from similarity) or
        "none".
    links
        Pairs of clips that were linked by their sound: (clip, clip, similarity, evidence).
    confidence
        For each group of two or more clips, the confidence that they are one song, 0 to 1.
    thresholds
        The lowest similarity that links two clips, for each kind of evidence.
    remark
        A sentence, if guessed songs were given up because they made a split impossible.
    """

    source: str
    links: tuple[tuple[str, str, float, str], ...] = ()
    confidence: dict[str, float] = field(default_factory=dict)
    thresholds: dict[str, float] = field(default_factory=dict)
    remark: str = ""


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
    conflicts
        (id, class, id, class) of each two clips with the same audio in two classes.
    """

    dataset: Dataset
    facts: tuple[Facts, ...]
    left_out: tuple[tuple[str, str], ...]
    duplicates: tuple[tuple[str, str], ...]
    grouping: Grouping
    conflicts: tuple[tuple[str, str, str, str], ...] = ()

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
            "remarked": [
                {"file": clip.id, "remarks": list(fact.remarks)}
                for clip, fact in zip(self.dataset.clips, self.facts, strict=True)
                if fact.remarks
            ],
            "duplicates": [{"kept": kept, "dropped": dropped} for kept, dropped in self.duplicates],
            "grouping": asdict(self.grouping) | {"groups": sum(n > 1 for n in groups.values())},
            "conflicts": [pair_to_dict(pair) for pair in self.conflicts],
            "remarks": list(self.dataset.remarks),
            "song_pattern": self.dataset.naming and self.dataset.naming.to_dict(),
            "offered_pattern": self.dataset.offered and self.dataset.offered.to_dict(),
        }


def check(
    dataset: Dataset,
    store: FeatureStore,
    *,
    group: bool = True,
    trainable: bool = True,
    conflicts: Literal["refuse", "drop", "list"] = "refuse",
    split: SplitConfig | None = None,
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
    conflicts
        What to do if the same audio has two labels: raise DataError, leave out all clips with that audio, or
        keep them and only list them.
    split
        How the clips will be split. Guessed songs that make this impossible are given up: first those that
        only sound alike, then all.
    workers
        Number of worker processes. Default: one per core.
    progress
        Called with (title, done, total).

    Raises
    ------
    DataError
        If the same audio has two labels (and `conflicts` is "refuse"), if no clip is usable, or, if
        `trainable`, when fewer than 2 classes or fewer than 2 clips in a class are left.
    """
    facts = store.facts(
        [clip.path for clip in dataset.clips], workers=workers, progress=_titled(progress, "decoding")
    )
    both = list(zip(dataset.clips, facts, strict=True))
    left_out = [*dataset.left_out, *((clip.id, fact.reason) for clip, fact in both if fact.reason)]
    pairs, duplicates, twice = without_duplicates([pair for pair in both if not pair[1].reason])
    if twice and conflicts == "refuse":
        raise DataError(conflict_text(twice))
    if twice and conflicts == "drop":
        pairs, dropped = without_conflicts(pairs, twice)
        left_out += dropped
    usable = _with_remarks(replace(dataset, clips=tuple(clip for clip, _ in pairs)), dataset)
    if trainable:
        usable.require_trainable()
    elif not pairs:
        raise DataError(
            f"{dataset.root}: no usable clip; the first problem: {left_out[0][0]}, {left_out[0][1]}"
        )
    source = "by name" if usable.naming else "by hand" if usable.songs_known else "none"
    facts = tuple(fact for _, fact in pairs)
    report = Report(usable, facts, tuple(left_out), tuple(duplicates), Grouping(source), tuple(twice))
    if not group:
        return report
    if split is None:
        return report if usable.songs_known else group_by_sound(report, workers=workers, progress=progress)
    return _that_splits(report, split, workers, progress)


def _with_remarks(usable: Dataset, whole: Dataset) -> Dataset:
    """The usable clips of a data set, with remarks on classes that are lost and on a given test part."""
    lost = {clip.label for clip in whole.clips} - {clip.label for clip in usable.clips}
    remarks = [f"No clip of the class {label!r} can be used." for label in sorted(lost)]
    tested = {clip.label for clip in usable.clips if clip.split == "test"}
    remarks += [one_class(next(iter(tested)))] if len(tested) == 1 else []
    return replace(usable, remarks=(*usable.remarks, *remarks))


def one_class(label: str) -> str:
    """The remark on a test part that holds a single class."""
    return (
        f"The test part holds only the class {label!r}; its scores say nothing about telling classes apart."
    )


def _that_splits(report: Report, split: SplitConfig, workers: int | None, progress: Notify | None) -> Report:
    """The report with the first of the ways to know songs by which the clips can be split.

    Songs that were guessed, from names or sound, are given up if the split is impossible with them. If it is
    impossible in any way, the report is that of the first way, so that the error is about that.
    """
    if report.dataset.songs_known and not (report.dataset.naming and report.dataset.naming.automatic):
        return report
    first = fault = None
    for found in _ways(report, workers, progress):
        reason = split_fault(found.dataset.clips, split)
        if not reason and not first:
            return found
        if not reason:
            remark = GIVEN_UP.format(WAYS[first.grouping.source], fault, _way(found))
            return replace(found, grouping=replace(found.grouping, remark=remark))
        first, fault = first or found, fault or reason
    return first


def _ways(report: Report, workers: int | None, progress: Notify | None) -> Iterator[Report]:
    """The report with songs by name, by sound, by equal sound alone, and without guessed songs."""
    if report.dataset.songs_known:
        yield report
    bare = replace(report, dataset=report.dataset.unnamed(), grouping=Grouping("none"))
    for kinds in (KINDS, KINDS[:1]):
        yield group_by_sound(bare, kinds=kinds, workers=workers, progress=progress)
    yield bare


def _way(found: Report) -> str:
    """How the songs of a report were found in the end, as part of a sentence."""
    kinds = {kind for *_, kind in found.grouping.links}
    if found.grouping.source == "none":
        return "each clip counts as a song"
    return (
        "they are guessed from sound instead"
        if KINDS[1] in kinds
        else "only clips that share audio are one song"
    )


def _titled(progress: Notify | None, title: str) -> Callable[[int, int], None] | None:
    """A function `progress(done, total)` that reports under a title."""
    return (lambda done, total: progress(title, done, total)) if progress else None


def _fingerprint(path: Path) -> Any:
    from mer.data.similarity import fingerprint  # imports librosa, which takes a second

    audio = AudioConfig(resampler="sinc")  # fixed: if groups changed, so would splits
    return fingerprint(load(path, audio), audio.sample_rate)


def group_by_sound(
    report: Report,
    *,
    kinds: Sequence[str] = KINDS,
    workers: int | None = None,
    progress: Notify | None = None,
) -> Report:
    """Give each clip without a song the name of its group: the clips that share audio or sound alike.

    A group that contains a song given by hand takes that song's name. Other groups are numbered in the order
    of their first clip's name, because splits depend on the names of songs. The result is stored under
    MER_HOME by the hash of audio and labels, so the same data set is grouped only once.

    Parameters
    ----------
    report
        A checked data set.
    kinds
        The kinds of evidence that are used: both, or "same audio" alone.
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
    if tuple(kinds) != KINDS:
        found = _of_kinds(found, kinds)
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


def _of_kinds(found: dict[str, Any], kinds: Sequence[str]) -> dict[str, Any]:
    """The groups that links of these kinds make, without confidences."""
    links = [link for link in found["links"] if link[3] in kinds]
    number = {content: place for place, content in enumerate(found["groups"])}
    for first, second, *_ in links:
        gone, stays = number[first], number[second]
        number = {content: stays if group == gone else group for content, group in number.items()}
    return found | {
        "groups": number,
        "links": links,
        "confidence": {},
        "thresholds": {kind: value for kind, value in found["thresholds"].items() if kind in kinds},
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
