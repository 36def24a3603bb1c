"""Runs on a real Ray cluster of several nodes: nodes and drivers are killed, runs are cancelled."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from mer.experiments.prepared import Spec
from mer.jobs.queue import cancel, submit
from mer.jobs.ray_cluster import Needs
from mer.models.checkpoint import load_checkpoint
from mer.runs.store import RunStore
from tests.run_helpers import TINY, tiny_config, write_songs

pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements-ray.txt")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]

ROOT = Path(__file__).parents[2]
NOTHING_DRAWN = {"dropout": 0.0, "time_masks": 0, "frequency_masks": 0, "time_shift": 0.0, "mixup": 0.0}
LONG = ("--epochs", "500")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("cluster") / "home"


@pytest.fixture(autouse=True)
def _one_home(own_home, home, monkeypatch):
    monkeypatch.setenv("MER_HOME", str(home))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_songs(tmp_path_factory.mktemp("songs"))


@pytest.fixture(scope="module")
def cluster(home):
    """A head that does no work, and two nodes with a CPU each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("MER_HOME", str(home))  # by which their processes are known
        from ray.cluster_utils import Cluster

        started = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        for _ in range(2):
            started.add_node(num_cpus=1)
        yield started
        started.shutdown()


@contextmanager
def commands(address, home):
    """Start `mer` as a process on the cluster; what still runs at the end is killed."""
    started = []

    def start(*words, address=address):
        more = {"OMP_NUM_THREADS": "1", "MER_HOME": str(home)} | ({"RAY_ADDRESS": address} if address else {})
        process = subprocess.Popen(
            [sys.executable, "-m", "mer", *words, "--json"], cwd=ROOT, env=os.environ | more,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def mer(cluster, home):
    with commands(cluster.address, home) as start:
        yield start


@pytest.fixture(scope="module")
def calm(cluster, home, corpus):
    """The same run here, by one worker and by two: what others are held against."""
    with commands(cluster.address, home) as start:
        more = {"here": (), "one": ("--executor", "ray"), "two": ("--executor", "ray", "--workers", "2")}
        processes = {name: start(*asked("train", corpus, *words, epochs=20)) for name, words in more.items()}
        yield {name: told(process) for name, process in processes.items()}


def asked(command, corpus, *more, epochs=3):
    words = [command, "--data", str(corpus), "--no-baseline"]
    for name, value in (TINY | NOTHING_DRAWN | {"epochs": epochs}).items():
        if not (command == "sweep" and name in ("backbone", "batch_size")):
            words += [f"--{name.replace('_', '-')}", str(value)]
    return [*words, *more]


def told(process, *, status=0):
    out, err = process.communicate(timeout=200)
    assert process.returncode == status, err[-3000:]
    return json.loads(out)  # and nothing else is there


def weights(outcome):
    return load_checkpoint(Path(outcome["checkpoint"]))[0].state_dict()


def difference(one, other):
    """The largest between the weights of two outcomes, but for what batch-norm counted."""
    mine, theirs = weights(one), weights(other)
    counted = ("running_mean", "running_var", "num_batches_tracked")
    return max(float((mine[n] - theirs[n]).abs().max()) for n in mine if not n.endswith(counted))


def wait_for(look, seconds=120):
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def only(status, known=()):
    """The one run with that status that is not known."""
    if not RunStore.exists():
        return None
    found = [run for run in RunStore.open().runs() if run.status == status and run.id not in known]
    return found[0] if found else None


def epochs_of(run):
    return len(RunStore.open().history(run.id, "train_loss"))


def workers():
    """The processes of workers, of this module's clusters alone."""
    found = []
    for one in psutil.process_iter(["cmdline", "environ"]):
        ours = (one.info["environ"] or {}).get("MER_HOME") == os.environ["MER_HOME"]
        if ours and "ray::RunWorker" in " ".join(one.info["cmdline"] or []):
            found.append(one)
    return found


def no_worker_is_left():
    return wait_for(lambda: not workers(), 30)


def test_workers_on_several_nodes_train_the_network_of_one_process(calm):
    here, one, two = calm.values()
    assert difference(one, here) == 0
    assert difference(two, here) < 5e-3  # after 40 steps of Adam
    assert two["metrics"].keys() == here["metrics"].keys()
    runs = RunStore.open()
    histories = [dict(runs.history(found["run_id"], "train_loss")) for found in calm.values()]
    assert histories[0] == histories[1]
    assert histories[2] == {n: pytest.approx(value, abs=1e-4) for n, value in histories[0].items()}
    cards = [json.loads(Path(found["checkpoint"], "card.json").read_text()) for found in (here, two)]
    assert cards[0]["config"] == cards[1]["config"]
    assert no_worker_is_left()


@pytest.mark.promise(
    "If a node of a Ray cluster dies, the run continues from its last epoch to the same weights.",
    measured="10 s to the next epoch",
)
def test_a_lost_node_costs_at_most_one_epoch(mer, cluster, corpus, calm):
    cluster.add_node(num_cpus=1)  # to go on with
    process = mer(*asked("train", corpus, "--executor", "ray", "--workers", "2", epochs=20))
    run = wait_for(lambda: only("running"))
    wait_for(lambda: epochs_of(run) >= 2)
    victim = next(
        node for node in cluster.worker_nodes if any("ray::RunWorker" in " ".join(one.cmdline()) for one in
                psutil.Process(node.all_processes["raylet"][0].process.pid).children())
    )  # fmt: skip
    cluster.remove_node(victim, allow_graceful=False)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err[-3000:]
    assert "a worker was lost, going on from the last epoch" in err
    shaken = json.loads(out)
    assert shaken["run_id"] == run.id
    assert difference(shaken, calm["two"]) < 5e-3
    runs = RunStore.open()
    losses = dict(runs.history(calm["two"]["run_id"], "train_loss"))
    assert dict(runs.history(run.id, "train_loss")) == {
        epoch: pytest.approx(loss, abs=1e-4) for epoch, loss in losses.items()
    }
    assert epochs_of(run) == 20


@pytest.mark.promise(
    "If Ray ends a worker, as on a drained node, the run continues from its last epoch to the same weights.",
    measured="same bits",
)
def test_a_worker_ended_by_ray_does_not_fail_the_run(mer, corpus, calm):
    process = mer(*asked("train", corpus, "--executor", "ray", epochs=20))
    run = wait_for(lambda: only("running"))
    wait_for(lambda: epochs_of(run) >= 2)
    workers()[0].terminate()  # as on a node that is drained, and when the run is stopped from outside
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err[-3000:]
    assert "a worker was lost, going on from the last epoch" in err
    assert difference(json.loads(out), calm["one"]) == 0


@pytest.mark.promise(
    "A run on a Ray cluster can be cancelled while it works and while it waits, and leaves nothing behind."
)
def test_runs_are_cancelled_while_they_work_and_while_they_wait(mer, corpus):
    first = mer(*asked("train", corpus, "--executor", "ray", "--workers", "2", *LONG))
    working = wait_for(lambda: only("running"))
    wait_for(lambda: epochs_of(working))
    second = mer(*asked("train", corpus, "--executor", "ray", "--workers", "2", *LONG))
    waiting = wait_for(lambda: only("queued"))
    wait_for(lambda: "waiting for the cluster: 2 workers with 1 CPU each" in
             RunStore.open().get(waiting.id).tags.get("mer.stage", ""))  # fmt: skip
    assert len(workers()) == 2  # those of the first
    assert cancel(RunStore.open(), waiting.id).status == "stopped"
    assert told(second, status=130)["status"] == "stopped"
    assert RunStore.open().get(working.id).status == "running"
    assert cancel(RunStore.open(), working.id).status == "stopping"
    assert told(first, status=130)["status"] == "stopped"
    assert RunStore.open().get(working.id).reason.startswith("stopped on request in epoch")
    assert no_worker_is_left()


def test_workers_leave_a_run_that_has_already_ended_unchanged(mer, corpus):
    runs = RunStore.open()
    spec = Spec(data=str(corpus), config=tiny_config())
    run_id = submit(runs, spec, needs=Needs(2).to_json())
    process = mer("runs", "work", run_id)
    wait_for(lambda: runs.get(run_id).tags.get("mer.owner"))  # its workers look a little later
    runs.finish(run_id, "stopped", reason="somebody's wish")
    out, err = process.communicate(timeout=100)
    assert json.loads(out)["status"] == "stopped"
    assert "lost" not in err
    assert runs.get(run_id).reason == "somebody's wish"


@pytest.mark.promise(
    "If the driver of a run on Ray is killed, its workers end too, and the run can be resumed."
)
def test_workers_end_with_a_killed_driver_and_the_run_can_be_resumed(mer, corpus):
    done = told(mer(*asked("train", corpus, "--executor", "ray", "--workers", "2", *LONG, "--detach")))
    runs = RunStore.open()
    wait_for(lambda: epochs_of(runs.get(done["run_id"])))
    os.kill(json.loads(runs.get(done["run_id"]).tags["mer.owner"])["pid"], signal.SIGKILL)
    wait_for(lambda: runs.get(done["run_id"]).status == "interrupted")
    assert no_worker_is_left()
    before = epochs_of(runs.get(done["run_id"]))
    resumed = mer("runs", "resume", done["run_id"])
    wait_for(lambda: epochs_of(runs.get(done["run_id"])) > before)
    assert len(workers()) == 2  # as was asked for at first
    resumed.send_signal(signal.SIGINT)
    resumed.communicate(timeout=60)
    assert resumed.returncode == 130
    assert runs.get(done["run_id"]).status == "stopped"
    assert no_worker_is_left()


def most_workers(process):
    """The largest number of workers seen at once while that process runs."""
    most = 0
    while process.poll() is None:
        most = max(most, len(workers()))
        time.sleep(0.3)
    return most


def test_a_sweep_trains_its_runs_at_once_and_a_failure_stops_no_other(mer, corpus):
    names = "mobilenet_v3_small,alexnet"  # which wants larger images
    process = mer(
        *asked("sweep", corpus, "--executor", "ray", "--backbones", names, "--batch-sizes", "8,16", epochs=20)
    )
    assert 2 <= most_workers(process) <= 3  # of four runs, on two CPUs; one may be about to end
    found = told(process)
    assert [(run["batch_size"], run["status"]) for run in found["runs"]] == [
        (8, "finished"),
        (16, "finished"),
    ]
    assert [run["backbone"] for run in found["failed"]] == ["alexnet", "alexnet"]
    assert all("image_size" in run["error"] for run in found["failed"])


def test_folds_train_at_once_and_pool_to_the_same_scores(mer, corpus):
    here = told(mer(*asked("train", corpus, "--folds", "2", epochs=10)))
    process = mer(*asked("train", corpus, "--folds", "2", "--executor", "ray", epochs=10))
    assert most_workers(process) == 2
    there = told(process)
    assert there["metrics"] == here["metrics"]
    assert [fold["metrics"] for fold in there["folds"]] == [fold["metrics"] for fold in here["folds"]]


def test_too_large_requests_are_refused_before_a_run_is_recorded(mer, corpus):
    before = len(RunStore.open().runs())
    process = mer(*asked("train", corpus, "--executor", "ray", "--workers", "9"))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "has room for 2 of 9 workers with 1 CPU each; ask for less, or add nodes first" in err
    assert len(RunStore.open().runs()) == before


def test_our_own_ray_refuses_clients_without_its_token(mer, corpus, tmp_path, monkeypatch):
    monkeypatch.setenv(
        "HOME", str(tmp_path)
    )  # where Ray keeps the token of this user, for all that he starts
    token = [sys.executable, "-m", "ray.scripts.scripts", "get-auth-token", "--generate"]
    subprocess.run(token, check=True, capture_output=True)
    process = mer(*asked("train", corpus, "--executor", "ray", *LONG), address="")
    run = wait_for(lambda: only("running"))
    wait_for(lambda: epochs_of(run))
    words = " ".join(
        word for child in psutil.Process(process.pid).children(recursive=True) for word in child.cmdline()
    )
    address = words.split("--gcs-address=")[1].split()[0]
    code = f"import ray; ray.init(address='{address}')"
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    modes = ({}, {"RAY_AUTH_MODE": "token"})  # without a token, and with that of the home folder
    strangers = [
        subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, env=plain | mode)
        for mode in modes
    ]
    for stranger, mode in zip(strangers, modes, strict=True):
        _, err = stranger.communicate(timeout=100)
        assert stranger.returncode, mode
        assert "token" in err
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    ended = RunStore.open().get(run.id)
    assert (ended.status, ended.reason) == ("stopped", "cancelled"), err[-3000:]
    assert no_worker_is_left()
