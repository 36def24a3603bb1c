"""The ladder: from what the released code of 2022 did to preset `default`, one switch at a time.

Each rung keeps what the rungs below it changed. All are trained and tested on the same division of the clips,
which keeps songs apart, so that each can be held against the one before; what a division that parts songs
would have scored is shown beside them, on other test clips. Needs no torch.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from mer.config.presets import preset
from mer.config.sections import Config
from mer.metrics.comparison import Comparison, compare
from mer.runs.results import test_key
from mer.runs.run import Run

__all__ = ["END", "START", "Rung", "Step", "climbed", "ladders", "rungs"]

START, END = "as-released", "default"


@dataclass(frozen=True, slots=True)
class Switch:
    """What one rung changes: the settings that take their value of preset END; none: all that are left."""

    key: str
    title: str
    text: str
    settings: tuple[str, ...] = ()


SWITCHES = (
    Switch(
        "outputs",
        "an output for each class",
        "ImageNet's output layer names 1000 things on photographs; only its first few outputs were taught to "
        "mean emotions. Now there is a new one for each class, and no other answer can be given.",
        ("outputs", "dropout"),
    ),
    Switch(
        "evaluation",
        "evaluation mode",
        "Dropout no longer blanks features at random at the test, and a clip's answer no longer depends on "
        "which other clips are in its batch.",
        ("always_training",),
    ),
    Switch(
        "normalised",
        "normalised images",
        "Pictures come with zero mean and unit variance, near what the network saw when it learned from "
        "photographs, instead of decibels from -80 to 0.",
        ("standardize",),
    ),
    Switch(
        "whole",
        "the whole clip",
        "Not only the first 5.2 seconds are heard: windows slide over the clip, their answers are pooled.",
        ("only_first", "window_seconds", "hop_seconds", "pad"),
    ),
    Switch(
        "rate",
        "our sample rate",
        "Decoded at the rate of preset default instead of the audio loader's own 22.05 kHz.",
        ("sample_rate",),
    ),
    Switch(
        "spectrogram",
        "our spectrogram",
        "Other lengths and steps of its spectra, and another number of bands.",
        tuple(setting.name for setting in fields(Config().mel)),
    ),
    Switch(
        "body",
        "bands, and no last stage",
        "The answer is read from the map before the network's last stage, which knows most of objects and "
        "least of sound, and each band of frequency counts for itself: a pattern means one thing low and "
        "another high.",
        ("head", "depth", "freeze"),
    ),
    Switch(
        "validation",
        "a validation part",
        "Some training clips are held out to watch the training and to calibrate the answers: fewer to learn "
        "from, and no choice is made by the test.",
        ("validation", "keep", "patience"),
    ),
    Switch(
        "recipe",
        "the rest of preset default",
        "How long and how fast it learns, in which batches, and how small its weights are kept.",
    ),
)
BOTTOM = (
    "as released, songs kept apart",
    "All that the released code did, but for its division of the clips: here no song is in two parts.",
)
ASIDE = {
    "released-shuffled": (
        "as released, songs parted",
        "All that the released code did: one shuffle puts clips of a song on both sides of the test.",
    ),
    "ours-shuffled": (
        "preset default, songs parted",
        "The last rung with that shuffle: what it scores more, it may owe to songs that it has heard.",
    ),
}
WORDS = {switch.key: (switch.title, switch.text) for switch in SWITCHES} | {START: BOTTOM} | ASIDE


@dataclass(frozen=True, slots=True)
class Rung:
    """One run of a ladder: `preset` is the one that its settings are nearest to."""

    key: str
    config: Config
    preset: str = START

    @property
    def title(self) -> str:
        """What it changes, in a few words."""
        return WORDS[self.key][0]


def rungs(**held: Any) -> list[Rung]:
    """The rungs from bottom to top, then the two with songs parted, all with the settings `held` as given.

    A switch that changes nothing, since both ends agree or a held setting forbids it, is left out. Raises
    ConfigError for settings that do not go together.
    """
    end = preset(END).updated(**held)
    config = preset(START).updated(**{"group_by_song": end.split.group_by_song} | held)
    found = [Rung(START, config)]
    values = _values(end)
    for switch in SWITCHES:
        changed = (
            config.updated(**{name: values[name] for name in switch.settings}) if switch.settings else end
        )
        if changed != config:
            found.append(Rung(switch.key, changed, END if changed == end else START))
        config = changed
    if "group_by_song" not in held:
        found.append(Rung("released-shuffled", found[0].config.updated(group_by_song=False)))
        found.append(Rung("ours-shuffled", end.updated(group_by_song=False), END))
    return found


def _values(config: Config) -> dict[str, Any]:
    """Each setting by its bare name; of the two seeds the training's."""
    return {name: value for part in config.to_dict().values() for name, value in part.items()}


