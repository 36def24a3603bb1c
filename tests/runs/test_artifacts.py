"""What a run keeps with a server: whole or not at all, fetched once, replaced when it was replaced."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from mer.experiments.callbacks import SendState
from mer.runs import artifacts
from mer.runs.artifacts import Artifacts, drop_fetched
from mer.training.loop import State
from mer.utils.errors import StorageError

RUN = "0123456789abcdef" * 2


class Client:
    """As much of MLflow's client as artifacts need, with files in a folder; `asked` notes each call."""

    def __init__(self, root):
        self.root, self.tags, self.asked = root, {"mer.beat": "1"}, []
        self.uri = "mlflow-artifacts:/1/run/artifacts"
        self.root.mkdir()

    def get_run(self, run_id):
        self.asked.append("get_run")
        info = SimpleNamespace(run_id=run_id, artifact_uri=self.uri)
        return SimpleNamespace(info=info, data=SimpleNamespace(tags=dict(self.tags)))

    def set_tag(self, run_id, name, value):
        self.tags[name] = value

    def list_artifacts(self, run_id, name):
        self.asked.append("list")
        if not (self.root / name).is_dir():
            return []
        return [
            SimpleNamespace(
                path=path.relative_to(self.root).as_posix(),
                is_dir=path.is_dir(),
                file_size=None if path.is_dir() else path.stat().st_size,
            )
            for path in (self.root / name).iterdir()
        ]

    def log_artifacts(self, run_id, folder, name):
        shutil.copytree(folder, self.root / name, dirs_exist_ok=True)

    def log_artifact(self, run_id, file, name):
        (self.root / name).mkdir(exist_ok=True)
        shutil.copy(file, self.root / name)

    def download_artifacts(self, run_id, name, to):
        self.asked.append("download")
        source, target = self.root / name, Path(to) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
        return str(target)


@pytest.fixture
def client(tmp_path, monkeypatch):
    client = Client(tmp_path / "server")
    monkeypatch.setattr(artifacts, "delete_artifacts", lambda uri, name: shutil.rmtree(client.root / name))
    return client


@pytest.fixture
def kept(client):
    return Artifacts(client, shared=True)


@pytest.fixture
def elsewhere(client, tmp_path, monkeypatch):
    """Another machine: an empty home, the same server."""

    def go():
        monkeypatch.setenv("MER_HOME", str(tmp_path / "elsewhere"))
        client.asked.clear()
        return Artifacts(client, shared=True)

    return go


def writing(**files):
    def write(folder):
        for name, text in files.items():
            path = folder / name.replace("__", "/")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)

    return write


def content(folder):
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


def test_a_folder_comes_back_as_it_was_on_another_machine(kept, elsewhere):
    kept.save_folder(RUN, "checkpoint", writing(a="1", below__b="2"))
    assert content(elsewhere().folder(RUN, "checkpoint")) == {"a": "1", "below/b": "2"}


def test_who_kept_it_need_not_fetch_it(kept, client):
    kept.save_folder(RUN, "checkpoint", writing(a="1"))
    assert content(kept.folder(RUN, "checkpoint")) == {"a": "1"}
    assert "download" not in client.asked


@pytest.mark.promise("A folder kept on a server arrives whole or not at all, and is downloaded once.")
def test_it_is_fetched_once_and_nothing_is_asked_where_the_run_is_known(kept, client, elsewhere):
    kept.save_folder(RUN, "checkpoint", writing(a="1"))
    there = elsewhere()
    for _ in range(3):
        there.folder(RUN, "checkpoint", client.tags)
    assert client.asked == ["download"]


def test_what_was_replaced_is_fetched_anew_and_holds_nothing_of_before(kept, elsewhere):
    kept.save_folder(RUN, "checkpoint", writing(a="1", old="1"))
    elsewhere().folder(RUN, "checkpoint")
    kept.save_folder(RUN, "checkpoint", writing(a="2"))
    assert content(elsewhere().folder(RUN, "checkpoint")) == {"a": "2"}


