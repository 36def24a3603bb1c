"""The home page shows models, runs and data, or says how to get some."""

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from mer.tracking import RunStore

APP = str(Path(__file__).parents[2] / "streamlit_app.py")


def texts(app):
    return " ".join(element.value for element in [*app.info, *app.error, *app.caption])


def test_an_empty_home_says_what_to_do_first(own_home):
    app = AppTest.from_file(APP, default_timeout=30).run()
    assert not app.exception
    assert "No runs yet. Start one" in texts(app)
    assert not own_home.exists()


def test_runs_and_their_data_are_listed(runs_home):
    runs = RunStore.open()
    run_id = runs.create("resnet18 songs", {"data": "songs"})
    runs.tag(run_id, {"mer.data_name": "songs", "mer.data_hash": "abc", "mer.synthetic": "True"})
    app = AppTest.from_file(APP, default_timeout=30).run()
    assert not app.exception
    tables = [frame.value for frame in app.dataframe]
    assert any("resnet18 songs" in table.get("name", []).to_list() for table in tables if "name" in table)
    assert any("songs (synthetic)" in table["data"].to_list() for table in tables if "data" in table)


@pytest.mark.parametrize("content", [b"", b"not a database at all, but a long enough text for a header" * 40])
def test_a_damaged_database_is_a_message_and_no_traceback(own_home, content):
    own_home.mkdir()
    (own_home / "mlflow.db").write_bytes(content)
    app = AppTest.from_file(APP, default_timeout=30).run()
    assert not app.exception
    assert "mlflow.db" in texts(app) or "No runs yet" in texts(app)
