"""Colours and words: every emotion has its own colour, every score its interval, and no text from outside
does anything to a page.
"""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mer.data.clips import MER500_CLASSES
from mer.runs.run import ACTIVE
from mer.runs.run import STATUS as CORE_STATUS
from mer.utils.text import visible
from pages._ui.shell.style import (
    EMOTIONS,
    RUN_COLOURS,
    STATUS,
    bilingual,
    card_score,
    colours,
    counted,
    percent,
    plain,
    song_score,
)

FIGURES = {
    "test_song_accuracy": 0.456, "test_song_accuracy_low": 0.361, "test_song_accuracy_high": 0.557,
    "n_songs": 100.0,
}  # fmt: skip
CARD = {
    "song_accuracy": 0.5, "n_songs": 8, "chance": 0.2, "majority": 0.25,
    "intervals": {"song_accuracy": [0.25, 0.75]},
}  # fmt: skip


def test_each_emotion_keeps_its_colour_whatever_stands_beside_it():
    everything = colours(MER500_CLASSES)
    assert len(set(everything.values())) == len(MER500_CLASSES) == 5
    some = colours(["Party", "calm", "Sad"])
    assert (some["Sad"], some["Party"]) == (everything["Sad"], everything["Party"])


def test_labels_that_are_no_emotion_of_ours_have_different_colours_too():
    found = colours(f"label {n}" for n in range(8))
    assert len(set(found.values())) == 8
    assert len(colours(f"label {n}" for n in range(300))) == 300


def test_runs_do_not_look_like_emotions():
    assert len(set(RUN_COLOURS)) == 7
    assert not set(RUN_COLOURS) & {colour for colour, _ in EMOTIONS.values()}


def test_every_state_of_a_run_has_an_icon_of_its_own():
    assert set(STATUS) == {*CORE_STATUS.values(), *ACTIVE}
    assert len({icon for icon, _ in STATUS.values()}) == len(STATUS)


def test_an_emotion_is_named_in_hindi_too_and_other_labels_as_they_are():
    assert bilingual("Sad") == "Sad दुख"
    assert bilingual("calm") == "calm"


def test_a_score_comes_with_interval_and_size():
    assert song_score(FIGURES) == "46% (36 to 56), 100 songs"


@pytest.mark.parametrize("missing", sorted(FIGURES))
def test_a_score_of_which_a_part_is_missing_was_not_measured(missing):
    assert song_score({key: value for key, value in FIGURES.items() if key != missing}) == "not measured"


def test_the_score_of_a_card_says_what_to_hold_it_against():
    assert card_score(CARD) == "50% (25 to 75), 8 songs; chance 20%, largest class 25%"


@pytest.mark.parametrize("missing", sorted(CARD))
def test_a_card_without_all_figures_claims_nothing(missing):
    assert card_score({key: value for key, value in CARD.items() if key != missing}) == ""


def test_one_thing_is_not_said_as_many():
    assert (counted(0, "run"), counted(1, "run"), counted(2, "run")) == ("0 runs", "1 run", "2 runs")


def test_shares_are_whole_percent():
    assert (percent(0.456), percent(0), percent(1), percent(None)) == ("46%", "0%", "100%", "–")


@given(st.text(max_size=40))
@example("**bold** _it_ `code` # h | <b> $x$ :red[x] [a](b) ~~no~~ ![](x) :material/home: --- 1. a & b")
def test_text_from_outside_does_nothing_in_markdown(text):
    shown = plain(text)
    assert not re.search(r"(?<!\\)(?:\\\\)*[*_`#|<>$:\[\]()~!&\-+.{}]", shown)
    assert "\n" not in shown
    assert shown.replace("\\", "") == visible(" ".join(text.split())).replace("\\", "")


def test_devanagari_stays_as_it_is():
    assert plain("दिल  का गीत") == "दिल का गीत"


@pytest.mark.parametrize(
    "strange",
    [{"n_songs": "many"}, {"intervals": []}, {"intervals": {"song_accuracy": [1]}}, {"chance": "<b>"}],
)
def test_a_card_whose_scores_are_no_scores_says_nothing_of_them(strange):
    assert card_score(CARD | strange) == ""
