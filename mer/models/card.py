"""The card of a checkpoint: what is needed to use its weights, and where they come from.

It is saved beside the weights as `card.json`, and as `card.md` for people. An ensemble has no weights of its
own but members, each a checkpoint in its own folder. This module does not import torch, so that listing
checkpoints is quick.
"""

import json
import reprlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from math import fsum, isclose, isfinite
from os import PathLike
from pathlib import Path
from typing import Any

from mer.config.inputs import networks_of
from mer.config.sections import Config
from mer.data.apart import MARKS, PARTED, leak_mark
from mer.data.cache.controls import CONTROLS
from mer.metrics.verdict import standing
from mer.utils.errors import CheckpointError, MerError
from mer.utils.files import as_path
from mer.utils.text import visible
from mer.utils.versions import CURRENT, upgraded

__all__ = [
    "CARD",
    "MOST_MEMBERS",
    "PAGE",
    "WEIGHTS",
    "Card",
    "Member",
    "find_checkpoints",
    "load_card",
    "member_folders",
    "page",
]

FORMAT = CURRENT["card"]
WEIGHTS, CARD, PAGE = "model.safetensors", "card.json", "card.md"
MAX_CARD = 4 * 2**20
MOST_MEMBERS = 16
LONGEST = 200  # characters of a name
MOST_NAMES = 2  # of joined networks in a title
DTYPES = ("float32", "float16")
OBJECTS = ("data", "split", "metrics", "calibration", "versions")
TEXTS = ("command", "created", "notes")
SONGS_BY = {
    "by sound": " guessed from sound, which misses up to a quarter of the pairs of clips of one song",
    "by name": " by file names",
}


@dataclass(frozen=True, slots=True)
class Member:
    """One network of an ensemble: its weight in the mean (0 to 1), its title, and the run that trained it."""

    weight: float
    title: str = ""
    run: str = ""


