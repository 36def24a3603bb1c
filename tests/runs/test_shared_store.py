"""Several machines, one run store: MLflow's server on PostgreSQL. Slow, and skipped without PostgreSQL."""

import json
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from safetensors.torch import load_file

from mer.cli import main
from mer.experiments import experiment as experiments
from mer.experiments.ensembling import join
from mer.experiments.experiment import Experiment
from mer.experiments.prepared import Spec
from mer.jobs.queue import cancel, delete, launch, prune, relaunch
from mer.models.card import WEIGHTS
from mer.runs.deleted import restore
from mer.runs.results import read_predictions
from mer.runs.run import TakenError, state_path
from mer.training.loop import Callback
from mer.utils.errors import RunError, StorageError
from tests.page_helpers import errors, opened, said
from tests.run_helpers import TINY, tiny_config

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
OPTIONS = [*(f"--{key.replace('_', '-')}={value}" for key, value in TINY.items()), "--no-baseline"]


@pytest.fixture
def first(machines):
    return machines("first")


@pytest.fixture
def second(machines):
    return machines("second")


def spec_of(corpus, **changes):
    return Spec(data=str(corpus), config=tiny_config(**changes))


def wait_for(runs, run_id, *statuses, seconds=120):
    deadline = time.monotonic() + seconds
    while runs.get(run_id).status not in statuses:
        assert time.monotonic() < deadline, runs.get(run_id)
        time.sleep(0.2)
    return runs.get(run_id)


def epochs(runs, run_id, count, process, seconds=120):
    """Wait until so many epochs are logged."""
    deadline = time.monotonic() + seconds
    while len(runs.history(run_id, "train_loss")) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.2)


def train(machine, runs, corpus, *options, pause=None):
    """Start `mer train` on a machine; returns the process and the run's id."""
    known = {run.id for run in runs.runs()}
    process = machine.start("train", "--data", corpus, *OPTIONS, *options, pause=pause)
    deadline = time.monotonic() + 120
    while not (new := [run for run in runs.runs() if run.id not in known]):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return process, new[0].id


def weights(runs, run_id):
    return load_file(runs.folder(run_id, "checkpoint") / WEIGHTS)


class Epochs(Callback):
    """Which epochs were trained here."""

    def __init__(self):
        self.seen = []

    def on_epoch(self, state):
        self.seen.append(state.epoch)


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_what_one_machine_trains_another_lists_evaluates_exports_joins_and_deletes(
    first, second, song_corpus, tmp_path, capsys
):
    runs = first.here()
    done = [Experiment().train(spec_of(song_corpus, seed=seed, epochs=1)).run_id for seed in (0, 1)]
    there = read_predictions(runs, done[0])
    capsys.readouterr()
    runs = second.here()
    assert main(["runs", "list", "--json"]) == 0
    assert {run["run_id"] for run in json.loads(capsys.readouterr().out)["runs"]} >= set(done)
    assert read_predictions(runs, done[0]) == there
    assert main(["export", done[0], "--out", str(tmp_path / "out"), "--json"]) == 0
    assert main(["evaluate", str(tmp_path / "out"), "--data", str(song_corpus), "--json"]) == 0
    joined = join(runs, done)
    first.here()
    assert runs.folder(joined.run_id, "checkpoint").joinpath("member-2").is_dir()
    delete(runs, joined.run_id)
    assert joined.run_id not in {run.id for run in runs.runs()}
    restore(runs, joined.run_id)
    assert joined.run_id in {run.id for run in runs.runs()}
    assert runs.folder(joined.run_id, "checkpoint").joinpath("member-2").is_dir()
    delete(runs, joined.run_id)
    assert prune(runs, [joined.run_id])[1] > 0
    assert not runs.client.list_artifacts(joined.run_id)
    assert joined.run_id not in {run.id for run in runs.runs()}


def test_a_checkpoint_is_fetched_once_and_again_when_it_was_replaced(first, second, monkeypatch):
    runs = first.here()
    run_id = runs.create("one", {})
    runs.save_folder(run_id, "checkpoint", lambda folder: (folder / "a").write_text("old"))
    runs = second.here()
    assert (runs.folder(run_id, "checkpoint") / "a").read_text() == "old"
    with monkeypatch.context() as patch:
        patch.setattr(runs.client, "download_artifacts", None)
        assert (runs.folder(runs.get(run_id), "checkpoint") / "a").read_text() == "old"
    first.here()
    runs.save_folder(run_id, "checkpoint", lambda folder: (folder / "b").write_text("new"))
    second.here()
    assert [path.name for path in runs.folder(run_id, "checkpoint").iterdir()] == ["b"]


@pytest.mark.promise(
    "A run killed on one machine can be resumed on another, to the weights of an undisturbed run.",
    measured="MLflow's server on PostgreSQL 15",
)
def test_a_run_killed_on_one_machine_goes_on_on_another_to_the_weights_of_an_undisturbed_one(
    first, second, song_corpus
):
    runs = second.here()
    process, run_id = train(first, runs, song_corpus, "--epochs=12", pause=6)
    epochs(runs, run_id, 6, process)
    assert runs.get(run_id).status == "running"
    process.kill()
    process.wait()
    wait_for(runs, run_id, "interrupted", seconds=30)
    assert not state_path(run_id).exists()
    done = Epochs()
    assert Experiment(callbacks=[done]).resume(run_id).status == "finished"
    assert 1 < done.seen[0] <= 7  # it goes on after an epoch whose state was sent
    undisturbed = Experiment().train(Spec.from_dict(runs.get(run_id).spec)).run_id
    assert same(weights(runs, run_id), weights(runs, undisturbed))
    assert [step for step, _ in runs.history(run_id, "train_loss")] == list(range(1, 13))
    assert not runs.client.list_artifacts(run_id, "state-a")


