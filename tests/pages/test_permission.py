"""Permissions on the pages: all changes go through one module, which refuses them without permission."""

import ast
import time
from pathlib import Path

import pytest
import streamlit as st

from mer.data.library import known
from mer.runs.store import RunStore
from mer.utils.errors import AccessError
from pages._ui.parts import clip
from pages._ui.shell import changes, permission
from tests.page_helpers import ROOT, TITLES, by_label, errors, opened, page_at, said

CHANGING = {
    "mer.jobs.queue": {"launch", "relaunch", "cancel", "delete", "prune"},
    "mer.runs.deleted": {"restore", "remove_files"},
    "mer.data.listening": {"create", "remove"},
    "mer.data.library": {"add", "add_clips", "add_demo", "add_kaggle", "add_zip", "forget"},
}
# These run a command: the check of a data set, which changes nothing, and what is behind the door.
RUN_COMMANDS = {"datasets.py", "changes.py"}
SAYS = "This dashboard is read-only"
STRANGER = {"is_logged_in": False}


def teacher(**claims):
    return {"is_logged_in": True, "sub": "1", "name": "A Teacher", "iat": time.time()} | claims


@pytest.fixture
def read_only(monkeypatch):
    monkeypatch.setenv("MER_READ_ONLY", "1")


def modules():
    return [*sorted((ROOT / "pages").rglob("*.py")), ROOT / "streamlit_app.py"]


def buttons(app):
    return {button.label: button.disabled for button in app.button}


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.name)
@pytest.mark.promise(
    "Every change that a page can make goes through the module that checks the permission.",
    measured="every module",
)
def test_only_one_module_calls_functions_that_change_something(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, ast.ImportFrom | ast.Import):
            continue
        module = getattr(node, "module", "")
        names = {alias.name for alias in node.names}
        if path.name != "changes.py":
            assert not names & CHANGING.get(module, set())
            assert not (module in ("mer", "mer.runs") and names & {"jobs", "library", "deleted"})
            assert "mer.experiments.ensembling" not in {module, *names}
        if module == "pages._ui.shell.commands":
            assert path.name in RUN_COMMANDS


@pytest.mark.parametrize("name", sorted(set(changes.__all__)))
@pytest.mark.promise(
    "In read-only mode, or before sign-in, nothing can be changed.", measured="every kind of change"
)
def test_permission_is_checked_before_anything_is_changed(name, read_only, own_home):
    words = {"weights": "equal", "command": ""} if name == "join" else {}
    arguments = {"add": 1, "add_clips": 2, "add_demo": 0, "add_kaggle": 1, "add_zip": 2, "forget": 1}
    arguments |= {"open_session": 3, "remove_session": 1, "save_votes": 1, "vote": 5}
    with pytest.raises(AccessError, match=SAYS):
        getattr(changes, name)(*["x"] * arguments.get(name, 2), **words)
    assert not own_home.exists()


@pytest.mark.parametrize("page", sorted(TITLES))
@pytest.mark.promise("Read-only pages show no path of the server.", measured="every page")
def test_a_read_only_page_offers_no_change_and_shows_no_path(page, lab, checked, unmeasured, read_only):
    app = opened(page)
    assert errors(app) == []
    labels = buttons(app)
    for label in ("Stop", "Resume", "Delete", "Check again", "Forget it", "Make the demo corpus"):
        assert label not in labels
    assert "Deleted runs" not in [toggle.label for toggle in app.toggle]
    assert "Deleted runs" not in [toggle.label for toggle in app.toggle]
    for label in ("Launch", "Launch the ladder", "Make an ensemble of these"):
        assert labels.get(label, True)
    assert str(lab.home) not in said(app)
    assert str(lab.corpus.parent) not in said(app)
    assert str(Path.cwd()) not in said(app)


def test_a_read_only_train_page_says_so_and_still_shows_the_command(lab, checked, unmeasured, read_only):
    app = opened("train")
    assert SAYS in said(app)
    assert "python -m mer train --data" in app.code[0].value


def test_a_read_only_dashboard_predicts(lab, read_only):
    app = page_at("predict", source="Example").run()
    assert errors(app) == []
    assert len(app.get("plotly_chart")) >= 2


def test_a_button_that_was_drawn_before_permission_ended_does_nothing(lab, monkeypatch):
    app = opened("live")
    before = {run.id: run.status for run in RunStore.open().runs()}
    monkeypatch.setenv("MER_READ_ONLY", "1")
    next(button for button in app.button if button.label == "Resume").click().run()
    assert SAYS in "".join(errors(app))
    assert {run.id: run.status for run in RunStore.open().runs()} == before


def test_without_sign_in_everybody_may_make_changes(lab, checked, unmeasured):
    labels = buttons(opened("train"))
    assert labels["Launch"] is False
    assert "Sign in" not in labels