@dataclass(frozen=True, slots=True)
class Card:
    """Description of a checkpoint.

    Parameters
    ----------
    classes
        Names of the classes in the order of the network's outputs.
    config
        All settings of the run; for an ensemble, those of its first member.
    normalization
        "mean" and "std" in dB; 0 and 1 if each window is standardised on its own. Not used for an ensemble,
        since each member has its own.
    data
        The clips it was trained on: name, hash, synthetic, licence, counts.
    metrics
        Test scores with intervals.
    calibration
        The temperature that calibrates the probabilities (1 if none was fitted), and the numbers of
        validation songs and clips that it was fitted on.
    dtype
        Type of the saved weights.
    members
        At least two for an ensemble, with weights that sum to 1; else empty.
    """

    classes: tuple[str, ...]
    config: Config
    normalization: dict[str, float]
    data: dict[str, Any] = field(default_factory=dict)
    split: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, Any] = field(default_factory=dict)
    command: str = ""
    created: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    dtype: str = "float32"
    notes: str = ""
    members: tuple[Member, ...] = ()
    format: int = FORMAT

    @property
    def synthetic(self) -> bool:
        """True if the training data was generated."""
        return self.data.get("synthetic") is True

    @property
    def temperature(self) -> float:
        """The number that logits are divided by; see `mer.metrics.calibration`."""
        return self.calibration.get("temperature", 1.0)

    @property
    def title(self) -> str:
        """Backbone and data in a few words, and a mark if its scores cannot be trusted."""
        return f"{self.name} · {self.leak}" if self.leak else self.name

    @property
    def name(self) -> str:
        """Backbone and data in a few words."""
        names = networks_of(self.config.train.backbone)
        network = "+".join(names) if len(names) <= MOST_NAMES else f"{len(names)} joined networks"
        network = f"ensemble of {len(self.members)}" if self.members else network
        name = f"{network} · {self.data.get('name', 'unknown data')}"
        name = f"{name} · control: {self.control}" if self.control else name
        return visible(f"{name} (synthetic)" if self.synthetic else name)

    @property
    def control(self) -> str:
        """The kind of control run that made it, such as "shuffled labels"; empty if it was no control run."""
        return CONTROLS.get(self.config.split.control, "")

    @property
    def leak(self) -> str:
        """Whether its test songs were in training: one of `mer.data.apart.MARKS`."""
        split = {"group_by_song": self.config.split.group_by_song}
        return leak_mark(self.split.get("leak"), split, self.metrics)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for card.json."""
        changed = {"config": self.config.to_dict(), "classes": list(self.classes)}
        return asdict(self) | changed | {"members": [asdict(member) for member in self.members]}


def _problems(data: dict[str, Any]) -> Iterator[str]:
    """Problems of all fields but `config`, which is checked when it is parsed."""
    classes = data.get("classes")
    is_list = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
    if not is_list or len(set(classes)) < max(2, len(classes)):
        yield f"classes={reprlib.repr(classes)} should be a list of at least 2 different names"
    numbers = data.get("normalization")
    is_pair = isinstance(numbers, dict) and set(numbers) == {"mean", "std"}
    if (
        not is_pair
        or not all(type(n) is float and isfinite(n) for n in numbers.values())
        or numbers["std"] <= 0
    ):
        yield f"normalization={reprlib.repr(numbers)} should have numbers mean and std > 0"
    for kind, title, names in ((dict, "an object", OBJECTS), (str, "text", TEXTS)):
        for name in names:
            if not isinstance(data.get(name, kind()), kind):
                yield f"{name} should be {title}, not {type(data[name]).__name__}"
    for name in ("name", "licence"):
        text = (data.get("data") or {}).get(name)
        if not isinstance(text, str | None) or len(text or "") > LONGEST:
            yield f"data {name}={reprlib.repr(text)} should be text of at most {LONGEST} letters"
    yield from _problems_of_calibration(data.get("calibration") or {})
    if data.get("dtype", DTYPES[0]) not in DTYPES:
        yield f"dtype={reprlib.repr(data['dtype'])} should be {' or '.join(DTYPES)}"
    yield from _problems_of_members(data.get("members", []))


def _problems_of_calibration(fitted: dict[str, Any]) -> Iterator[str]:
    """Problems of `calibration`. Older cards have no counts of songs."""
    temperature = fitted.get("temperature", 1.0)
    if type(temperature) is not float or not 0 < temperature < float("inf"):
        yield f"temperature={reprlib.repr(temperature)} should be a number above 0"
    for name in ("songs", "clips"):
        if type(fitted.get(name, 0)) is not int or fitted.get(name, 0) < 0:
            yield f"calibration {name}={reprlib.repr(fitted[name])} should be a whole number, 0 or more"


def _problems_of_members(members: Any) -> Iterator[str]:
    """Problems of `members`. A single network has none."""
    if not isinstance(members, list):
        yield f"members={reprlib.repr(members)} should be a list"
        return
    if len(members) == 1 or len(members) > MOST_MEMBERS:
        yield f"{len(members)} members should be 2 to {MOST_MEMBERS}, or none"
        return
    for row in members:
        right = isinstance(row, dict) and row.keys() == set(Member.__dataclass_fields__)
        right = right and isinstance(row["title"], str) and isinstance(row["run"], str)
        if not right or type(row["weight"]) is not float or not 0 <= row["weight"] <= 1:
            yield f"member {reprlib.repr(row)} should have title, run and a weight from 0 to 1"
            return
    if members and not isclose(fsum(row["weight"] for row in members), 1, abs_tol=1e-6):
        yield f"weights {reprlib.repr([row['weight'] for row in members])} should sum to 1"


def _card_from(data: Any, path: Path) -> Card:
    """Make a Card from the content of card.json. Raises CheckpointError, which names the invalid field."""
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} is not a JSON object; export the checkpoint again")
    data = upgraded("card", data, data.get("format"), where=str(path), error=CheckpointError)
    data |= {"format": FORMAT}
    for problem in _problems(data):
        raise CheckpointError(f"{path}: {problem}; export the checkpoint again")
    unknown = set(data) - set(Card.__dataclass_fields__)
    if unknown:
        raise CheckpointError(
            f"{path}: unknown field {sorted(unknown)[0]!r}; was it made by a newer version?"
        )
    try:
        config = Config.from_dict(data["config"])
    except (MerError, KeyError) as error:
        raise CheckpointError(f"{path}: its config cannot be used ({error}); export it again") from error
    members = tuple(Member(**row) for row in data.get("members", []))
    made = {"config": config, "classes": tuple(data["classes"]), "members": members, "format": FORMAT}
    return Card(**data | made)


def member_folders(folder: Path, card: Card) -> tuple[Path, ...]:
    """The folders of an ensemble's members. Names follow from the order, so a card cannot name a path."""
    return tuple(folder / f"member-{number}" for number in range(1, len(card.members) + 1))


def load_card(folder: str | PathLike) -> Card:
    """Read and check a checkpoint's card, and those of an ensemble's members; raises CheckpointError."""
    folder = as_path(folder, "checkpoint")
    card = _read_card(folder)
    for place in member_folders(folder, card):
        if any(path.is_symlink() for path in (place, place / CARD, place / WEIGHTS)):
            raise CheckpointError(f"{place} is a link or contains one; copy the files into the ensemble")
        _require_fit(_read_card(place), card, place)
    return card


def _require_fit(member: Card, card: Card, place: Path) -> None:
    """Raise CheckpointError unless a network fits into the ensemble with that card."""
    own, whole = (part.config.audio for part in (member, card))
    if member.members:
        problem = "it is an ensemble; members must be single networks"
    elif member.classes != card.classes:
        problem = f"its classes {reprlib.repr(list(member.classes))} are not the ensemble's"
    elif own.sample_rate != whole.sample_rate:
        problem = f"its sample rate is {own.sample_rate} Hz, not {whole.sample_rate} Hz as of the ensemble"
    elif own.resampler != whole.resampler:
        problem = f"its resampler is {own.resampler}, not {whole.resampler} as of the ensemble"
    else:
        return
    raise CheckpointError(f"{place}: {problem}; make the ensemble again")