def test_a_run_is_stopped_from_another_machine_and_goes_on_there(first, second, song_corpus):
    runs = second.here()
    process, run_id = train(first, runs, song_corpus, "--epochs=500")
    epochs(runs, run_id, 2, process)
    assert cancel(runs, run_id).status == "stopping"
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert runs.get(run_id).status == "stopped"
    process = second.start("runs", "resume", run_id)
    wait_for(runs, run_id, "running")
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    assert runs.get(run_id).status == "stopped"
    steps = [step for step, _ in runs.history(run_id, "train_loss")]
    assert steps == list(range(1, len(steps) + 1))


def test_a_launched_run_is_seen_and_cancelled_from_another_machine(machines, second, song_corpus):
    own = machines(socket.gethostname())
    runs = own.here()
    run_id = launch(runs, spec_of(song_corpus, epochs=500))
    runs = second.here()
    wait_for(runs, run_id, "running")
    with pytest.raises(RunError, match="only an unfinished, idle run can be resumed"):
        relaunch(runs, run_id)
    cancel(runs, run_id)
    assert wait_for(runs, run_id, "stopped").status == "stopped"


@pytest.mark.promise(
    "If several processes resume a run at once, one gets it, and the others leave it alone.",
    measured="8 at once",
)
def test_of_many_who_take_a_run_on_at_once_one_has_it(first):
    runs = first.here()
    run_id = runs.create("one", {})
    runs.finish(run_id, "failed")
    seen = runs.get(run_id)

    def take(number):
        try:
            runs.client.log_param(run_id, "mer.turn.1", f"process {number}")
        except Exception:  # noqa: BLE001 - whatever is raised, it was refused
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(take, range(8))) == 1
    with pytest.raises(TakenError, match="was taken over by another process"):
        runs.take(seen)


def test_a_run_that_another_machine_took_on_ends_here_and_is_left_alone(first, second, song_corpus):
    runs = first.here()

    class TakenAway(Callback):
        def on_epoch(self, state):
            if state.epoch == 2:
                second.here().start(runs.runs()[0].id)
                first.here()

    with pytest.raises(TakenError, match="was taken over by second"):
        Experiment(callbacks=[TakenAway()]).train(spec_of(song_corpus, epochs=500))
    assert runs.runs()[0].status == "running"


@pytest.mark.promise(
    "Eight processes that log to a server at once lose nothing.", measured="8 x 50 steps, two metrics each"
)
def test_eight_machines_that_log_at_once_lose_nothing(machines):
    code = (
        "import sys; from mer.runs.store import RunStore\n"
        "runs = RunStore.open(); run_id = runs.create(sys.argv[1], {'data': 'demo'}); runs.start(run_id)\n"
        "for step in range(1, 51): runs.log(run_id, [(step, {'loss': 1 / step, 'accuracy': 0.5})])\n"
        "runs.finish(run_id, 'finished')"
    )
    settings = machines("any").settings
    working = [
        subprocess.Popen([sys.executable, "-c", code, f"machine {n}"], env=settings, stderr=subprocess.PIPE)
        for n in range(8)
    ]
    for process in working:
        _, said_there = process.communicate(timeout=200)
        assert process.returncode == 0, said_there
    runs = machines("any").here()
    found = [run for run in runs.runs() if run.name.startswith("machine ")]
    assert sorted(run.name for run in found) == [f"machine {n}" for n in range(8)]
    for run in found:
        assert run.status == "finished"
        assert runs.history(run.id, "loss") == [(step, pytest.approx(1 / step)) for step in range(1, 51)]


@pytest.mark.promise(
    "A run waits for a server that does not answer, and loses nothing.",
    measured="8 s and the start; 60 epochs, each logged once",
)
def test_a_run_waits_for_a_server_that_is_away_for_a_while(first, shared_server, song_corpus):
    runs = first.here()
    process, run_id = train(first, runs, song_corpus, "--epochs=60")
    epochs(runs, run_id, 2, process)
    with shared_server.away(8):
        pass
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert [step for step, _ in runs.history(run_id, "train_loss")] == list(range(1, 61))


@pytest.mark.promise("A run whose server stays away ends with one line and can be resumed.")
def test_a_run_whose_server_stays_away_ends_with_one_line_and_can_go_on(
    first, shared_server, song_corpus, monkeypatch
):
    runs = first.here()
    monkeypatch.setattr(experiments, "PATIENCE", 1.0)

    class Away(Callback):
        def on_epoch(self, state):
            if state.epoch == 2:
                shared_server.stop()

    try:
        with pytest.raises(StorageError, match=r"the MLflow server at http://127.* does not answer"):
            Experiment(callbacks=[Away()]).train(spec_of(song_corpus, epochs=6))
    finally:
        shared_server.start()
    run = runs.runs()[0]
    gone = json.loads(run.tags["mer.owner"]) | {"pid": 2**22 + 1}  # a process that has ended
    runs.tag(run.id, {"mer.owner": json.dumps(gone)})
    assert runs.get(run.id).status == "interrupted"
    outcome = Experiment().resume(run.id)
    assert (outcome.status, outcome.metrics["epochs"]) == ("finished", 6.0)


def test_pages_show_what_another_machine_trained(first, second, song_corpus):
    runs = first.here()
    run_id = Experiment().train(spec_of(song_corpus, epochs=1)).run_id
    second.here()
    for name in ("home", "live", "compare", "predict"):
        page = opened(name)
        assert not errors(page), name
        assert not page.exception, name
        if name == "live":
            assert run_id[:8] in str([box.options for box in page.multiselect]) + said(page)
    assert not list(second.home.rglob(WEIGHTS))  # cards alone, until a network is asked
    runs.delete(run_id)
