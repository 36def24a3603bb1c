"""How far and how fast, in words."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mer.utils import progress as pace
from mer.utils.progress import Pace, duration


@pytest.fixture
def clock(monkeypatch):
    """`clock["now"]` is the time."""
    time = {"now": 50.0}
    monkeypatch.setattr(pace.time, "monotonic", lambda: time["now"])
    return time


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "unknown"), (-1, "0 s"), (0, "0 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"),
        (5400, "1 h 30 min"), (7199, "2 h 0 min"), (7200, "2 h 0 min"), (36_000, "10 h 0 min"),
    ],
)  # fmt: skip
def test_times_are_given_as_people_say_them(seconds, words):
    assert duration(seconds) == words


@given(st.integers(0, 10**6))
@example(7199)
def test_no_time_has_more_than_59_minutes_beside_its_hours(seconds):
    words = duration(seconds).split()
    assert "h" not in words or int(words[2]) < 60


def test_the_first_report_has_no_speed_yet(clock):
    assert Pace()("decoding", 1, 100) == "decoding: 1 of 100"


def test_later_reports_have_speed_and_time_left(clock):
    say = Pace()
    say("decoding", 0, 490)
    clock["now"] += 3
    assert say("decoding", 120, 490) == "decoding: 120 of 490, 40 a second, 9 s left"
    clock["now"] += 97
    assert say("decoding", 130, 490) == "decoding: 130 of 490, 1.3 a second, 5 min left"


def test_what_was_done_before_the_first_report_is_not_counted_as_speed(clock):
    say = Pace()
    say("features", 400, 490)
    clock["now"] += 10
    assert say("features", 410, 490) == "features: 410 of 490, 1.0 a second, 80 s left"


def test_each_phase_and_each_new_start_has_its_own_speed(clock):
    say = Pace()
    say("decoding", 0, 10)
    clock["now"] += 1
    say("decoding", 10, 10)
    assert say("features", 1, 10) == "features: 1 of 10"
    clock["now"] += 1
    say("features", 9, 10)
    assert say("features", 2, 10) == "features: 2 of 10"
