"""Decides whether one score is higher than another. Every statement that it is follows from here.

A song counts as right or wrong. Each case has one exact test and the interval that belongs to it: the
interval excludes 0 if and only if p < 0.05. All p-values are twice the smaller tail, at most 1.

==================================  ===========================  ======================================
case                                test                         interval of the difference
==================================  ===========================  ======================================
two runs on the same songs          McNemar's exact test (1947)  melded (Fay and Lumbard, 2021)
two runs on different songs         Fisher's exact test (1935)   melded (Fay, Proschan, Brittain, 2015)
a run against a fixed share         exact binomial test          Clopper and Pearson (1934)
==================================  ===========================  ======================================

A p-value is for one pair alone. It is not corrected for the number of pairs on a page.

References
----------
Fay, Proschan and Brittain, "Combining one-sample confidence procedures for inference in the two-sample case",
Biometrics 71, 2015. Fay and Lumbard, "Confidence intervals for difference in proportions for matched pairs
compatible with exact McNemar's or sign tests", Statistics in Medicine 40, 2021.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import Any

import numpy as np

from mer.metrics.score import Score

__all__ = ["LEVEL", "Verdict", "against", "exact_share", "paired", "standing", "standing_of", "unpaired"]

LEVEL = 0.05
TAIL = LEVEL / 2
NODES = 200  # of the numeric integration
HALVINGS = 60  # of the search for a bound, which ends at the precision of a float


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether one score is higher than another.

    Parameters
    ----------
    difference
        Second score - first score, with its 95% interval, -1 to 1.
    p_value
        Probability of a difference at least as large by chance, 0 to 1.
    needed
        If no result on so few songs could have a p-value below 0.05: the least number that could, such as
        "6 songs"; else empty.
    """

    difference: Score
    p_value: float
    needed: str = ""

    @property
    def told(self) -> bool:
        """True if the scores can be told apart (p < 0.05)."""
        return self.p_value < LEVEL

    @property
    def higher(self) -> bool:
        """True if the second score is higher, and can be told apart from the first."""
        return self.told and self.difference.value > 0

    @property
    def lower(self) -> bool:
        """True if the second score is lower, and can be told apart from the first."""
        return self.told and self.difference.value < 0

    @property
    def chance(self) -> str:
        """The p-value, such as "p = 0.25", with as many digits as show on which side of 0.05 it lies."""
        if self.p_value < 0.001:
            return "p < 0.001"
        texts = (f"{self.p_value:.{digits}g}" for digits in range(2, 18))
        return f"p = {next(text for text in texts if (float(text) < LEVEL) == self.told)}"

    def words(self, higher: str, lower: str, same: str = "cannot be told apart") -> str:
        """The result in a few words: one of the three texts and the p-value, or how many songs are needed."""
        if self.needed:
            return f"{same} (at least {self.needed} needed)"
        return f"{higher if self.higher else lower if self.lower else same} ({self.chance})"


def paired(only_first: int, only_second: int, songs: int) -> Verdict:
    """Compare two runs that were tested on the same songs.

    The test is that of a fair coin on the songs that only one run gets right (McNemar, 1947). The interval
    combines the exact confidence distributions of the second run's share of those songs and of their share of
    all songs (Fay and Lumbard, 2021).

    Parameters
    ----------
    only_first, only_second
        Numbers of songs that only this run gets right.
    songs
        Number of all songs, at least 1.

    Returns
    -------
    Verdict
        Its difference is (only_second - only_first) / songs.

    Raises
    ------
    ValueError
        If the numbers are out of range.
    """
    apart = only_first + only_second
    if min(only_first, only_second) < 0 or not 0 < songs >= apart:
        raise ValueError(f"{only_first} and {only_second} of {songs} songs cannot be; give counts of songs")
    won, lost = (_cdf(own, apart - own + 1, 0.5) for own in (only_second, only_first))
    low, high = (
        _paired_bound(only_second, only_first, songs, won < TAIL),
        -_paired_bound(only_first, only_second, songs, lost < TAIL),
    )
    least = _least(lambda size: 2 * 0.5**size)
    return Verdict(
        Score((only_second - only_first) / songs, low, high),
        _twice(won, lost),
        f"{least} songs" if songs < least else "",
    )


def unpaired(first: tuple[int, int], second: tuple[int, int]) -> Verdict:
    """Compare two runs that were tested on different songs.

    Fisher's exact test, and the interval that combines the exact confidence distributions of both shares
    (Fay, Proschan and Brittain, 2015). If some songs are in both runs, the result is cautious.

    Parameters
    ----------
    first, second
        (songs that are right, all songs) of each run.

    Returns
    -------
    Verdict
        Its difference is that of the shares, second - first.
    """
    up, down = _fisher(first, second), _fisher(second, first)
    value = second[0] / second[1] - first[0] / first[1]
    low = _unpaired_bound(first, second, up < TAIL)
    high = -_unpaired_bound(second, first, down < TAIL)
    least = _least(lambda size: 2 * _fisher((0, size), (size, size)))
    best = 2 * _fisher((0, first[1]), (second[1], second[1]))
    needed = f"{least} songs on each side" if best >= LEVEL else ""
    return Verdict(Score(value, low, high), _twice(up, down), needed)