@dataclass(frozen=True, slots=True)
class Step:
    """What became of one rung.

    `changed` has (before, now) of each setting that differs from those of the rung `against`, the one before;
    `scores` are those of `mer.metrics.evaluate` once its run has finished; `comparison` is with the run of
    that rung, where both were tested on the same clips, and `note` says why there is none.
    """

    key: str
    run: Run
    against: str = ""
    changed: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    scores: dict[str, Any] | None = None
    comparison: Comparison | None = None
    note: str = ""

    @property
    def title(self) -> str:
        """What the rung changes, in a few words."""
        return WORDS.get(self.key, (self.key, ""))[0]

    @property
    def text(self) -> str:
        """The same in a sentence or two for students."""
        return WORDS.get(self.key, (self.key, ""))[1]

    @property
    def aside(self) -> bool:
        """True if it stands beside the ladder, tested on other clips."""
        return self.key in ASIDE


def ladders(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """The runs of each ladder, from its bottom to its top; the newest ladder first.

    `runs` come newest first, as the store gives them.
    """
    found: dict[str, list[Run]] = {}
    for run in runs:
        name = run.spec.get("ladder")
        if isinstance(name, str) and name and not run.parent:
            found.setdefault(name, []).insert(0, run)
    return found


def climbed(
    runs: list[Run],
    scores: Callable[[Run], dict[str, Any] | None],
    predictions: Callable[[Run], list[dict[str, Any]]],
) -> list[Step]:
    """What became of each run of a ladder, from `ladders`; the functions read what a finished run keeps.

    Raises RunError where that is damaged.
    """
    steps: list[Step] = []
    for run in runs:
        key = run.spec.get("rung", "")
        before = _before(key, steps)
        found = scores(run) if run.status == "finished" else None
        comparison, note = None, ""
        if before is not None and found is not None:
            comparison, note = _compared(before, run, found, predictions)
        changed = _changed(before.run.spec, run.spec) if before else {}
        steps.append(Step(key, run, before.title if before else "", changed, found, comparison, note))
    return steps


def _before(key: str, steps: list[Step]) -> Step | None:
    """The rung that one is held against: the one below it, or its twin with songs kept apart."""
    ladder = [step for step in steps if not step.aside]
    return (ladder[0] if key == "released-shuffled" else ladder[-1]) if ladder else None


def _compared(
    before: Step, run: Run, found: dict[str, Any], predictions: Callable[[Run], list[dict[str, Any]]]
) -> tuple[Comparison | None, str]:
    if before.scores is None:
        return None, f"the rung before is {before.run.status}"
    if test_key(run) is None or test_key(run) != test_key(before.run):
        return None, "other test clips"
    return compare(predictions(before.run), predictions(run), classes=found["classes"]), ""


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Settings of two specs that differ, (before, now)."""
    first, second = (
        {name: value for part in spec.get("config", {}).values() for name, value in part.items()}
        for spec in (before, now)
    )
    return {name: (first.get(name), value) for name, value in second.items() if first.get(name) != value}
