"""A score with its 95% interval, and its text on screens and in terminals."""

from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["Score"]


class Score(NamedTuple):
    """A score and the bounds of its 95% interval: shares from 0 to 1, or differences from -1 to 1."""

    value: float
    low: float
    high: float

    @classmethod
    def from_metrics(cls, metrics: Mapping[str, float], key: str = "test_song_accuracy") -> "Score":
        """From a run's metrics: `key`, `key_low` and `key_high`. Raises KeyError if one is missing."""
        return cls(metrics[key], metrics[f"{key}_low"], metrics[f"{key}_high"])

    @classmethod
    def from_scores(cls, scores: Mapping[str, Any], key: str = "song_accuracy") -> "Score":
        """From the result of `mer.metrics.scores.evaluate`. Raises KeyError if `key` is missing."""
        return cls(scores[key], *scores["intervals"][key])

    @property
    def interval(self) -> str:
        """The interval in percent, such as "36 to 56"."""
        return f"{100 * self.low:.0f} to {100 * self.high:.0f}"

    @property
    def points(self) -> str:
        """A difference in percentage points, such as "+5 points (-3 to +12)"."""
        value, low, high = (_signed(100 * share) for share in self)
        return f"{value} points ({low} to {high})"

    def __str__(self) -> str:
        """The score in whole percent with its interval, such as "46% (36 to 56)"."""
        return f"{self.value:.0%} ({self.interval})"


def _signed(points: float) -> str:
    """Points with their sign: whole ones, or the first digit that is not 0, so that the side of 0 is seen."""
    text = f"{points:+.0f}"
    return text if float(text) or not points else f"{points:+.1g}"
