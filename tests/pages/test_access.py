"""Access rules of a shared dashboard: they refuse in doubt, and errors do not reveal which paths exist."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mer.utils.errors import AccessError, ConfigError
from pages._ui.shell import access
from pages._ui.shell.access import (
    Allowance,
    confined,
    data_roots,
    is_editor,
    is_fresh,
    most_waiting,
    read_only,
    require_room,
    without_paths,
)

VERIFIED = {"sub": "abc-1", "email": "Teacher@School.in", "email_verified": True}


@pytest.fixture
def roots(tmp_path, monkeypatch):
    """Two folders that may be read; a third is beside them."""
    places = [tmp_path / name for name in ("music", "more", "secret")]
    for place in places:
        place.mkdir()
    monkeypatch.setenv("MER_DATA_ROOTS", os.pathsep.join(map(str, places[:2])))
    return places


@pytest.mark.parametrize("value", ["1", "true", "yes", "on", "True ", "perhaps"])
def test_any_value_but_an_explicit_no_makes_the_dashboard_read_only(value, monkeypatch):
    monkeypatch.setenv("MER_READ_ONLY", value)
    assert read_only()


@pytest.mark.parametrize("value", ["", "0", "false", "No", "OFF"])
def test_an_explicit_no_turns_read_only_off(value, monkeypatch):
    monkeypatch.setenv("MER_READ_ONLY", value)
    assert not read_only()


def test_a_path_in_a_data_root_may_be_read(roots):
    for path in (roots[0], roots[1] / "deep" / "er"):
        assert confined(str(path), shared=True) == confined(str(path), shared=False) == path


@pytest.mark.parametrize(
    "typed", ["{secret}", "{music}/../secret/x", "/", "/etc/passwd", "~/x", "{music}x", ".", "{music}/link/x"]
)
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.promise("A typed path must lie in the data roots.")
def test_a_path_outside_the_data_roots_is_refused(typed, shared, roots):
    (roots[0] / "link").symlink_to(roots[2])
    typed = typed.format(music=roots[0], secret=roots[2])
    with pytest.raises(AccessError, match="lies outside the data folders") as refused:
        confined(typed, shared=shared)
    assert str(refused.value).startswith(repr(typed))


def test_the_refusal_does_not_tell_whether_the_path_exists(roots):
    said = []
    for name in ("here.wav", "gone.wav"):
        path = roots[2] / name
        if name == "here.wav":
            path.touch()
        with pytest.raises(AccessError) as refused:
            confined(str(path), shared=True)
        said.append(str(refused.value).replace(name, ""))
    assert said[0] == said[1]


def test_without_data_roots_a_local_dashboard_takes_any_path_and_a_shared_one_takes_none(
    tmp_path, monkeypatch
):
    monkeypatch.delenv("MER_DATA_ROOTS", raising=False)
    assert confined(str(tmp_path), shared=False) == tmp_path
    with pytest.raises(AccessError, match="accepts no paths; upload"):
        confined(str(tmp_path), shared=True)


@pytest.mark.parametrize("typed", ["a\0b", "~nobody-of-that-name/x", "x" * 5000])
def test_text_that_is_not_a_path_is_refused_in_one_line(typed, tmp_path, monkeypatch):
    monkeypatch.delenv("MER_DATA_ROOTS", raising=False)
    try:
        confined(typed, shared=False)
    except AccessError as error:
        assert "\n" not in str(error)  # noqa: PT017 - a system may take such a name


def test_a_data_root_must_be_an_absolute_path(monkeypatch):
    monkeypatch.setenv("MER_DATA_ROOTS", "music")
    with pytest.raises(ConfigError, match="MER_DATA_ROOTS='music' is not absolute"):
        data_roots()


@pytest.mark.parametrize(
    ("editors", "claims", "allowed"),
    [
        ("", {}, True),
        ("teacher@school.in", VERIFIED, True),
        ("@school.in", VERIFIED, True),
        ("abc-1", {"sub": "abc-1"}, True),
        ("other@school.in, @lab.in", VERIFIED, False),
        ("@school.in", VERIFIED | {"email_verified": False}, False),
        ("@school.in", {"email": "teacher@school.in"}, False),
        ("@school.in", VERIFIED | {"email_verified": "true"}, False),
        ("@school.in", VERIFIED | {"email": "teacher@school.in.evil.org"}, False),
        ("@school.in", VERIFIED | {"email": "x@evil.org@school.in.evil"}, False),
        ("@", VERIFIED | {"email": ""}, False),
        ("teacher@school.in", {"sub": "abc-1", "email": None, "email_verified": True}, False),
        (",,", VERIFIED, True),
    ],
)
def test_only_named_people_with_a_verified_address_are_editors(editors, claims, allowed, monkeypatch):
    monkeypatch.setenv("MER_EDITORS", editors)
    assert is_editor(claims) is allowed


def test_a_sign_in_lasts_twelve_hours():
    assert is_fresh({"iat": 1000.0}, now=1000.0 + access.WORKING_DAY - 1)
    assert not is_fresh({"iat": 1000.0}, now=1000.0 + access.WORKING_DAY)
    assert not is_fresh({})
    assert not is_fresh({"iat": "soon"})


def test_the_queue_is_bounded(monkeypatch):
    monkeypatch.setenv("MER_MAX_QUEUE", "3")
    require_room(2)
    with pytest.raises(AccessError, match="runs already waiting: 3, allowed: 3"):
        require_room(3)
    with pytest.raises(AccessError):
        require_room(1, 3)


@pytest.mark.parametrize("value", ["many", "0", "-1", "1.5", "٣"])
def test_a_queue_without_places_is_refused(value, monkeypatch):
    monkeypatch.setenv("MER_MAX_QUEUE", value)
    with pytest.raises(ConfigError, match="MER_MAX_QUEUE"):
        most_waiting()


@given(st.lists(st.floats(0, 30), min_size=1, max_size=60))
def test_an_allowance_never_allows_more_uses_in_its_time(waits):
    clock, given_at = [0.0], []
    allowance = Allowance("predictions", 5, 60.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(access.time, "monotonic", lambda: clock[0])
        for wait in waits:
            clock[0] += wait
            try:
                allowance.take()
            except AccessError as error:
                assert "limit of 5 predictions in 1 min reached; wait" in str(error)  # noqa: PT017
                assert sum(clock[0] - then < 60 for then in given_at) == 5
            else:
                given_at.append(clock[0])
    assert all(sum(0 <= now - then < 60 for then in given_at) <= 5 for now in given_at)


def test_only_the_last_part_of_each_path_is_left(own_home, monkeypatch, tmp_path):
    assert without_paths(f"cannot write {own_home}/runs/ab: full") == "cannot write ab: full"
    assert without_paths("/srv/music/Sad/a.wav, line 3: no") == "a.wav, line 3: no"
    assert without_paths("python -m mer train --data '/srv/x/demo' --lr 1/3") == (
        "python -m mer train --data 'demo' --lr 1/3"
    )
    assert without_paths("see https://docs.example/a/b and Sad/a.wav") == (
        "see https://docs.example/a/b and Sad/a.wav"
    )
    assert str(tmp_path) not in without_paths(f"{tmp_path}/हिन्दी गाने/x.wav and {own_home}")
