"""Progress: rate and time left, in words and as JSON."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mer.utils import progress
from mer.utils.progress import ProgressMeter, ProgressReport, duration


@pytest.fixture
def clock(monkeypatch):
    """`clock["now"]` is the time."""
    time = {"now": 50.0}
    monkeypatch.setattr(progress.time, "monotonic", lambda: time["now"])
    return time


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "unknown"), (-1, "0 s"), (0, "0 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"),
        (5400, "1 h 30 min"), (7199, "2 h 0 min"), (7200, "2 h 0 min"), (36_000, "10 h 0 min"),
    ],
)  # fmt: skip
def test_durations_are_in_plain_words(seconds, words):
    assert duration(seconds) == words


@given(st.integers(0, 10**6))
@example(7199)
def test_minutes_beside_hours_are_at_most_59(seconds):
    words = duration(seconds).split()
    assert "h" not in words or int(words[2]) < 60


def test_the_first_report_has_no_rate_yet(clock):
    assert ProgressMeter()("decoding", 1, 100) == ProgressReport("decoding", 1, 100)


def test_later_reports_have_rate_and_time_left(clock):
    meter = ProgressMeter()
    meter("decoding", 0, 490)
    clock["now"] += 3
    found = meter("decoding", 120, 490)
    assert (found.rate, found.seconds_left) == (40, 9.25)
    assert str(found) == "decoding: 120 of 490, 40 a second, 9 s left"
    clock["now"] += 97
    assert str(meter("decoding", 130, 490)) == "decoding: 130 of 490, 1.3 a second, 5 min left"


def test_items_that_were_done_before_the_first_report_do_not_raise_the_rate(clock):
    meter = ProgressMeter()
    meter("features", 400, 490)
    clock["now"] += 10
    assert str(meter("features", 410, 490)) == "features: 410 of 490, 1.0 a second, 80 s left"


def test_each_phase_and_each_new_start_has_its_own_rate(clock):
    meter = ProgressMeter()
    meter("decoding", 0, 10)
    clock["now"] += 1
    meter("decoding", 10, 10)
    assert meter("features", 1, 10).rate is None
    clock["now"] += 1
    meter("features", 9, 10)
    assert meter("features", 2, 10).rate is None


def test_without_a_total_only_the_title_is_shown():
    assert str(ProgressReport("waiting for a free slot")) == "waiting for a free slot"
    assert ProgressReport("waiting for a free slot").share == 0


numbers = st.none() | st.floats(0, 1e6)


@given(st.text(), st.integers(0, 10**9), st.integers(0, 10**9), numbers, numbers)
def test_a_report_survives_json_and_its_share_is_between_0_and_1(title, done, total, rate, seconds_left):
    report = ProgressReport(title, done, total, rate, seconds_left)
    assert ProgressReport.read(report.to_json()) == report
    assert "\n" not in report.to_json()
    assert 0 <= report.share <= 1


@given(st.text())
@example("preparing clips: 120 of 490, 43 a second, 9 s left")
@example("null")
@example('{"title": 1}')
@example('{"title": "a", "done": "b"}')
@example('{"title": "a", "rate": "b"}')
@example('{"title": "a", "more": 1}')
@example("[" * 100_000)
def test_other_text_is_shown_unchanged(text):
    assert ProgressReport.from_json(text) is None
    assert str(ProgressReport.read(text)) == text
