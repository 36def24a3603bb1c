"""The rows of the benchmark: what is measured, against what, and the target."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

from benchmarks.sample import Sample
from mer.utils.errors import ConfigError, MerError

if TYPE_CHECKING:
    from mer.data.cache.store import Facts, FeatureStore

__all__ = ["ROWS", "Bench", "Measured", "NotMeasuredError", "Result", "Row", "chosen"]


class NotMeasuredError(MerError):
    """Raised if a row cannot be measured here; the text says why."""


def _nothing(_: str) -> None:
    pass


@dataclass
class Bench:
    """What all rows share: clips, a temporary folder, and how much to measure."""

    sample: Sample
    scratch: Path
    quick: bool = False
    repeats: int = 1
    sweep_clips: int | None = None
    say: Callable[[str], None] = _nothing
    known: dict[Any, Any] = field(default_factory=dict)

    def folder(self, name: str) -> Path:
        """A new folder."""
        return Path(mkdtemp(prefix=f"{name}-", dir=self.scratch))

    @contextmanager
    def own_home(self) -> Iterator[Path]:
        """Set a new MER_HOME for this process and its children."""
        before, folder = os.environ.get("MER_HOME"), self.folder("home")
        os.environ["MER_HOME"] = str(folder)
        try:
            yield folder
        finally:
            del os.environ["MER_HOME"]
            if before is not None:
                os.environ["MER_HOME"] = before

    @cached_property
    def prepared(self) -> "tuple[FeatureStore, list[Facts]]":
        """A store with the features of all clips by preset `paper`, made once."""
        from mer.config.presets import preset
        from mer.data.cache.store import FeatureStore

        config, store = preset("paper"), FeatureStore(self.folder("store"))
        return store, store.prepare(self.sample.paths, audio=config.audio, mel=config.mel)


@dataclass(frozen=True, slots=True)
class Measured:
    """Both figures in the row's unit, and details. A share of a core has no baseline."""

    ours: float
    baseline: float | None = None
    details: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `target` is the least ratio, or with `at_most` the largest.

    A ratio above 1 means that mer is faster, but with `at_most` that it takes longer. The function in
    `module` with the row's name measures it. For the few short clips of `--quick` fixed costs weigh more,
    so `margin` replaces the target there.
    """

    name: str
    what: str
    module: str
    unit: str
    target: float
    margin: float
    at_most: bool = False
    browser: bool = False

    @property
    def key(self) -> str:
        """The name as one word, for the command line."""
        return self.name.replace(" ", "-")

    def ratio(self, ours: float, baseline: float | None) -> float:
        """The ratio, or our own figure if there is no baseline."""
        if baseline is None:
            return ours
        return ours / baseline if self.at_most or self.unit.endswith("/s") else baseline / ours

    def measure(self, bench: Bench) -> "Result":
        """Measure the row. A failure is returned as a result, so that other rows are not lost."""
        try:
            module = import_module(f"benchmarks.{self.module}")
            function = getattr(module, self.key.replace("-", "_"))
            return Result(self, function(bench))
        except NotMeasuredError as reason:
            return Result(self, reason=str(reason))
        except Exception as error:  # noqa: BLE001
            return Result(self, reason=f"{type(error).__name__}: {error}", failed=True)


@dataclass(frozen=True, slots=True)
class Result:
    """A row and what was measured, or the reason why nothing was."""

    row: Row
    measured: Measured | None = None
    reason: str = ""
    failed: bool = False

    @property
    def ratio(self) -> float | None:
        """The figure that the target is for."""
        return self.row.ratio(self.measured.ours, self.measured.baseline) if self.measured else None

    @property
    def ok(self) -> bool | None:
        """True if the target is reached; None if nothing was measured."""
        return self._reaches(self.row.target)

    @property
    def within_margin(self) -> bool:
        """False if the row failed or is beyond its margin."""
        return not self.failed and self._reaches(self.row.margin) is not False

    def _reaches(self, limit: float) -> bool | None:
        if self.ratio is None:
            return None
        return self.ratio <= limit if self.row.at_most else self.ratio >= limit

    @property
    def verdict(self) -> str:
        """The last column of the table."""
        if self.measured is None:
            return f"not measured: {self.reason}"
        return "reached" if self.ok else "falls short"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        row, found = self.row, self.measured
        return {
            "name": row.name,
            "what": row.what,
            "unit": row.unit,
            "ours": found.ours if found else None,
            "baseline": found.baseline if found else None,
            "ratio": self.ratio,
            "target": row.target,
            "at_most": row.at_most,
            "ok": self.ok,
            "verdict": self.verdict,
            "details": list(found.details) if found else [],
        }


ROWS = (
    Row(
        "first pass",
        "from audio files to features, two processes each; the baseline reads 5.2 s of a clip, "
        "ours all of it",
        module="preparing",
        unit="clips/s",
        target=2.5,
        margin=0.8,
    ),
    Row(
        "later epochs",
        "one epoch of network inputs in random order: from the store, against decoding again",
        module="preparing",
        unit="s",
        target=100,
        margin=5,
    ),
    Row(
        "full fine-tune",
        "windows trained by `fit` with its callbacks, against forward and backward alone, without data or "
        "optimizer (EfficientNet-Lite0, batch 16)",
        module="finetuning",
        unit="windows/s",
        target=0.92,
        margin=0.3,
    ),
    Row(
        "predict",
        "one WAV file of 10 s, 44.1 kHz, stereo, with the model loaded, against librosa and the same network",
        module="predicting",
        unit="ms",
        target=2,
        margin=0.4,
    ),
    Row(
        "paper run",
        "from audio files to the test scores of six networks, batch 64, 5 epochs",
        module="paper",
        unit="s",
        target=6,
        margin=0.35,
    ),
    Row(
        "paper sweep",
        "the same with batch sizes 16, 32 and 64",
        module="paper",
        unit="s",
        target=15,
        margin=1,
    ),
    Row(
        "start",
        "first visit to a new server until the heading is shown, against an app with only a heading",
        module="dashboard",
        unit="s",
        target=1.5,
        margin=4.5,
        at_most=True,
        browser=True,
    ),
    Row(
        "dashboard",
        "CPU of the server per viewer of Live, three active runs of 200 points, updated every second",
        module="dashboard",
        unit="of a core",
        target=0.05,
        margin=0.15,
        at_most=True,
        browser=True,
    ),
)


def chosen(text: str, *, quick: bool) -> list[Row]:
    """The rows named in `text`, separated by commas, or all; with `quick`, only those without a browser.

    Raises ConfigError for an unknown name.
    """
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    known = [row.key for row in ROWS]
    for name in names:
        if name.replace(" ", "-") not in known:
            raise ConfigError(f"no row {name!r}; there are: {', '.join(known)}")
    wanted = {name.replace(" ", "-") for name in names} or known
    return [row for row in ROWS if row.key in wanted and not (quick and row.browser)]
