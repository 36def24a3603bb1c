"""Older files are read, newer ones refused in one line: cards, runs, their database, states, the library.

The older ones are those of tests/golden/older, as the first mer wrote them.
"""

import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from mer.cli import main
from mer.data.library import known
from mer.experiments.prepared import Spec
from mer.models.card import WEIGHTS, load_card
from mer.models.tensors import load_tensors, save_tensors
from mer.runs.schema import SCHEMA
from mer.runs.store import RunStore
from mer.training.state import load_state, save_state
from mer.utils.errors import CheckpointError, RunError, StorageError
from mer.utils.versions import CURRENT, STEPS, upgraded
from tests.golden.older import RUN

ROOT = Path(__file__).parents[2]
OLDER = ROOT / "tests" / "golden" / "older"


def newer(what, number=3, up_to=2):
    return rf"{what} was made by a newer mer \(format {number}; this one reads up to {up_to}\); update mer$"


# The registry


def test_every_older_format_has_a_step_to_the_next():
    assert set(STEPS) == {(kind, number) for kind, last in CURRENT.items() for number in range(1, last)}


def test_steps_are_taken_one_after_another(monkeypatch):
    monkeypatch.setitem(CURRENT, "card", 3)
    monkeypatch.setitem(STEPS, ("card", 1), lambda data: data | {"one": 1})
    monkeypatch.setitem(STEPS, ("card", 2), lambda data: data | {"two": data["one"] + 1})
    for number, found in ((None, {"one": 1, "two": 2}), (3, {})):
        assert upgraded("card", {}, number, where="it", error=CheckpointError) == found


@pytest.mark.parametrize("config", [None, [], 1, {"audio": None, "split": []}])
def test_settings_that_cannot_be_filled_in_stay_as_they_are(config):
    for kind in ("card", "run"):
        data = {"config": config, "data": "songs"}
        assert upgraded(kind, data, 1, where="it", error=RunError) == data
        assert upgraded(kind, {}, 1, where="it", error=RunError) == {}


@pytest.mark.promise("Older runs get the same samples and features as before.")
def test_settings_missing_in_format_1_have_their_former_value():
    meant = {"audio": {"resampler": "sinc"}, "split": {"validation_from": "rest"}}
    for kind in ("card", "run"):
        assert upgraded(kind, {"config": {}}, 1, where="it", error=RunError) == {"config": meant}
        given = {"config": {"split": {"validation_from": "next", "test": 0.3}}}
        found = upgraded(kind, given, 1, where="it", error=RunError)["config"]
        assert found == {"audio": meant["audio"], **given["config"]}


# Cards


@pytest.fixture
def checkpoint(tmp_path):
    """`checkpoint(**changes)`: a folder with the first mer's card, changed, and an empty weights file."""

    def make(**changes):
        (tmp_path / WEIGHTS).touch()
        card = json.loads((OLDER / "card.json").read_text()) | changes
        (tmp_path / "card.json").write_text(json.dumps(card))
        return tmp_path

    return make


@pytest.mark.parametrize("changes", [{}, {"format": 1}])
@pytest.mark.promise("Cards, libraries and states of the first version of mer can be read.")
def test_the_first_mer_s_card_is_read(changes, checkpoint):
    card = load_card(checkpoint(**changes))
    assert (card.classes, card.config.mel.n_fft, card.temperature) == (("Happy", "Sad"), 2048, 1.0)
    assert card.config.train.standardize == "training"  # a setting it had not
    assert card.config.audio.resampler == "sinc"  # nor this, which was the only way
    assert card.config.split.validation_from == "rest"  # what it did then, which is not the default now
    assert card.format == CURRENT["card"]


@pytest.mark.promise("Cards, libraries and states of a newer version are refused in one line.")
def test_a_newer_card_is_refused_in_one_line(checkpoint):
    with pytest.raises(CheckpointError, match=newer(r"card\.json", 3, 2)):
        load_card(checkpoint(format=3, classes={"something": "else"}))


@pytest.mark.parametrize("folder", sorted(p.parent for p in ROOT.glob("checkpoints/*/card.json")), ids=str)
def test_the_shipped_cards_are_read(folder):
    card = load_card(folder)
    assert card.format == CURRENT["card"]
    first = folder.name == "demo_mobilenet_v3_small"
    assert card.config.audio.resampler == ("sinc" if first else "soxr")  # as they were trained


# The library


@pytest.mark.promise("Cards, libraries and states of the first version of mer can be read.")
def test_the_first_mer_s_library_is_read(own_home):
    own_home.mkdir()
    shutil.copy(OLDER / "library.json", own_home)
    (entry,) = known()
    assert (entry.name, entry.path) == ("songs", "/music/songs")


