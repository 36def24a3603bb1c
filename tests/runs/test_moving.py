"""A home is moved, copied, restored, linked or mounted elsewhere: nothing is lost, no other is touched."""

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest

from mer.cli import main
from mer.data import library
from mer.experiments.ensembling import join
from mer.experiments.experiment import Experiment
from mer.experiments.prepared import Spec
from mer.jobs.queue import delete
from mer.runs.results import read_predictions, read_scores
from mer.runs.run import owner, state_path
from mer.runs.store import RunStore
from mer.training.loop import Callback, Stop
from mer.utils.errors import RunError, StorageError
from mer.utils.files import moved_path
from tests.run_helpers import tiny_config, write_songs
from tests.tiny_backbone import tiny_zoo


@pytest.fixture(autouse=True)
def tiny_in_the_zoo():
    with tiny_zoo():
        yield


def small_config(**changes):
    return tiny_config(backbone="tiny", **changes)


class StopAfter(Callback):
    """Stops a run after so many epochs, with its state on disk."""

    def __init__(self, epochs):
        self.epochs = epochs

    def on_epoch(self, state):
        if state.epoch == self.epochs:
            raise Stop("enough")


def go_to(home, monkeypatch):
    monkeypatch.setenv("MER_HOME", str(home))
    return RunStore.open()


def shell(*words):
    """In a process of its own: whoever closes a database's file loses its locks on it."""
    subprocess.run([str(word) for word in words], check=True, capture_output=True)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A home with clips of its own, two finished runs on them, and one stopped after its second epoch."""
    home = tmp_path_factory.mktemp("template") / "home"
    with pytest.MonkeyPatch.context() as patch, tiny_zoo():
        patch.setenv("MER_HOME", str(home))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        make(home)
    return home


def make(home):
    data = write_songs(home / "data" / "upload" / "songs", songs=4, clips=1)
    library.add(data)
    for seed in (0, 1):
        config = small_config(epochs=1, lr=0.001 * (seed + 1))
        outcome = Experiment().train(Spec(str(data), config))
        assert outcome.status == "finished"
    stopped = Experiment(callbacks=[StopAfter(2)]).train(Spec(str(data), small_config(epochs=3)))
    assert stopped.status == "stopped"


def copied_whole(home, to):
    """Copy a home that this process still uses; SQLite copies its own database, with what its log holds."""
    shutil.copytree(home, to, ignore=shutil.ignore_patterns("mlflow.db*"))
    with (
        closing(sqlite3.connect(home / "mlflow.db")) as old,
        closing(sqlite3.connect(to / "mlflow.db")) as new,
    ):
        old.backup(new)


@pytest.fixture
def made(template, tmp_path, monkeypatch):
    """A home A that was made by a mer that noted no home, and was never anywhere else."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    home = tmp_path / "A" / "home"
    home.parent.mkdir()
    copied_whole(template, home)
    with closing(sqlite3.connect(home / "mlflow.db")) as database, database:
        database.execute("DELETE FROM tags WHERE key = 'mer.home'")
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            database.execute(
                f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (str(template), str(home))
            )
        query = "SELECT value, run_uuid FROM tags WHERE key = 'mer.spec'"
        for text, run_id in database.execute(query).fetchall():
            spec = text.replace(str(template), str(home))
            database.execute(
                "UPDATE tags SET value = ? WHERE key = 'mer.spec' AND run_uuid = ?", (spec, run_id)
            )
    names = (home / "library.json").read_text().replace(str(template), str(home))
    (home / "library.json").write_text(names)
    return home


def finished(runs):
    return [run for run in runs.runs() if run.status == "finished" and not run.members]


def content(folder):
    """Every file of a folder but the database's, with what is in it."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("mlflow.db")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def recorded(home):
    """All that MLflow's database says of places, as text."""
    with closing(sqlite3.connect(home / "mlflow.db")) as database:
        places = database.execute("SELECT artifact_location FROM experiments WHERE name = 'mer'").fetchall()
        places += database.execute("SELECT artifact_uri FROM runs").fetchall()
    return [place for (place,) in places]


