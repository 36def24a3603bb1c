"""Every page opens in every state of its home, with its title and a next step, never with a traceback."""

import ast

import pytest
from streamlit.testing.v1 import AppTest

from mer.runs.results import test_key as key_of
from pages._ui.frame import PAGES
from tests.page_helpers import ENTRY, ROOT, SECONDS, TITLES, as_read, errors, links, opened, said

MODULES = [*sorted((ROOT / "pages").glob("*.py")), ENTRY]
SHARED = sorted((ROOT / "pages" / "_ui").glob("*.py"))
# What to press, or where to go, where there is nothing to show.
WAY_OUT = {
    "home": "Try a clip", "predict": "JSON", "data": "Make the demo corpus", "train": "data",
    "live": "train", "compare": "train", "confusion": "train", "study": "",
    "ladder": "data", "map": "train", "vote": "",
}  # fmt: skip


pytestmark = pytest.mark.usefixtures("checked", "unmeasured")


def whole(app, name):
    """True if the page has its title and no exception."""
    assert not app.exception
    assert "Traceback" not in said(app)
    assert "Something went wrong" not in said(app)
    return TITLES[name] in [title.value for title in app.title]


def offers(app):
    """Buttons and links in the main part."""
    return [*(b.label for b in (*app.main.button, *app.main.download_button)), *links(app)]


def test_the_menu_has_every_page():
    named = [name for pages in PAGES.values() for _, name, _ in pages]
    assert sorted(named) == sorted(TITLES) == sorted(path.stem for path in MODULES if path != ENTRY)


@pytest.mark.parametrize("name", TITLES)
def test_each_page_of_an_empty_home_offers_a_next_step_and_writes_nothing(name, own_home):
    app = opened(name)
    assert whole(app, name)
    assert errors(app) == []
    assert not WAY_OUT[name] or WAY_OUT[name] in offers(app)
    assert not own_home.exists()


@pytest.mark.parametrize("name", TITLES)
def test_each_page_opens_on_its_own_in_a_home_with_runs(name, lab):
    app = opened(name)
    assert whole(app, name)
    assert errors(app) == []
    assert not app.sidebar.page_link


@pytest.mark.parametrize("name", TITLES)
def test_each_page_links_to_active_runs(name, busy):
    app = opened(name)
    assert whole(app, name)
    assert errors(app) == []
    (link,) = app.sidebar.page_link
    assert (link.label, link.proto.page) == ("a run under way: running", "live")
    assert busy.running[:8] in link.proto.query_string


@pytest.mark.parametrize("name", TITLES)
def test_each_page_opens_through_the_entry_point(name, busy):
    app = AppTest.from_file(ENTRY, default_timeout=SECONDS).run()
    app.switch_page(f"pages/{name}.py").run()
    assert whole(app, name)
    assert errors(app) == []


@pytest.mark.parametrize("name", TITLES)
def test_a_broken_database_is_named_with_the_remedy(name, broken_database):
    app = opened(name)
    assert whole(app, name)
    assert errors(app)
    assert all(str(broken_database / "mlflow.db") in error for error in errors(app))
    assert all("set MER_HOME" in error for error in errors(app))


def test_an_empty_database_file_counts_as_no_database(own_home):
    own_home.mkdir()
    (own_home / "mlflow.db").touch()
    app = opened("live")
    assert whole(app, "live")
    assert errors(app) == []


@pytest.mark.parametrize("name", ["home", "live"])
def test_an_invalid_environment_setting_is_named_and_the_page_stays(name, monkeypatch):
    monkeypatch.setenv("MER_SLOTS", "many")
    app = opened(name)
    assert whole(app, name)
    assert "MER_SLOTS='many' should be a whole number" in said(app.sidebar)


def test_the_sidebar_counts_the_cores_that_runs_may_use(monkeypatch):
    monkeypatch.setattr("mer.utils.machine.processors", lambda: [0, 2, 5])
    monkeypatch.setattr("mer.utils.machine.gpus", lambda: 0)
    assert "CPU, 3 cores" in said(opened("home").sidebar)


@pytest.mark.parametrize("name", TITLES)
def test_each_page_still_works_with_damaged_files(name, spoiled):
    assert whole(opened(name), name)


def test_damaged_scores_are_named_where_they_are_shown(spoiled):
    app = opened("confusion", run=[spoiled.first, spoiled.second])
    assert any(f"run {spoiled.first[:8]}: its scores cannot be read" in error for error in errors(app))
    assert f"· `{spoiled.second[:8]}`" not in " ".join(errors(app))
    assert "Listen to a cell" in said(app)


def test_damaged_predictions_are_named_and_the_leaderboard_stays(lab, damage):
    damage(lab.runs.folder(lab.second, "evaluation") / "predictions.json")
    app = opened("compare", on=key_of(lab.runs.get(lab.second)))
    (error,) = errors(app)
    assert f"run {lab.second[:8]}: its predictions cannot be read" in error
    assert len(app.dataframe) == 1


def test_a_model_with_a_damaged_card_is_left_out_with_a_warning(spoiled):
    app = opened("predict", model=spoiled.second[:8])
    (models,) = app.multiselect
    assert models.value == [spoiled.second[:8]]
    assert not any(spoiled.first[:8] in option for option in models.options)
    (warning,) = app.warning
    assert "A model is left out" in warning.value
    assert spoiled.first in warning.value.replace("\\", "")


def test_a_damaged_library_is_reported_with_the_place_of_its_copy(spoiled):
    app = opened("data")
    assert any("library.json.damaged" in as_read(warning.value) for warning in app.warning)


def test_an_unexpected_exception_is_reported_in_plain_words(monkeypatch):
    monkeypatch.setattr("pages._ui.cached.models.models", lambda: 1 / 0)
    app = opened("home")
    assert not app.exception
    assert errors(app)
    assert all("Something went wrong here. Reload the page" in text for text in errors(app))
    assert "ZeroDivisionError: division by zero" in [code.value for code in app.code]
    assert "Start here" in said(app), "the other parts of the page stay"


def lines(path):
    return len(path.read_text("utf-8").splitlines())


def modules_in(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_each_page_is_short(path):
    assert lines(path) <= 120


@pytest.mark.parametrize("path", SHARED, ids=lambda path: path.name)
def test_the_modules_that_pages_share_are_short(path):
    assert lines(path) <= 300


@pytest.mark.parametrize("path", [*MODULES, *SHARED], ids=lambda path: path.name)
def test_no_page_imports_mlflow(path):
    assert not [name for name in modules_in(path) if name.split(".")[0] == "mlflow"]


@pytest.mark.parametrize("path", [*MODULES, *SHARED], ids=lambda path: path.name)
def test_a_page_imports_torch_only_inside_functions_or_not_at_all(path):
    top = [node for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, ast.Import)]
    assert "torch" not in [alias.name for node in top for alias in node.names]
