"""Colours and texts: one colour per emotion, scores with their intervals, escaped names."""

import html
import re
from collections.abc import Iterable
from itertools import cycle
from typing import TYPE_CHECKING

from mer.data.apart import MARKS, PARTED
from mer.metrics.score import Score
from mer.metrics.verdict import standing, standing_of
from mer.utils.text import visible

if TYPE_CHECKING:
    from mer.runs.run import Run

__all__ = [
    "EMOTIONS",
    "RUN_COLOURS",
    "STATUS",
    "amount",
    "bilingual",
    "card_score",
    "colours",
    "counted",
    "inert",
    "members_of",
    "named",
    "percent",
    "plain",
    "run_score",
    "run_standing",
    "song_score",
    "titled",
    "unbroken",
]

# Okabe and Ito, "Color Universal Design" (2008).
EMOTIONS = {
    "Romantic": ("#CC79A7", "रोमांटिक"),
    "Happy": ("#E69F00", "खुशी"),
    "Sad": ("#0072B2", "दुख"),
    "Devotional": ("#009E73", "भक्ति"),
    "Party": ("#D55E00", "पार्टी"),
}
# For other labels: distinct from each other and from the emotions (Oklab distance 0.11 or more), with a
# contrast of 1.9 or more on both backgrounds.
SPARE = ("#56B4E9", "#888888", "#8F5FE8", "#A0C020", "#AA2255", "#8A5A1E", "#20D0C0", "#FF8FE0")
# Paul Tol's "bright" scheme (2021), so that runs do not look like emotions.
RUN_COLOURS = ("#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377", "#999999")
# Icon and badge colour of each state of a run.
STATUS = {
    "queued": (":material/hourglass_empty:", "gray"),
    "running": (":material/play_circle:", "blue"),
    "stopping": (":material/pending:", "orange"),
    "interrupted": (":material/warning:", "orange"),
    "stopped": (":material/stop_circle:", "gray"),
    "failed": (":material/error:", "red"),
    "finished": (":material/check_circle:", "green"),
}


def colours(classes: Iterable[str]) -> dict[str, str]:
    """A colour for each label: the emotion's own, or the next spare colour; with many labels they repeat."""
    spare = cycle(SPARE)
    return {name: EMOTIONS[name][0] if name in EMOTIONS else next(spare) for name in classes}


def plain(text: str) -> str:
    """Escape text from outside, such as a file name, so that Markdown shows it literally."""
    return re.sub(r"([\\`*_{}\[\]()#+\-.!|~<>$:&])", r"\\\1", visible(" ".join(text.split())))


def inert(text: str) -> str:
    """Escape text from outside for Plotly, which interprets some HTML."""
    return html.escape(visible(text), quote=False)


def bilingual(name: str) -> str:
    """The emotion with its Hindi word, where it has one."""
    return f"{name} {EMOTIONS[name][1]}" if name in EMOTIONS else name


def named(run: "Run") -> str:
    """The name of a run with the beginning of its id."""
    return f"{run.name} · {run.id[:8]}"


def titled(run: "Run") -> str:
    """The name of a run, and a mark if its songs were not kept apart."""
    return f"{named(run)} · {run.leak}" if run.leak else named(run)


def members_of(run: "Run") -> str:
    """The beginnings of the ids of an ensemble's members; empty for any other run."""
    return ", ".join(run_id[:8] for run_id in run.members)


def unbroken(text: str) -> str:
    """Replace spaces by non-breaking ones, so that the text stays on one line."""
    return text.replace(" ", "\u00a0")


def counted(number: int, thing: str) -> str:
    """A number of things, "1 run" or "2 runs"."""
    return f"{number} {thing}{'s' * (number != 1)}"


def amount(count: int) -> str:
    """A large number in words: "4.7 million", or "35,845" below a tenth of a million."""
    return f"{count / 1e6:.1f} million" if count >= 100_000 else f"{count:,}"


def percent(share: float | None) -> str:
    """A share in whole percent: a hundred songs allow no finer resolution."""
    return "–" if share is None else f"{share:.0%}"


def song_score(metrics: dict[str, float]) -> str:
    """Accuracy by song of a run, with its interval and the number of songs: "46% (36 to 56), 100 songs"."""
    try:
        return f"{Score.from_metrics(metrics)}, {metrics['n_songs']:.0f} songs"
    except KeyError:
        return "not measured"


def run_score(run: "Run") -> str:
    """`song_score` with chance, largest class and SVM."""
    return _beside(song_score(run.metrics), run.metrics, run.metrics.get("svm_song_accuracy"))


def run_standing(run: "Run") -> str:
    """Whether a run scores above guessing and its SVM, and the meaning of its mark; empty if not measured.

    A control run has a verdict of its own, and one whose test songs were in training has none.
    """
    try:
        found = "" if run.leaky or run.control else f"By song, {standing_of(run.metrics)}."
    except KeyError:
        found = ""
    return f"{found} {MARKS[run.leak]}".strip()


def _beside(score: str, figures: dict, svm: float | None) -> str:
    """A score with those of guessing and, if known, of the SVM."""
    beside = [f"chance {percent(figures.get('chance'))}", f"largest class {percent(figures.get('majority'))}"]
    return "; ".join([score, ", ".join(beside + ([] if svm is None else [f"SVM {percent(svm)}"]))])


def card_score(scores: dict, leak: str = "") -> str:
    """Accuracy by song from a card, like `run_score` and `run_standing`; empty if not measured."""
    needed = {"n_songs", "song_accuracy", "intervals", "chance", "majority"}
    if not needed <= scores.keys() or not scores["n_songs"]:
        return ""
    try:
        found = f"{Score.from_scores(scores)}, {scores['n_songs']:d} songs"
        svm = scores["svm"]["song_accuracy"] if "svm" in scores else None
        meaning = "" if leak == PARTED else f" By song, {standing(scores)}."
        return f"{_beside(found, scores, svm)}.{meaning} {MARKS[leak]}".strip()
    except (ArithmeticError, KeyError, TypeError, ValueError):  # a card from elsewhere may hold anything
        return ""