def moved(home, to):
    shell("mv", home, to)


def copied(home, to):
    shell("cp", "-a", home, to)
    shell("rm", "-r", home)


def packed(home, to):
    shell("tar", "-C", home.parent, "-cf", to.parent / "home.tar", home.name)
    shell("rm", "-r", home)
    to.mkdir()
    shell("tar", "-C", to, "--strip-components=1", "-xf", to.parent / "home.tar")


def linked(home, to):
    real = home.parent.parent / "real"
    shell("mv", home, real)
    to.symlink_to(real)


WAYS = [moved, copied, packed, linked]
NAMES = ["B", "a b", "हिन्दी संगीत", "50% off", "50%20x", "x#y", "q'uo\"te", "que?ry", "semi;colon&=+", "[b]*"]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_home_elsewhere_has_all_it_had_and_takes_new_runs(way, made, tmp_path, monkeypatch, capsys):
    scores = {run.id: run.metrics for run in go_to(made, monkeypatch).runs()}
    home = tmp_path / "B"
    way(made, home)
    runs = go_to(home, monkeypatch)
    assert {run.id: run.metrics for run in runs.runs()} == scores
    first, second = finished(runs)
    for run in (first, second):
        assert read_predictions(runs, run.id)
        assert read_scores(runs, run.id)["accuracy"] == run.metrics["test_accuracy"]
        assert runs.folder(run, "checkpoint").is_relative_to(home)
    check_mlflow_reads(runs.client, first.id, tmp_path)
    (entry,) = library.known()
    assert Path(entry.path) == home / "data" / "upload" / "songs"
    assert entry.exists
    assert main(["export", first.id[:8], "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "card.json").is_file()
    joined = join(runs, [first.id, second.id])
    assert Path(joined.checkpoint).is_relative_to(home)
    delete(runs, second.id)
    assert second.id not in {run.id for run in runs.runs()}
    new = runs.create("new", {"data": "songs"})
    runs.save_folder(new, "checkpoint", lambda folder: (folder / "weights").touch())
    assert (home / "artifacts" / new / "artifacts" / "checkpoint" / "weights").is_file()
    assert [entry.path for entry in runs.client.list_artifacts(new, "checkpoint")]
    assert not made.exists()


def check_mlflow_reads(client, run_id, folder):
    """MLflow's own client lists the files of a run and gives one of them."""
    assert [entry.path for entry in client.list_artifacts(run_id)] == ["checkpoint", "evaluation"]
    path = client.download_artifacts(run_id, "checkpoint/card.json", str(folder))
    assert json.loads(Path(path).read_text())["classes"] == ["Happy", "Sad"]


def test_an_unfinished_run_goes_on_after_its_home_was_moved(made, tmp_path, monkeypatch):
    go_to(made, monkeypatch)
    moved(made, tmp_path / "B")
    runs = go_to(tmp_path / "B", monkeypatch)
    (run,) = [run for run in runs.runs() if run.status == "stopped"]
    assert state_path(run.id).is_file()
    assert Experiment().resume(run.id).status == "finished"
    assert [step for step, _ in runs.history(run.id, "train_loss")] == [1, 2, 3]
    assert Experiment().train(Spec.from_dict(runs.get(run.id).spec)).status == "finished"
    assert not made.exists()


def test_an_unfinished_run_whose_clips_were_outside_and_are_gone_says_what_to_do(made, tmp_path, monkeypatch):
    runs = go_to(made, monkeypatch)
    run_id = runs.create("far", Spec(str(tmp_path / "music"), small_config()).to_dict())
    runs.finish(run_id, "stopped")
    moved(made, tmp_path / "B")
    go_to(tmp_path / "B", monkeypatch)
    with pytest.raises(Exception, match=r"music, the clips of run .*; put a copy or a link there"):
        Experiment().resume(run_id)


def test_a_home_may_have_any_name(made, tmp_path, monkeypatch):
    home = made
    for number, name in enumerate([*NAMES, NAMES[1]]):  # away from each odd name, too
        to = tmp_path / str(number) / name
        to.parent.mkdir()
        moved(home, to)
        home, runs = to, go_to(to, monkeypatch)
        run = finished(runs)[0]
        assert runs.folder(run, "checkpoint").is_relative_to(to)
        assert [entry.path for entry in runs.client.list_artifacts(run.id, "evaluation")], name
        assert all(place.startswith(f"{to.as_uri()}/artifacts") for place in recorded(to))
        (entry,) = library.known()
        assert entry.exists, name
    assert len(list(tmp_path.rglob("mlflow.db"))) == 1


def test_a_relative_home_is_found_from_its_folder_wherever_that_is(made, tmp_path, monkeypatch):
    monkeypatch.chdir(made.parent)
    monkeypatch.setenv("MER_HOME", "home")
    run = finished(RunStore.open())[0]
    (tmp_path / "B").mkdir()
    moved(made, tmp_path / "B" / "home")
    monkeypatch.chdir(tmp_path / "B")
    assert read_predictions(RunStore.open(), run.id)
    assert not made.exists()


# --- copies while the first is still in use


def test_a_copy_and_the_first_leave_each_other_alone(made, tmp_path, monkeypatch):
    first, copy = go_to(made, monkeypatch), tmp_path / "B"
    shell("cp", "-a", made, copy)
    before, places = content(made), recorded(made)
    runs = go_to(copy, monkeypatch)
    run = finished(runs)[0]
    assert runs.get(run.id).spec["data"] == str(copy / "data" / "upload" / "songs")
    runs.save_folder(run.id, "evaluation", lambda folder: (folder / "mine").touch())
    runs.create("of the copy", {})
    (stopped,) = [run for run in runs.runs() if run.status == "stopped"]
    assert Experiment().resume(stopped.id).status == "finished"
    delete(runs, stopped.id)
    assert (content(made), recorded(made)) == (before, places)
    before = content(copy)
    monkeypatch.setenv("MER_HOME", str(made))
    assert RunStore.open() is first
    assert first.get(stopped.id).status == "stopped"
    first.save_folder(run.id, "evaluation", lambda folder: (folder / "its").touch())
    assert content(copy) == before


def test_the_process_that_works_on_a_run_is_not_that_of_its_copy(made, tmp_path, monkeypatch):
    runs = go_to(made, monkeypatch)
    run_id = runs.create("at work", {})
    waits = runs.create("waits", {})
    runs.start(run_id)
    assert (runs.get(run_id).status, runs.get(waits).status) == ("running", "queued")
    shell("cp", "-a", made, tmp_path / "B")
    copy = go_to(tmp_path / "B", monkeypatch)
    assert (copy.get(run_id).status, copy.get(waits).status) == ("interrupted", "interrupted")
    link = tmp_path / "link"
    link.symlink_to(made)
    assert go_to(link, monkeypatch).get(run_id).status == "running"


def test_a_process_of_an_older_mer_that_names_no_home_is_believed(made, monkeypatch):
    runs = go_to(made, monkeypatch)
    run_id = runs.create("at work", {})
    runs.start(run_id)
    words = json.loads(owner())
    assert words.pop("home") == str(made)
    assert (words["host"], words["pid"]) == (socket.gethostname(), psutil.Process().pid)
    runs.tag(run_id, {"mer.owner": json.dumps(words)})
    assert runs.get(run_id).status == "running"


def test_a_run_at_work_ends_when_its_home_is_moved_and_goes_on_in_the_new_place(made, tmp_path, monkeypatch):
    go_to(made, monkeypatch)

    class Move(Callback):
        def on_epoch(self, state):
            if state.epoch == 1 and made.exists():
                moved(made, tmp_path / "B")

    spec = Spec(str(write_songs(tmp_path / "music", clips=1)), small_config(epochs=3))
    with pytest.raises(StorageError, match=r"home was moved, removed or replaced while this process used it"):
        Experiment(callbacks=[Move()]).train(spec)
    assert not made.exists()
    runs = go_to(tmp_path / "B", monkeypatch)
    run = runs.runs()[0]
    assert run.status == "interrupted"  # though its process, this one, lives
    assert Experiment().resume(run.id).status == "finished"
    assert not made.exists()


def test_another_home_that_takes_a_place_is_read_anew(made, tmp_path, monkeypatch):
    runs = go_to(made, monkeypatch)
    shell("cp", "-a", made, tmp_path / "backup")
    later = runs.create("after the backup", {})
    moved(made, tmp_path / "old")
    with pytest.raises(StorageError, match="was moved, removed or replaced"):
        runs.get(later)
    moved(tmp_path / "backup", made)
    restored = RunStore.open()
    assert later not in {run.id for run in restored.runs()}
    restored.create("after it was restored", {})
    assert len(go_to(tmp_path / "old", monkeypatch).runs()) == len(restored.runs())


# --- what is left as it is


def test_only_places_below_the_former_home_change(made, tmp_path, monkeypatch):
    client = go_to(made, monkeypatch).client
    beside = tmp_path / "A" / "home 2" / "artifacts"
    far = client.create_experiment("far", artifact_location="s3://bucket/artifacts")
    near = client.create_experiment("near", artifact_location=beside.as_uri())
    own = client.create_experiment("own", artifact_location=(made / "more").as_uri())
    run_id = client.create_run(own).info.run_id
    moved(made, tmp_path / "B")
    client = go_to(tmp_path / "B", monkeypatch).client
    assert client.get_experiment(far).artifact_location == "s3://bucket/artifacts"
    assert client.get_experiment(near).artifact_location == beside.as_uri()
    more = (tmp_path / "B" / "more").as_uri()
    assert client.get_experiment(own).artifact_location == more
    assert client.get_run(run_id).info.artifact_uri == f"{more}/{run_id}/artifacts"
    assert "mer.home" not in client.get_run(run_id).data.tags


def test_models_and_data_sets_that_were_logged_with_mlflow_move_too(made, tmp_path, monkeypatch):
    from mlflow.data.dataset_source_registry import get_dataset_source_from_json
    from mlflow.entities import Dataset, DatasetInput

    runs = go_to(made, monkeypatch)
    client, run = runs.client, finished(runs)[0]
    place = runs.folder(run, "checkpoint")
    client.create_registered_model("best")
    client.create_model_version("best", place.as_uri(), run.id)
    model = client.create_logged_model(runs.experiment, name="net")
    source = json.dumps({"uri": str(made / "data")})
    client.log_inputs(run.id, [DatasetInput(Dataset("songs", "1", "local", source))])
    moved(made, tmp_path / "B")
    client = go_to(tmp_path / "B", monkeypatch).client
    there = (tmp_path / "B").as_uri()
    assert client.get_model_version("best", "1").source.startswith(there)
    assert client.get_logged_model(model.model_id).artifact_location.startswith(there)
    (found,) = client.get_run(run.id).inputs.dataset_inputs
    assert get_dataset_source_from_json(found.dataset.source, "local").uri == str(tmp_path / "B" / "data")


def test_a_link_to_a_home_changes_nothing_in_it(made, tmp_path, monkeypatch):
    go_to(made, monkeypatch)
    before = recorded(made)
    (tmp_path / "link").symlink_to(made)
    runs = go_to(tmp_path / "link", monkeypatch)
    assert read_predictions(runs, finished(runs)[0].id)
    assert recorded(made) == before


def test_a_home_on_its_place_is_asked_one_question(made, monkeypatch):
    from mer.runs.moving import settle

    go_to(made, monkeypatch)
    asked, connect = [], sqlite3.connect

    def watched(*arguments, **keywords):
        connection = connect(*arguments, **keywords)
        connection.set_trace_callback(asked.append)
        return connection

    monkeypatch.setattr(sqlite3, "connect", watched)
    settle(made / "mlflow.db")
    assert len([text for text in asked if text.startswith("SELECT")]) == len(asked) == 1


# --- half of a home


def test_a_database_without_artifacts_says_which_folder_is_missing(made, tmp_path, monkeypatch, capsys):
    shell("rm", "-r", made / "artifacts")
    runs = go_to(made, monkeypatch)
    run = finished(runs)[0]
    assert main(["export", run.id, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err.strip()
    missing = made / "artifacts" / run.id / "artifacts" / "checkpoint"
    assert f"{missing} is missing; restore that folder" in said
    assert "train it again" in said
    assert "resume" not in said
    assert len(said.splitlines()) == 1
    with pytest.raises(RunError, match="checkpoint is missing; restore that folder"):
        join(runs, [run.id for run in finished(runs)])
    assert main(["runs", "show", run.id]) == 0  # its command is there


def test_an_unfinished_run_is_to_be_finished_and_one_at_work_to_be_waited_for(made, monkeypatch, capsys):
    runs = go_to(made, monkeypatch)
    (run,) = [run for run in runs.runs() if run.status == "stopped"]
    assert main(["export", run.id, "--out", "out"]) == 2
    assert f"finish it: mer runs resume {run.id[:8]}" in capsys.readouterr().err
    busy = runs.create("at work", {})
    runs.start(busy)
    assert main(["export", busy, "--out", "out"]) == 2
    assert "is running and has no checkpoint yet; wait until it is finished" in capsys.readouterr().err


def test_a_copy_of_the_database_alone_reads_the_rest_where_it_was(made, tmp_path, monkeypatch):
    go_to(made, monkeypatch)
    copy = tmp_path / "B"
    copy.mkdir()
    shell("cp", "-a", made / "mlflow.db", copy)
    before = content(made)
    runs = go_to(copy, monkeypatch)
    run = finished(runs)[0]
    assert read_predictions(runs, run.id)
    assert Path(run.spec["data"]).is_relative_to(made)
    runs.save_folder(run.id, "evaluation", lambda folder: (folder / "new").touch())
    assert runs.folder(run, "evaluation").is_relative_to(copy)
    assert content(made) == before


def test_folds_whose_answers_are_gone_are_trained_again(made, monkeypatch):
    runs = go_to(made, monkeypatch)
    data = str(made / "data" / "upload" / "songs")
    outcome = Experiment().train(Spec(data, small_config(epochs=1, folds=2)))
    runs.finish(outcome.run_id, "stopped")
    gone = made / "artifacts" / outcome.folds[0].run_id
    shell("rm", "-r", gone)
    again = Experiment().resume(outcome.run_id)
    assert again.status == "finished"
    parts = [read_predictions(runs, fold.run_id) for fold in again.folds]
    assert all(parts)
    assert len(read_predictions(runs, outcome.run_id)) == sum(map(len, parts))


# --- read-only


def test_a_read_only_home_elsewhere_is_read_whole(made, small_disk, tmp_path, monkeypatch, capsys):
    go_to(made, monkeypatch)
    disk = small_disk("256m", made.parent)
    moved(made, tmp_path / "away")  # nothing is read where it was
    runs = go_to(disk / "home", monkeypatch)
    first, second = finished(runs)
    assert read_predictions(runs, first.id)
    assert first.spec["data"] == str(disk / "home" / "data" / "upload" / "songs")
    assert library.known()[0].exists
    assert main(["export", second.id, "--out", str(tmp_path / "out")]) == 0
    capsys.readouterr()
    assert main(["ensemble", first.id, second.id, "--out", str(tmp_path / "both")]) == 2
    said = capsys.readouterr().err
    assert "home cannot be written; set MER_HOME to a home that can" in said
    assert len(said.splitlines()) == 1
    assert not made.exists()


def test_a_read_only_mount_follows_what_others_write(made, tmp_path, monkeypatch):
    here = go_to(made, monkeypatch)
    mount = tmp_path / "mount"
    mount.mkdir()
    bind = ["mount", "--bind", str(made), str(mount)]
    if os.name != "posix" or os.geteuid() or subprocess.run(bind, capture_output=True).returncode:
        pytest.skip("root alone can mount, and not on every machine")
    try:
        shell("mount", "-o", "remount,ro,bind", mount)
        count = len(go_to(mount, monkeypatch).runs())
        here.create("written beside it", {})
        assert len(RunStore.open().runs()) == count + 1
        here.create("and again", {})
        assert len(RunStore.open().runs()) == count + 2
    finally:
        shell("umount", "-l", mount)


# --- the rules by themselves


def test_a_place_in_a_former_home_is_looked_for_here_first_and_others_stay(tmp_path):
    former, own = tmp_path / "A", tmp_path / "B"
    (former / "data").mkdir(parents=True)
    own.mkdir()
    before, now = str(former / "data"), str(own / "data")
    assert moved_path(before, str(former), own) == before
    (own / "data").mkdir()
    assert moved_path(before, str(former), own) == now
    assert moved_path(before, str(former), own, shared=True) == before
    (former / "data").rmdir()
    assert moved_path(before, str(former), own, shared=True) == now
    shutil.rmtree(own)
    assert moved_path(before, str(former), own) == now  # where it belongs
    for path in (str(tmp_path / "A 2" / "data"), "data", "", "/"):
        assert moved_path(path, str(former), own) == path
        assert moved_path(path, "", own) == path


def test_the_library_of_an_older_mer_names_no_home_and_moves_too(made, tmp_path, monkeypatch):
    path = made / "library.json"
    rows = json.loads(path.read_text())
    assert rows.pop("home") == str(made)
    rows["entries"][0]["source"] = "upload"
    path.write_text(json.dumps(rows))
    moved(made, tmp_path / "B")
    monkeypatch.setenv("MER_HOME", str(tmp_path / "B"))
    (entry,) = library.known()
    assert entry.path == str(tmp_path / "B" / "data" / "upload" / "songs")
    library.forget("none")
    assert json.loads((tmp_path / "B" / "library.json").read_text())["home"] == str(tmp_path / "B")


# --- MLflow's own pages


@pytest.mark.slow
@pytest.mark.parametrize("name", ["B", "हिन्दी 50%20 x"])
def test_mlflows_own_pages_list_a_moved_home_and_give_its_files(name, made, tmp_path, monkeypatch):
    go_to(made, monkeypatch)
    home = tmp_path / name
    moved(made, home)
    runs = go_to(home, monkeypatch)
    run = finished(runs)[0]
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    uri = f"sqlite:///{quote(str(home / 'mlflow.db'))}"
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--port", str(port)]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    log = (tmp_path / "ui.log").open("wb")
    server = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=log, stderr=log, start_new_session=True
    )
    try:
        base = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 120
        while not answers(f"{base}/health"):
            assert time.monotonic() < deadline, (tmp_path / "ui.log").read_text()
            time.sleep(0.5)
        listed = json.loads(fetched(f"{base}/api/2.0/mlflow/artifacts/list?run_id={run.id}"))
        assert [row["path"] for row in listed["files"]] == ["checkpoint", "evaluation"]
        card = fetched(f"{base}/get-artifact?path=checkpoint/card.json&run_uuid={run.id}")
        assert json.loads(card)["classes"] == ["Happy", "Sad"]
    finally:
        os.killpg(server.pid, 15)
        server.wait(30)
        log.close()


def fetched(url):
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.read()


def answers(url):
    try:
        return bool(fetched(url))
    except OSError:
        return False
