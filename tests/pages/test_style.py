"""Colours and words: every emotion has its own colour, every score its interval, and no text from outside
does anything to a page.
"""

import math
import re
import tomllib
from itertools import combinations
from pathlib import Path

import numpy as np
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

ROOT = Path(__file__).parents[2]
FIGURES = {
    "test_song_accuracy": 0.456, "test_song_accuracy_low": 0.361, "test_song_accuracy_high": 0.557,
    "n_songs": 100.0,
}  # fmt: skip
CARD = {
    "song_accuracy": 0.5, "n_songs": 8, "chance": 0.2, "majority": 0.25,
    "intervals": {"song_accuracy": [0.25, 0.75]},
}  # fmt: skip


def test_each_emotion_keeps_its_colour_among_any_other_labels():
    everything = colours(MER500_CLASSES)
    assert len(set(everything.values())) == len(MER500_CLASSES) == 5
    some = colours(["Party", "calm", "Sad"])
    assert (some["Sad"], some["Party"]) == (everything["Sad"], everything["Party"])


def linear(colour):
    """Linear RGB of a colour such as "#56B4E9"."""
    share = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def oklab(colour):
    """Perceptual coordinates in which distances are differences that people see (Ottosson, 2020)."""
    cones = np.array([
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ])  # fmt: skip
    axes = np.array([
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ])  # fmt: skip
    return axes @ np.cbrt(cones @ linear(colour))


def contrast(colour, background):
    """Contrast ratio of WCAG 2."""
    dark, bright = sorted(linear(one) @ (0.2126, 0.7152, 0.0722) for one in (colour, background))
    return (bright + 0.05) / (dark + 0.05)


def test_other_labels_have_colours_of_their_own():
    found = colours([*MER500_CLASSES, *(f"label {n}" for n in range(8))])
    assert min(math.dist(oklab(a), oklab(b)) for a, b in combinations(found.values(), 2)) > 0.11
    assert len(colours(f"label {n}" for n in range(300))) == 300


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_of_labels_stand_out_from_the_background(theme):
    settings = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text("utf-8"))
    background = settings["theme"][theme]["backgroundColor"]
    found = colours([*MER500_CLASSES, *(f"label {n}" for n in range(8))])
    assert min(contrast(colour, background) for colour in found.values()) > 1.9


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_faded_texts_and_texts_on_buttons_can_be_read(theme):
    colour = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text("utf-8"))["theme"][theme]
    look = (ROOT / "pages" / "_ui" / "shell" / "look.css").read_text("utf-8")
    opacity = int(re.search(r"stCaptionContainer.*?currentcolor (\d+)%", look, re.DOTALL)[1]) / 100
    for behind in ("backgroundColor", "secondaryBackgroundColor"):
        ink, paper = (
            [int(colour[name][place : place + 2], 16) for place in (1, 3, 5)]
            for name in ("textColor", behind)
        )
        faded = (opacity * a + (1 - opacity) * b for a, b in zip(ink, paper, strict=True))
        assert contrast("#" + "".join(f"{round(part):02X}" for part in faded), colour[behind]) > 4.5
    assert contrast("#FFFFFF", colour["primaryColor"]) > 4.5


def test_the_colours_of_runs_differ_from_those_of_emotions():
    assert len(set(RUN_COLOURS)) == 7
    assert not set(RUN_COLOURS) & {colour for colour, _ in EMOTIONS.values()}


def test_every_state_of_a_run_has_an_icon_of_its_own():
    assert set(STATUS) == {*CORE_STATUS.values(), *ACTIVE}
    assert len({icon for icon, _ in STATUS.values()}) == len(STATUS)


def test_emotions_have_a_hindi_name_and_other_labels_do_not():
    assert bilingual("Sad") == "Sad दुख"
    assert bilingual("calm") == "calm"


def test_a_score_is_shown_with_its_interval_and_number_of_songs():
    assert song_score(FIGURES) == "46% (36 to 56), 100 songs"


@pytest.mark.parametrize("missing", sorted(FIGURES))
def test_an_incomplete_score_is_shown_as_not_measured(missing):
    assert song_score({key: value for key, value in FIGURES.items() if key != missing}) == "not measured"


def test_the_score_of_a_card_is_shown_with_its_baselines():
    assert card_score(CARD) == (
        "50% (25 to 75), 8 songs; chance 20%, largest class 25%. "
        "By song, against guessing: cannot be told apart (p = 0.23)."
    )


@pytest.mark.parametrize("missing", sorted(CARD))
def test_a_card_without_all_scores_shows_none(missing):
    assert card_score({key: value for key, value in CARD.items() if key != missing}) == ""


def test_one_thing_is_counted_in_the_singular():
    assert (counted(0, "run"), counted(1, "run"), counted(2, "run")) == ("0 runs", "1 run", "2 runs")


def test_shares_are_whole_percent():
    assert (percent(0.456), percent(0), percent(1), percent(None)) == ("46%", "0%", "100%", "–")


@given(st.text(max_size=40))
@example("**bold** _it_ `code` # h | <b> $x$ :red[x] [a](b) ~~no~~ ![](x) :material/home: --- 1. a & b")
def test_text_from_outside_is_not_interpreted_as_markdown(text):
    shown = plain(text)
    assert not re.search(r"(?<!\\)(?:\\\\)*[*_`#|<>$:\[\]()~!&\-+.{}]", shown)
    assert "\n" not in shown
    assert shown.replace("\\", "") == visible(" ".join(text.split())).replace("\\", "")


def test_devanagari_text_is_not_changed():
    assert plain("दिल  का गीत") == "दिल का गीत"


@pytest.mark.parametrize(
    "strange",
    [{"n_songs": "many"}, {"intervals": []}, {"intervals": {"song_accuracy": [1]}}, {"chance": "<b>"}],
)
def test_a_card_with_invalid_scores_shows_none(strange):
    assert card_score(CARD | strange) == ""