def visited(page, user):
    app = page_at(page)
    app.user = user
    return app.run()


def test_a_visitor_who_is_not_signed_in_may_view_and_is_asked_to_sign_in(lab, checked, unmeasured):
    app = visited("train", STRANGER)
    assert "Sign in to change anything here" in said(app)
    assert buttons(app)["Launch"] is True
    assert "Sign in" in buttons(app)
    assert "Delete" not in buttons(visited("live", STRANGER))


def test_a_visitor_who_is_signed_in_may_make_changes(lab, checked, unmeasured):
    app = visited("train", teacher())
    assert buttons(app)["Launch"] is False
    assert "A Teacher" in said(app)
    assert "Sign out" in buttons(app)


def test_a_name_from_the_sign_in_provider_is_shown_as_plain_text(lab):
    assert r"\<b\>A\*\*" in said(visited("home", teacher(name="<b>A**")))


def test_a_sign_in_of_yesterday_has_expired(lab, checked, unmeasured):
    assert buttons(visited("train", teacher(iat=time.time() - 86_400)))["Launch"] is True


def test_if_editors_are_named_only_they_may_make_changes(lab, checked, unmeasured, monkeypatch):
    monkeypatch.setenv("MER_EDITORS", "@school.in")
    verified = {"email": "a@school.in", "email_verified": True}
    assert buttons(visited("train", teacher(**verified)))["Launch"] is False
    app = visited("train", teacher(email="a@school.in"))
    assert buttons(app)["Launch"] is True
    assert "ask the operator to add you as an editor" in said(app)


def typed(path):
    app = page_at("data").run()
    by_label(app.text_input, "Path on the server").set_value(str(path))
    return by_label(app.button, "Add").click().run()


def test_a_typed_path_outside_the_data_roots_is_refused(
    own_home, checked, monkeypatch, tmp_path, tiny_corpus
):
    (tmp_path / "music").mkdir()
    monkeypatch.setenv("MER_DATA_ROOTS", str(tmp_path / "music"))
    app = typed(tiny_corpus)
    assert "lies outside the data folders" in errors(app)[0]
    assert known() == []
    monkeypatch.setenv("MER_DATA_ROOTS", str(tmp_path))
    typed(tiny_corpus)
    assert [entry.path for entry in known()] == [str(tiny_corpus)]


@pytest.mark.parametrize("address", ["0.0.0.0", "", "192.168.1.7"])
def test_a_shared_server_takes_no_paths_without_data_roots(address, own_home, monkeypatch):
    option = st.get_option
    monkeypatch.setattr(st, "get_option", lambda key: address if key == "server.address" else option(key))
    with pytest.raises(AccessError, match="accepts no paths"):
        permission.confined("/srv/music")


def test_the_path_of_a_weights_file_must_be_in_a_data_root_too(
    lab, checked, unmeasured, monkeypatch, tmp_path
):
    monkeypatch.setenv("MER_DATA_ROOTS", str(tmp_path))
    app = opened("train")
    next(box for box in app.text_input if box.label == "Weights to start from").set_value("/etc/passwd").run()
    assert "lies outside the data folders" in errors(app)[0]


def test_the_queue_takes_only_a_limited_number_of_runs(lab, monkeypatch):
    monkeypatch.setattr(changes.queue, "launch", lambda runs, spec: "run")
    monkeypatch.setattr(st, "session_state", {})
    monkeypatch.setenv("MER_MAX_QUEUE", "1")
    assert changes.launch(RunStore.open(), None) == "run"
    waiting = RunStore.open().create("waits", {})
    try:
        with pytest.raises(AccessError, match="runs already waiting: 1"):
            changes.launch(RunStore.open(), None)
    finally:
        RunStore.open().delete(waiting)


def test_a_session_has_a_limit_of_actions(monkeypatch):
    monkeypatch.setattr(st, "session_state", {})
    monkeypatch.setitem(permission.ALLOWANCES, "predictions", (2, 600.0))
    permission.spend("predictions")
    permission.spend("predictions")
    with pytest.raises(AccessError, match="limit of 2 predictions in 10 min reached; wait"):
        permission.spend("predictions")
    monkeypatch.setattr(st, "session_state", {})  # another visitor
    permission.spend("predictions")


def test_a_clip_that_is_too_long_is_refused_before_it_is_read(lab, monkeypatch):
    monkeypatch.setattr(clip, "LONGEST", 5.0)
    app = page_at("predict", source="Example").run()
    assert "10 s long; cut it to 5 s or less" in errors(app)[0]


def test_only_computed_predictions_count_against_the_limit(lab, monkeypatch):
    counted = []
    monkeypatch.setattr(clip, "spend", counted.append)
    for _ in range(2):
        assert errors(page_at("predict", source="Example").run()) == []
    assert counted == ["predictions"]