@pytest.mark.promise("A folder kept on a server arrives whole or not at all, and is downloaded once.")
def test_a_folder_half_of_which_was_sent_is_none(kept, client, elsewhere, monkeypatch):
    def break_off(run_id, folder, name):
        (client.root / name).mkdir()
        (client.root / name / "a").write_text("1")
        raise ConnectionError

    monkeypatch.setattr(client, "log_artifacts", break_off)
    with pytest.raises(ConnectionError):
        kept.save_folder(RUN, "checkpoint", writing(a="1", b="2"))
    assert elsewhere().folder(RUN, "checkpoint") is None


@pytest.mark.promise("A folder kept on a server arrives whole or not at all, and is downloaded once.")
def test_what_comes_damaged_is_refused_and_leaves_nothing(kept, client, elsewhere, tmp_path):
    kept.save_folder(RUN, "checkpoint", writing(a="1"))
    (client.root / "checkpoint" / "a").write_text("2")
    with pytest.raises(StorageError, match="the checkpoint of run 01234567 changed while it was fetched"):
        elsewhere().folder(RUN, "checkpoint")
    assert not content(tmp_path / "elsewhere" / "fetched" / RUN)
    (client.root / "checkpoint" / "a").write_text("1")
    assert content(elsewhere().folder(RUN, "checkpoint")) == {"a": "1"}


def test_cards_come_without_weights_until_those_are_asked_for(kept, client, elsewhere):
    files = {"card.json": "{}", "weights": "many", "member-1__card.json": "{}", "member-1__weights": "more"}
    kept.save_folder(RUN, "checkpoint", writing(**files))
    there = elsewhere()
    cards = content(there.folder(RUN, "checkpoint", only="card.json"))
    assert set(cards) == {"card.json", "member-1/card.json"}
    assert len(content(there.folder(RUN, "checkpoint"))) == 4


def test_a_run_of_an_older_mer_has_no_hash_and_is_known_by_names_and_sizes(client, elsewhere):
    del client.tags["mer.beat"]
    client.log_artifacts(RUN, make(client.root.parent / "made", a="1"), "checkpoint")
    assert content(elsewhere().folder(RUN, "checkpoint")) == {"a": "1"}
    client.log_artifacts(RUN, make(client.root.parent / "more", a="12"), "checkpoint")
    assert content(elsewhere().folder(RUN, "checkpoint")) == {"a": "12"}
    assert elsewhere().folder(RUN, "evaluation") is None


def make(folder, **files):
    folder.mkdir()
    writing(**files)(folder)
    return folder


@pytest.mark.parametrize("token", ["../../../etc", "", "0" * 63, "0" * 65, "/" * 64])
def test_a_hash_that_is_none_leads_nowhere(kept, client, token):
    client.tags["mer.kept.checkpoint"] = token
    assert kept.folder(RUN, "checkpoint") is None


def test_a_folder_of_the_servers_own_machine_is_not_made_anew_here(kept, client, tmp_path):
    client.uri = (tmp_path / "srv" / "1" / RUN / "artifacts").as_uri()
    with pytest.raises(StorageError, match=r"srv, which is not on this machine; start it with"):
        kept.save_folder(RUN, "checkpoint", writing(a="1"))
    (tmp_path / "srv").mkdir()  # mounted
    kept.save_folder(RUN, "checkpoint", writing(a="1"))
    assert content(kept.folder(RUN, "checkpoint")) == {"a": "1"}


def test_a_deleted_run_leaves_nothing_fetched(kept, own_home):
    kept.save_folder(RUN, "checkpoint", writing(a="1"))
    drop_fetched(RUN)
    assert not content(own_home)


# --- states


@pytest.fixture
def state(tmp_path):
    """state(text) writes a state of this machine."""
    path = tmp_path / "here" / "state.safetensors"

    def write(text):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    return write


