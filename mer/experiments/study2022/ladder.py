"""The ladder: from the released code of 2022 to preset `default`, one change at a time.

Each rung keeps the changes of the rungs below it, up to preset `default` for a network of images. The last
rung is preset `default` itself, with networks that were trained on music. All rungs use the same test clips,
from a split that keeps songs apart, so each can be compared with the one before. Two further runs use a split
with songs on both sides, and so have other test clips. Needs no torch.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from typing import Any

from mer.config.presets import IMAGES, preset
from mer.config.sections import Config
from mer.metrics.comparison import Comparison, compare
from mer.runs.results import test_key
from mer.runs.run import Run
from mer.utils.errors import ConfigError

__all__ = ["END", "START", "Rung", "RungResult", "climbed", "ladders", "rungs"]

START, END = "as-released", "default"


@dataclass(frozen=True, slots=True)
class Switch:
    """The change of one rung: these `settings` get the values of END for images; all do if it is empty."""

    key: str
    title: str
    text: str
    settings: tuple[str, ...] = ()


SWITCHES = (
    Switch(
        "outputs",
        "an output for each class",
        "ImageNet's output layer has 1000 outputs for objects on photographs, and only the first few were "
        "trained to mean emotions. Now there is one output for each class, so no other answer is possible.",
        ("outputs", "dropout"),
    ),
    Switch(
        "evaluation",
        "evaluation mode",
        "Dropout no longer removes features at random in the test, and a clip's answer no longer depends on "
        "the other clips in its batch.",
        ("always_training",),
    ),
    Switch(
        "normalised",
        "normalised images",
        "Images have zero mean and unit variance, close to the photographs of the pretraining, instead of "
        "decibels from -80 to 0.",
        ("standardize",),
    ),
    Switch(
        "whole",
        "the whole clip",
        "The network gets the whole clip, not only its first 5.2 seconds: windows slide over the clip, and "
        "their answers are pooled.",
        ("only_first", "window_seconds", "hop_seconds", "pad"),
    ),
    Switch(
        "rate",
        "our sample rate",
        "Clips are decoded at the sample rate of preset default, not at the audio loader's own 22.05 kHz.",
        ("sample_rate",),
    ),
    Switch(
        "spectrogram",
        "our spectrogram",
        "The spectrogram has another window length, hop and number of mel bands.",
        tuple(setting.name for setting in fields(Config().mel)),
    ),
    Switch(
        "body",
        "bands, and no last stage",
        "The head uses the feature map before the network's last stage, since that stage is the most "
        "specific to objects in photographs. Each frequency band is separate: a pattern at low frequency "
        "can mean something other than the same pattern at high frequency.",
        ("head", "depth", "freeze"),
    ),
    Switch(
        "validation",
        "a validation part",
        "Some training clips are held out to monitor the training and to calibrate the probabilities. There "
        "are fewer clips to learn from, and the test part decides nothing.",
        ("validation", "keep", "patience"),
    ),
    Switch(
        "recipe",
        "the rest of the settings for images",
        "Number of epochs, learning rate, batch size and weight decay.",
    ),
)
TOP = (
    "networks trained on music",
    "Four networks that were trained on music replace the one for photographs; the head is solved for.",
)
BOTTOM = (
    "as released, songs kept apart",
    "As the released code, but with another split: no song is in two parts.",
)
ASIDE = {
    "released-shuffled": (
        "as released, songs on both sides",
        "As the released code: clips are shuffled, so clips of one song are in both training and test.",
    ),
    "ours-shuffled": (
        "settings for images, songs on both sides",
        "The last rung for images, with shuffled clips: a higher score may come from known songs.",
    ),
}
WORDS = (
    {switch.key: (switch.title, switch.text) for switch in SWITCHES} | {START: BOTTOM, "music": TOP} | ASIDE
)


@dataclass(frozen=True, slots=True)
class Rung:
    """One run of a ladder; `preset` is the preset that its command line starts from."""

    key: str
    config: Config
    preset: str = START

    @property
    def title(self) -> str:
        """Its change, in a few words."""
        return WORDS[self.key][0]


def rungs(**held: Any) -> list[Rung]:
    """The rungs from bottom to top, then the two with songs on both sides of the split.

    A rung that would change nothing is left out, and so is the last one if its networks cannot have a held
    setting.

    Parameters
    ----------
    **held
        Settings that every rung uses. With `group_by_song` among them, the two further runs are left out.

    Raises
    ------
    ConfigError
        For settings that do not fit together.
    """
    end = preset(END, **{"backbone": IMAGES} | held)
    config = preset(START, **{"group_by_song": end.split.group_by_song} | held)
    found = [Rung(START, config)]
    values = end.by_name()
    for switch in SWITCHES:
        changed = (
            config.updated(**{name: values[name] for name in switch.settings}) if switch.settings else end
        )
        if changed != config:
            found.append(Rung(switch.key, changed, END if changed == end else START))
        config = changed
    others = {name: value for name, value in held.items() if name not in ("backbone", "weights")}
    with suppress(ConfigError):  # a setting that these networks cannot have
        found.append(Rung("music", preset(END, **others), END))
    if "group_by_song" not in held:
        found.append(Rung("released-shuffled", found[0].config.updated(group_by_song=False)))
        found.append(Rung("ours-shuffled", end.updated(group_by_song=False), END))
    return found


@dataclass(frozen=True, slots=True)
class RungResult:
    """Result of one rung.

    Parameters
    ----------
    key
        Key of the rung.
    run
        Its run.
    against
        Title of the rung that it is compared with; empty for the first.
    changed
        (before, now) of each setting that differs between the two rungs.
    scores
        Scores from `mer.metrics.evaluate`; None until the run has finished.
    comparison
        Comparison of the two runs; None if they were not tested on the same clips.
    note
        The reason why there is no comparison.
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
        """The change of the rung, in a few words."""
        return WORDS.get(self.key, (self.key, ""))[0]

    @property
    def titled(self) -> str:
        """The title, and a mark if its songs were not kept apart."""
        return f"{self.title} · {self.run.leak}" if self.run.leak else self.title

    @property
    def text(self) -> str:
        """The change of the rung, in a sentence or two."""
        return WORDS.get(self.key, (self.key, ""))[1]

    @property
    def aside(self) -> bool:
        """True if it is one of the two further runs, which have other test clips."""
        return self.key in ASIDE


