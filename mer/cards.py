"""The card of a checkpoint: all that is needed to use its weights, and where they come from.

Kept as `card.json` beside the weights, and as `card.md` for people. Nothing here imports torch, so that
listing checkpoints is quick.
"""

import json
import reprlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from mer.config import Config
from mer.controls import CONTROLS
from mer.errors import CheckpointError, MerError

__all__ = ["CARD", "PAGE", "WEIGHTS", "Card", "find_checkpoints", "load_card", "page"]

FORMAT = 1
WEIGHTS, CARD, PAGE = "model.safetensors", "card.json", "card.md"
MAX_CARD = 4 * 2**20
DTYPES = ("float32", "float16")
OBJECTS = ("data", "split", "metrics", "calibration", "versions")
TEXTS = ("command", "created", "notes")


@dataclass(frozen=True, slots=True)
class Card:
    """What is known of a checkpoint.

    `normalization` is {"mean", "std"} in dB, 0 and 1 where each window has its own; `data` describes the
    clips it was trained on (name, hash, synthetic, licence, counts); `metrics` are the test scores with
    intervals; `calibration` holds the temperature (1 where there is none) that probabilities need to mean
    what they say, and the number of validation clips it was fitted on.
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
    format: int = FORMAT

    @property
    def synthetic(self) -> bool:
        """True if the training data was generated."""
        return self.data.get("synthetic") is True

    @property
    def temperature(self) -> float:
        """What logits are divided by; see `mer.calibration`."""
        return self.calibration.get("temperature", 1.0)

    @property
    def title(self) -> str:
        """Backbone and data in a few words."""
        name = f"{self.config.train.backbone} · {self.data.get('name', 'unknown data')}"
        name = f"{name} · control: {self.control}" if self.control else name
        return f"{name} (synthetic)" if self.synthetic else name

    @property
    def control(self) -> str:
        """What makes it the model of a control run (see `mer.controls`), in words; empty for any other."""
        return CONTROLS.get(self.config.split.control, "")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for card.json."""
        return asdict(self) | {"config": self.config.to_dict(), "classes": list(self.classes)}


def _problems(data: dict[str, Any]) -> Iterator[str]:
    """What is wrong with the fields of a card that do not check themselves."""
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
    temperature = (data.get("calibration") or {}).get("temperature", 1.0)
    if type(temperature) is not float or not 0 < temperature < float("inf"):
        yield f"temperature={reprlib.repr(temperature)} should be a number above 0"
    if data.get("dtype", DTYPES[0]) not in DTYPES:
        yield f"dtype={reprlib.repr(data['dtype'])} should be {' or '.join(DTYPES)}"


def _card_from(data: Any, path: Path) -> Card:
    """A Card from what card.json holds; raises CheckpointError that names the field."""
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} holds no object; export the checkpoint again")
    if data.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: format {data.get('format')!r} is not {FORMAT}, the one this version reads; update mer"
        )
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
    return Card(**data | {"config": config, "classes": tuple(data["classes"])})


def load_card(folder: Path) -> Card:
    """Read and check a checkpoint's card; raises CheckpointError."""
    path = folder / CARD
    if not path.is_file() or not (folder / WEIGHTS).is_file():
        raise CheckpointError(
            f"{folder}: not a checkpoint (no {CARD} with {WEIGHTS}); give an exported folder"
        )
    if path.stat().st_size > MAX_CARD:
        raise CheckpointError(f"{path} has {path.stat().st_size} bytes; a card has at most {MAX_CARD}")
    try:
        data = json.loads(path.read_text("utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); export the checkpoint again") from error
    return _card_from(data, path)


def find_checkpoints(root: Path) -> Iterator[tuple[Path, Card]]:
    """Whole checkpoints directly below `root`, by name; what is no checkpoint is passed over."""
    for path in sorted(root.glob(f"*/{CARD}")):
        try:
            yield path.parent, load_card(path.parent)
        except CheckpointError:
            continue


def page(card: Card) -> str:
    """The card as Markdown."""
    train, data, scores = card.config.train, card.data, card.metrics
    rows = [f"# {card.title}", ""]
    if card.synthetic:
        rows += ["**Trained on synthetic music: for trying things out, not for judging real songs.**", ""]
    if card.control:
        rows += [
            f"**A control run ({card.control}): its answers mean nothing.**",
            "",
        ]
    trained = {"head": "only the head", "last": "head and last stage", "none": "all of it"}[train.freeze]
    network = f"{train.backbone}, head {train.head}, {trained} trained, started from: {train.weights}"
    size = f"{data.get('clips')} clips, {data.get('songs')} songs"
    audio = f"{card.config.audio.window_seconds:g} s windows at {card.config.audio.sample_rate} Hz"
    rows += [
        f"- network: {network}",
        f"- classes: {', '.join(card.classes)}",
        f"- data: {data.get('name')}, {size}; licence: {data.get('licence') or 'not stated'}",
        f"- input: {audio}, {card.config.mel.n_mels} mel bands",
    ]
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
    rows += [f"- made: {card.created[:10]} by `{card.command}`", f"- weights kept as {card.dtype}"]
    return "\n".join([*rows, "", card.notes]).rstrip() + "\n"
