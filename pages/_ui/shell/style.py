"""Colours and words: one colour per emotion everywhere, scores with their interval, times for people."""

import html
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from mer.metrics.score import Score
from mer.utils.text import visible

if TYPE_CHECKING:
    from mer.runs.run import Run

__all__ = [
    "EMOTIONS",
    "RUN_COLOURS",
    "STATUS",
    "bilingual",
    "card_score",
    "colours",
    "counted",
    "inert",
    "members_of",
    "percent",
    "plain",
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
SPARE = ("#56B4E9", "#F0E442", "#999999", "#CC79A7", "#E69F00", "#0072B2", "#009E73", "#D55E00")
# Paul Tol's "bright" scheme (2021): runs must not look like emotions.
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
    """A colour for each label: the emotion's own, or the next of the palette."""
    spare = iter(SPARE * 40)
    return {name: EMOTIONS[name][0] if name in EMOTIONS else next(spare) for name in classes}


def plain(text: str) -> str:
    """Text from outside, such as a file name, so that Markdown shows it and does nothing else with it."""
    return re.sub(r"([\\`*_{}\[\]()#+\-.!|~<>$:&])", r"\\\1", visible(" ".join(text.split())))


def inert(text: str) -> str:
    """The same for charts, where Plotly takes some HTML for what it says."""
    return html.escape(visible(text), quote=False)


def bilingual(name: str) -> str:
    """The emotion with its Hindi word, where it has one."""
    return f"{name} {EMOTIONS[name][1]}" if name in EMOTIONS else name


def titled(run: "Run") -> str:
    """A run in a few words that tell it from others."""
    return f"{run.name} · {run.id[:8]}"


def members_of(run: "Run") -> str:
    """The runs that an ensemble joins, by the beginnings of their ids; empty for any other run."""
    return ", ".join(run_id[:8] for run_id in run.members)


def unbroken(text: str) -> str:
    """The same on one line, also in a narrow column."""
    return text.replace(" ", "\u00a0")


def counted(number: int, thing: str) -> str:
    """A number of things, "1 run" or "2 runs"."""
    return f"{number} {thing}{'s' * (number != 1)}"


def percent(share: float | None) -> str:
    """Whole percent, the most that a hundred songs can tell apart."""
    return "–" if share is None else f"{share:.0%}"


def song_score(metrics: dict[str, float]) -> str:
    """Accuracy by song of a run, with its interval and the number of songs: "46% (36 to 56), 100 songs"."""
    try:
        return f"{Score.from_metrics(metrics)}, {metrics['n_songs']:.0f} songs"
    except KeyError:
        return "not measured"


def card_score(scores: dict) -> str:
    """The same from a checkpoint's card, beside chance, largest class and SVM; empty if not measured."""
    needed = {"n_songs", "song_accuracy", "intervals", "chance", "majority"}
    if not needed <= scores.keys() or not scores["n_songs"]:
        return ""
    try:
        found = f"{Score.from_scores(scores)}, {scores['n_songs']:d} songs"
        svm = f", SVM {percent(scores['svm']['song_accuracy'])}" if "svm" in scores else ""
        return (
            f"{found}; chance {percent(scores['chance'])}, largest class {percent(scores['majority'])}{svm}"
        )
    except (ArithmeticError, KeyError, TypeError, ValueError):  # a card from elsewhere may say anything
        return ""