def ladders(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """The runs of each ladder by its id: the newest ladder first, each from bottom to top.

    `runs` must be sorted newest first, as the store returns them.
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
) -> list[RungResult]:
    """Results of the rungs of a ladder.

    Parameters
    ----------
    runs
        Runs of one ladder, from `ladders`.
    scores, predictions
        Read the scores and the predictions of a finished run, such as `read_scores` of `mer.runs.results`.

    Raises
    ------
    RunError
        If these files are damaged.
    """
    steps: list[RungResult] = []
    for run in runs:
        key = run.spec.get("rung", "")
        before = _rung_below(key, steps)
        found = scores(run) if run.status == "finished" else None
        comparison, note = None, ""
        if before is not None and found is not None:
            comparison, note = _compared(before, run, found, predictions)
        changed = _changed(before.run.spec, run.spec) if before else {}
        steps.append(RungResult(key, run, before.title if before else "", changed, found, comparison, note))
    return steps


def _rung_below(key: str, steps: list[RungResult]) -> RungResult | None:
    """The rung to compare with: the one below, or the same settings with songs kept apart."""
    ladder = [step for step in steps if not step.aside]
    return (ladder[0] if key == "released-shuffled" else ladder[-1]) if ladder else None


def _compared(
    before: RungResult, run: Run, found: dict[str, Any], predictions: Callable[[Run], list[dict[str, Any]]]
) -> tuple[Comparison | None, str]:
    """Compare a run with the rung below. Returns the comparison, or None and the reason."""
    if before.scores is None:
        return None, f"the rung before is {before.run.status}"
    if run.leaky and not before.run.leaky:
        return None, "not compared"
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