def test_a_state_reaches_a_machine_that_has_none_or_an_older_one(kept, state, tmp_path):
    kept.send_state(RUN, state("three"), 3)
    there = tmp_path / "there" / "state.safetensors"
    assert kept.fetch_state(RUN, there, 0)
    assert there.read_text() == "three"
    assert not kept.fetch_state(RUN, there, 3)
    kept.send_state(RUN, state("four"), 4)
    assert kept.fetch_state(RUN, there, 3)
    assert there.read_text() == "four"
    assert [path.name for path in there.parent.iterdir()] == [there.name]


def test_a_newer_state_of_ones_own_is_kept(kept, state):
    kept.send_state(RUN, state("three"), 3)
    own = state("five")
    assert not kept.fetch_state(RUN, own, 5)
    assert own.read_text() == "five"


def test_the_state_before_counts_until_the_next_is_there(kept, client, state, tmp_path, monkeypatch):
    kept.send_state(RUN, state("three"), 3)

    def break_off(run_id, file, name):
        (client.root / name).mkdir()
        (client.root / name / "state.safetensors").write_text("fo")
        raise ConnectionError

    monkeypatch.setattr(client, "log_artifact", break_off)
    with pytest.raises(ConnectionError):
        kept.send_state(RUN, state("four"), 4)
    assert kept.fetch_state(RUN, tmp_path / "there" / "state.safetensors", 0)
    assert (tmp_path / "there" / "state.safetensors").read_text() == "three"


def test_a_state_that_comes_damaged_is_refused_and_the_own_one_stays(kept, client, state):
    kept.send_state(RUN, state("three"), 3)
    (client.root / "state-a" / "state.safetensors").write_text("thr")
    own = state("two")
    with pytest.raises(
        StorageError, match="the state of run 01234567 was damaged on its way from the server"
    ):
        kept.fetch_state(RUN, own, 2)
    assert own.read_text() == "two"


def test_a_finished_run_leaves_no_state_with_the_server(kept, client, state):
    for epoch in (1, 2, 3):
        kept.send_state(RUN, state(f"{epoch}"), epoch)
    kept.drop_state(RUN)
    assert not list(client.root.iterdir())
    assert not kept.fetch_state(RUN, state("0"), 0)


UNUSABLE = ["", "no JSON", "[]", '{"epoch": "3"}', '{"epoch": 3, "slot": "../x", "sha256": ""}']


@pytest.mark.parametrize("text", UNUSABLE)
def test_what_a_run_says_of_its_state_is_checked(kept, client, state, text):
    client.tags["mer.state"] = text
    assert not kept.fetch_state(RUN, state("0"), 0)


def test_a_tenth_of_the_time_at_most_goes_into_sending_states(monkeypatch):
    clock, sent = [0.0], []

    class Store:
        def send_state(self, run_id, path, epoch):
            sent.append(epoch)
            clock[0] += 30.0

    monkeypatch.setattr("mer.experiments.callbacks.time.monotonic", lambda: clock[0])
    send = SendState(Store(), RUN, Path("state"))
    for epoch in range(1, 101):
        clock[0] += 10.0
        send.on_epoch(State(epoch=epoch))
    assert sent[0] == 1
    assert 30 * len(sent) <= 0.1 * clock[0] + 30
    send.send()
    assert sent[-1] == 100
    send.send()
    assert sent.count(100) == 1


def test_a_state_is_sent_once_a_minute_at_most_however_fast(monkeypatch):
    clock, sent = [0.0], []
    store = SimpleNamespace(send_state=lambda run_id, path, epoch: sent.append(epoch))
    monkeypatch.setattr("mer.experiments.callbacks.time.monotonic", lambda: clock[0])
    send = SendState(store, RUN, Path("state"))
    for epoch in range(1, 601):
        clock[0] += 1.0
        send.on_epoch(State(epoch=epoch))
    assert len(sent) == 10


def test_what_is_known_of_a_state_is_plain(kept, client, state):
    kept.send_state(RUN, state("three"), 3)
    assert set(json.loads(client.tags["mer.state"])) == {"epoch", "slot", "sha256"}
