"""Names from outside: shown on one line, spelt in one way, cut to what a file system takes."""

import json
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mer.cli import main
from mer.cli.output import emit, table
from mer.utils.errors import CheckpointError, DataError, WeightsError
from mer.utils.text import LONGEST, composed, fitting, spellings, visible

HINDI = "क्\u200dषमा खु\u200cशी फ़िल्म १२"


@given(st.text())
@example("\x1b[31mred\x1b[0m\r\n\x9b2J\u202eevil\u2066\ud800\U000e0041\x00\t")
def test_visible_text_is_one_line_and_names_control_characters(text):
    shown = visible(text)
    assert not {unicodedata.category(c) for c in shown} & {"Cc", "Cs", "Zl", "Zp", "Cn", "Co"}
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    shown.encode()
    assert visible(shown) == shown


@given(
    st.recursive(st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)
def test_json_keeps_its_meaning_when_made_visible(data):
    assert json.loads(visible(json.dumps(data, ensure_ascii=False))) == json.loads(json.dumps(data))


@pytest.mark.parametrize("text", [HINDI, "اردو\u200f", "日本語", "a  b", "é", "e\u0301", "🎵"])
def test_all_scripts_stay_unchanged(text):
    assert visible(text) == text


@given(st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), min_size=1, max_size=400))
def test_a_short_name_is_unchanged(name):
    cut = fitting(name)
    assert len(cut.encode()) <= LONGEST
    assert fitting(cut) == cut
    assert cut == composed(name) or len(composed(name).encode()) > LONGEST


def test_long_names_that_differ_at_the_end_stay_different_and_keep_their_suffix():
    one, other = (fitting("गीत" * 200 + f"{n}.wav") for n in (1, 2))
    assert one != other
    assert one.endswith(".wav")


def test_a_plain_name_has_one_spelling_and_hindi_with_a_dot_has_the_decomposed_one_too():
    assert spellings("a/b.wav") == ("a/b.wav",)
    assert set(spellings("caf\u00e9")) == {"caf\u00e9", "cafe\u0301"}


# What is said with them


@pytest.mark.parametrize("kind", [DataError, CheckpointError, WeightsError])
@pytest.mark.promise("An error is printed on one line, and no output can control the terminal.")
def test_an_error_is_one_line_whatever_it_quotes(kind):
    error = kind("a\nb\x1b[2J\u202ec: no such file")
    assert str(error) == "a\\nb\\u001b[2J\\u202ec: no such file"


def test_errors_contain_no_terminal_control_codes(capsys, tmp_path):
    assert main(["data", "check", str(tmp_path / "no\x1b[2J\nsuch")]) == 2
    error = capsys.readouterr().err
    assert "\x1b" not in error
    assert error.count("\n") == 1


@pytest.mark.promise("An error is printed on one line, and no output can control the terminal.")
def test_output_contains_no_terminal_control_codes(capsys):
    emit({"name": "\x1b[2J\x9b\u202e"}, as_json=True, text="")
    emit(None, as_json=False, text=table([("a\nb\x1b[2J", HINDI)], ("name", "label")))
    emit(None, as_json=False, text="label: \x1b[2J\u202e")
    out = capsys.readouterr().out
    assert not {"\x1b", "\x9b", "\u202e"} & set(out)
    assert json.loads(out.splitlines()[0]) == {"name": "\x1b[2J\x9b\u202e"}
    assert len(out.splitlines()) == 4
    assert HINDI in out