def against(right: int, songs: int, share: float) -> Verdict:
    """Compare a run with a fixed share, such as chance.

    Parameters
    ----------
    right, songs
        Songs that are right, and all songs.
    share
        The fixed share, 0 to 1.

    Returns
    -------
    Verdict
        Its difference is the run's share - `share`.

    Raises
    ------
    ValueError
        If the numbers are out of range.
    """
    if not (0 <= right <= songs > 0 and 0 <= share <= 1):
        raise ValueError(f"{right} of {songs} songs against {share} cannot be; give counts and a share")
    up, down = _cdf(right, songs - right + 1, share), 1 - _cdf(right + 1, songs - right, share)
    own = exact_share(right, songs)
    least = _least(lambda size: 2 * min(share**size, (1 - share) ** size))
    return Verdict(
        Score(*(value - share for value in own)),
        _twice(up, down),
        f"{least} songs" if songs < least else "",
    )


def exact_share(right: int, trials: int) -> Score:
    """A share with its exact 95% interval (Clopper and Pearson, 1934), 0 to 1, of independent `trials`."""
    low = _quantile(right, trials - right + 1, TAIL)
    return Score(right / trials, float(low), float(_quantile(right + 1, trials - right, 1 - TAIL)))


def standing(figures: Mapping[str, Any]) -> str:
    """A run's score by song against guessing and, if known, against the SVM, in words.

    Parameters
    ----------
    figures
        Scores of `mer.metrics.scores.evaluate`, with those of the SVM if there is one.

    Returns
    -------
    str
        Such as "against guessing: above (p < 0.001), against the SVM: cannot be told apart (p = 0.34)".
        Guessing is the larger of chance and the share of the largest class.
    """
    songs = int(figures["n_songs"])
    right = round(figures["song_accuracy"] * songs)
    guessing = against(right, songs, max(figures["majority"], figures["chance"]))
    found = f"against guessing: {guessing.words('above', 'below')}"
    alone = [figures.get("svm", {}).get(name) for name in ("only_svm", "only_network")]
    if None not in alone:  # an older mer did not record them
        svm = paired(*map(int, alone), songs)
        found += f", against the SVM: {svm.words('above', 'below')}"
    return found


def standing_of(metrics: Mapping[str, float]) -> str:
    """The same from the metrics of a finished run. Raises KeyError if it has no score."""
    svm = {name: metrics.get(f"songs_{name}") for name in ("only_svm", "only_network")}
    return standing({**metrics, "song_accuracy": metrics["test_song_accuracy"], "svm": svm})


def _twice(up: float, down: float) -> float:
    """The two-sided p-value: twice the smaller tail, at most 1."""
    return float(min(1.0, 2 * min(up, down)))


def _least(smallest: Callable[[int], float]) -> int:
    """The least number of songs whose smallest p-value, `smallest(songs)`, is below 0.05."""
    return next(size for size in count(1) if smallest(size) < LEVEL)


def _cdf(a: float, b: float, x: float | np.ndarray) -> Any:
    """Distribution function of Beta(a, b), which is a point at 0 if a = 0, and at 1 if b = 0."""
    from scipy.special import betainc  # a tenth of a second to import

    if a == 0 or b == 0:
        return np.where(np.asarray(x) > 1 if b == 0 else np.asarray(x) >= 0, 1.0, 0.0)[()]
    return betainc(a, b, np.clip(x, 0, 1))


def _quantile(a: float, b: float, share: float | np.ndarray) -> Any:
    """The inverse of `_cdf`."""
    from scipy.special import betaincinv

    if a == 0 or b == 0:
        return np.full_like(share, float(b == 0))[()]
    return betaincinv(a, b, share)


@lru_cache
def _nodes() -> tuple[np.ndarray, np.ndarray]:
    """Places and weights of the Gauss-Legendre rule on 0 to 1."""
    places, weights = np.polynomial.legendre.leggauss(NODES)
    return (places + 1) / 2, weights / 2


def _bound(below: Callable[[float], float], positive: bool) -> float:
    """The difference that lies above 2.5% of a distribution, found on one side of 0.

    `below` is the distribution function. The test decides the side, so that interval and p-value agree.
    """
    low, high = (0.0, 1.0) if positive else (-1.0, 0.0)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) < TAIL else (low, middle)
    return high if positive else low


def _paired_bound(won: int, lost: int, songs: int, positive: bool) -> float:
    """Lower bound of (won - lost) / songs: a quantile of T (2 B - 1) with independent B and T.

    B is the share of `won` among the songs that differ, T the share of those among all.
    """
    apart = won + lost
    spread = (apart, songs - apart + 1) if positive else (apart + 1, songs - apart)
    if won == 0:
        return -float(_quantile(*spread, 1 - TAIL))
    places, weights = _nodes()
    sizes = 2 * _quantile(*spread, places)
    return _bound(lambda gap: float(weights @ _cdf(won, lost + 1, 0.5 + gap / sizes)), positive)


def _unpaired_bound(first: tuple[int, int], second: tuple[int, int], positive: bool) -> float:
    """Lower bound of the difference of two shares: a quantile of the difference of two independent shares."""
    (right, size), (own, all_own) = first, second
    if own == 0:
        return -float(_quantile(right + 1, size - right, 1 - TAIL))
    places, weights = _nodes()
    others = _quantile(right + 1, size - right, places)
    return _bound(lambda gap: float(weights @ _cdf(own, all_own - own + 1, gap + others)), positive)


def _fisher(first: tuple[int, int], second: tuple[int, int]) -> float:
    """Probability that chance gives `second` at least as many of all right songs as it has."""
    from scipy.special import gammaln

    (right, size), (own, all_own) = first, second

    def ways(total: int, taken: Any) -> Any:
        return gammaln(total + 1) - gammaln(taken + 1) - gammaln(total - taken + 1)

    total = right + own
    possible = np.arange(own, min(all_own, total) + 1)
    logs = ways(all_own, possible) + ways(size, total - possible) - ways(size + all_own, total)
    return float(min(1.0, np.exp(logs).sum()))