@pytest.mark.promise("Cards, libraries and states of a newer version are refused in one line.")
def test_a_newer_library_is_refused_and_left_alone(own_home, tiny_corpus, capsys):
    own_home.mkdir()
    file = own_home / "library.json"
    file.write_text('{"format": 3, "shelves": []}')
    with pytest.raises(StorageError, match=newer(r"library\.json", 3, 2)):
        known()
    assert [path.name for path in own_home.iterdir()] == ["library.json"]
    assert file.read_text() == '{"format": 3, "shelves": []}'


# States


@pytest.mark.promise("Cards, libraries and states of the first version of mer can be read.")
def test_the_first_mer_s_state_is_read():
    state = load_state(OLDER / "state.safetensors")
    assert (state.epoch, state.best_epoch, list(state.model)) == (1, 0, ["weight"])


@pytest.mark.promise("Cards, libraries and states of a newer version are refused in one line.")
def test_a_newer_state_is_refused_in_one_line(tmp_path):
    path = tmp_path / "state.safetensors"
    save_state(path, load_state(OLDER / "state.safetensors"))
    tensors, note = load_tensors(path)
    assert note["format"] == CURRENT["state"]
    save_tensors(path, tensors, note | {"format": 2})
    with pytest.raises(RunError, match=newer(r"state\.safetensors", 2, 1)):
        load_state(path)


# Runs


def test_a_run_says_its_format(runs_home):
    runs = RunStore.open()
    run = runs.get(runs.create("one", {}))
    assert run.tags["mer.format"] == str(CURRENT["run"])
    run.require_readable()


def test_a_newer_run_is_shown_but_not_resumed(runs_home, capsys):
    runs = RunStore.open()
    run_id = runs.create("from the future", {"something": "else"})
    runs.tag(run_id, {"mer.format": "3"})
    runs.finish(run_id, "stopped")
    assert runs.get(run_id).name == "from the future"
    assert main(["runs", "resume", run_id[:8]]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: run {run_id[:8]} was made by a newer mer (format 3; this one reads up")
    assert error.count("\n") == 1


@pytest.mark.parametrize("text", ["", "two", "-1"])
def test_an_unknown_format_is_an_error(text, runs_home):
    runs = RunStore.open()
    run = runs.get(runs.create("one", {}))
    with pytest.raises(RunError, match="is not valid; it should be 1"):
        replace(run, tags=run.tags | {"mer.format": text}).require_readable()


# The database


@pytest.fixture
def older_home(own_home):
    """A home with the database of an older MLflow, in which one run was stopped."""
    own_home.mkdir()
    with closing(sqlite3.connect(own_home / "mlflow.db")) as connection:
        connection.executescript((OLDER / "mlflow.sql").read_text())
    return own_home


def schema_of(path):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]


def test_a_new_database_has_the_schema_that_mer_expects(runs_home):
    assert schema_of(runs_home / "mlflow.db") == SCHEMA


@pytest.mark.promise("The database of an older MLflow is copied before it is upgraded.", measured="1.9 s")
def test_an_older_database_is_copied_and_brought_up_to_date(older_home):
    (run,) = RunStore.open().runs()
    assert (run.id, run.name, run.status, run.metrics) == (RUN, "old", "stopped", {"train_loss": 0.5})
    run.require_readable()
    config = Spec.from_dict(run.spec).config
    assert (config.mel.n_fft, config.audio.resampler) == (2048, "sinc")
    assert config.split.validation_from == "rest"
    assert schema_of(older_home / "mlflow.db") == SCHEMA
    assert schema_of(older_home / "mlflow.db.before-acf3f17fdcc7") == "acf3f17fdcc7"


def test_a_database_that_cannot_be_brought_up_to_date_is_left_as_it_was(older_home, monkeypatch):
    def fail(*words, **options):
        database = older_home / "mlflow.db"
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("DROP TABLE runs")
        raise RuntimeError("in the middle\nof it")

    monkeypatch.setattr("mlflow.db.upgrade.main", fail)
    with closing(sqlite3.connect(older_home / "mlflow.db")) as connection:
        before = list(connection.iterdump())
    message = r"was made by an older MLflow and cannot be upgraded \(in the middle\); set MER_HOME"
    with pytest.raises(StorageError, match=message):
        RunStore.open()
    with closing(sqlite3.connect(older_home / "mlflow.db")) as connection:
        assert list(connection.iterdump()) == before


def test_a_newer_database_is_refused_in_one_line_and_left_alone(older_home, capsys):
    with closing(sqlite3.connect(older_home / "mlflow.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
        connection.commit()
        before = list(connection.iterdump())
    assert main(["runs", "list"]) == 2
    error = capsys.readouterr().err
    assert "mlflow.db was made by a newer MLflow (schema ffffffffffff); install a newer mer" in error
    assert error.count("\n") == 1
    with closing(sqlite3.connect(older_home / "mlflow.db")) as connection:
        assert list(connection.iterdump()) == before


def test_a_server_that_does_not_answer_is_an_error_of_one_line(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(
        StorageError, match=r"the MLflow server at http://127.0.0.1:9 cannot be used \(no answer\); start it"
    ) as e:
        RunStore.open()
    assert "\n" not in str(e.value)