def _read_card(folder: Path) -> Card:
    """The card in a folder. Unless it is an ensemble's, the folder must have weights."""
    path = folder / CARD
    weights, first = folder / WEIGHTS, folder / "member-1"
    if not path.is_file() or not (weights.is_file() or first.is_dir()):
        raise CheckpointError(
            f"{folder}: not a checkpoint (no {CARD} with {WEIGHTS}); give an exported folder"
        )
    if path.stat().st_size > MAX_CARD:
        raise CheckpointError(f"{path} has {path.stat().st_size} bytes; a card has at most {MAX_CARD}")
    try:
        data = json.loads(path.read_text("utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); export the checkpoint again") from error
    card = _card_from(data, path)
    if not card.members and not weights.is_file():
        raise CheckpointError(f"{folder}: {WEIGHTS} is missing; export the checkpoint again")
    return card


def find_checkpoints(root: Path) -> Iterator[tuple[Path, Card]]:
    """Valid checkpoints directly below `root`, by name. Other folders are skipped."""
    for path in sorted(root.glob(f"*/{CARD}")):
        try:
            yield path.parent, load_card(path.parent)
        except CheckpointError:
            continue


def _lines_of_content(card: Card) -> list[str]:
    """Lines for the network or the members, classes, data and input."""
    train, data = card.config.train, card.data
    trained = {
        "head": "only the head",
        "classifier": "only the linear layers at the end",
        "last": "head and last stage",
        "none": "all of it",
    }[train.freeze]
    head = "ImageNet's output layer" if train.outputs == "imagenet" else f"head {train.head}"
    head += "" if train.solver == "steps" else f" solved by {train.solver}"
    network = f"{train.backbone}, {head}, {trained} trained, started from: {train.weights}"
    size = (
        f"{data.get('clips')} clips, {data.get('songs')} songs{SONGS_BY.get(str(data.get('grouping')), '')}"
    )
    audio = f"{card.config.audio.window_seconds:g} s windows at {card.config.audio.sample_rate} Hz"
    audio += f" ({card.config.audio.resampler})"
    audio += ", the first of each clip alone" if card.config.audio.only_first else ""
    about = [
        f"- classes: {', '.join(card.classes)}",
        f"- data: {data.get('name')}, {size}; licence: {data.get('licence') or 'not stated'}",
    ]
    if not card.members:
        return [f"- network: {network}", *about, f"- input: {audio}, {card.config.mel.n_mels} mel bands"]
    parts = [f"- member: {m.title}, run {m.run[:8]}, weight {m.weight:.0%}" for m in card.members]
    return ["- probabilities: the weighted mean of its members'", *parts, *about]


def page(card: Card) -> str:
    """The card as Markdown. Text from the card is escaped: it cannot contain HTML or begin a line."""
    rows = [f"# {card.title}", ""]
    if card.synthetic:
        rows += ["**Trained on synthetic music: for trying things out, not for judging real songs.**", ""]
    if card.control:
        rows += [f"**A control run ({card.control}): its answers mean nothing.**", ""]
    if card.leak:
        rows += [f"**{MARKS[card.leak]}**", ""]
    rows += _lines_of_content(card)
    try:
        rows += _lines_of_scores(card.metrics, ranked=card.leak != PARTED and not card.control)
    except (ArithmeticError, KeyError, TypeError, ValueError):  # a card from elsewhere may hold anything
        rows.append("- scores: not as mer writes them")
    rows += _lines_of_temperature(card)
    rows += [f"- made: {card.created[:10]} by `{card.command}`", f"- weights kept as {card.dtype}"]
    text = "\n".join([*map(visible, rows), "", visible(card.notes, keep="\n")])
    return text.replace("<", "&lt;").rstrip() + "\n"


def _lines_of_temperature(card: Card) -> list[str]:
    """A line for the temperature and what it was fitted on; none if it is 1."""
    if card.temperature == 1:
        return []
    counts = [f"{card.calibration[name]} {name}" for name in ("songs", "clips") if name in card.calibration]
    fitted = f", fitted on {' and '.join(counts)} of the validation part" if counts else ""
    return [f"- probabilities: logits divided by {card.temperature:.3g}{fitted}"]


def _lines_of_scores(scores: dict[str, Any], *, ranked: bool) -> list[str]:
    """Lines for the scores that there are, and, if `ranked`, whether they are above guessing and the SVM."""
    rows = []
    for name, value in (
        ("song_accuracy", "test, by song"),
        ("accuracy", "test, by clip"),
        ("window_accuracy", "test, by window"),
        ("macro_f1", "macro-F1"),
    ):
        if name in scores:
            low, high = scores["intervals"][name]
            rows.append(f"- {value}: {scores[name]:.0%} (95% interval {low:.0%} to {high:.0%})")
    if "majority" in scores:
        svm = f"an SVM by song {scores['svm']['song_accuracy']:.0%}, " if "svm" in scores else ""
        rows.append(
            f"- to compare: {svm}majority class {scores['majority']:.0%}, chance {scores['chance']:.0%}; "
            f"{scores['n_clips']} test clips of {scores['n_songs']} songs"
        )
        rows += [f"- by song, {standing(scores)}"] if ranked and "song_accuracy" in scores else []
    return rows
