"""What a training asks of a Ray cluster, and how it is refused; no Ray is started here."""

import os
import socket
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mer.experiments.experiment import Experiment
from mer.experiments.prepared import Spec
from mer.experiments.setup import Setup
from mer.jobs import ray_cluster as cluster
from mer.jobs.queue import requeue, submit
from mer.jobs.ray_cluster import GB, Needs, require
from mer.jobs.ray_driver import require_shared_runs
from mer.jobs.ray_worker import RunWorker, worker_environment
from mer.runs.store import RunStore
from mer.utils.errors import ConfigError, LostError
from mer.utils.machine import cores
from tests.run_helpers import tiny_config

numbers = st.floats(0.1, 64)


@given(st.integers(1, 99), numbers, st.sampled_from([0.0, 1.0]), numbers)
def test_requested_resources_are_stored_with_the_run(workers, cpus, gpus, memory):
    needs = Needs(workers, cpus, gpus, memory)
    assert Needs.from_json(needs.to_json()) == needs


@given(st.integers(1, 9), st.sampled_from([0.5, 1, 2, 3]), st.lists(st.integers(0, 8), max_size=5))
def test_free_resources_are_counted_per_node(workers, cpus, nodes):
    needs, room = Needs(workers, cpus), [{"CPU": float(count)} for count in nodes]
    fitting = 0
    for count in nodes:
        while count >= cpus:
            count -= cpus
            fitting += 1
    assert needs.room(room) == fitting
    if fitting < workers:
        with pytest.raises(ConfigError, match=f"has room for {fitting} of {workers} workers? with "):
            needs.require_room(room)
    else:
        needs.require_room(room)


def test_each_worker_must_find_all_that_it_needs_on_one_node():
    many_cpus, much_memory = {"CPU": 8.0, "memory": 1.0 * GB}, {"CPU": 1.0, "memory": 64.0 * GB}
    assert Needs(cpus=2, memory=8).room([many_cpus, much_memory]) == 0
    assert Needs(cpus=1, memory=8).room([many_cpus, much_memory]) == 1
    assert Needs(gpus=1).room([many_cpus]) == 0
    assert Needs(cpus=0, gpus=1).room([{"GPU": 4.0}]) == 4


def test_only_requested_resources_are_reserved():
    assert Needs().bundle == {"CPU": 1.0}
    assert Needs(2, 0, 1, 1.5).bundle == {"GPU": 1.0, "memory": int(1.5 * GB)}
    assert str(Needs(2, 4, 1, 8)) == "2 workers with 4 CPUs, 1 GPU, 8 GB each"
    assert str(Needs(1, 1, 0, 0.5)) == "1 worker with 1 CPU, 0.5 GB"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"workers": 0}, "--workers 0 should be a whole number from 1"),
        ({"cpus": -1}, "--cpus-per-worker -1 should be a number from 0"),
        ({"memory": float("nan")}, "--memory-per-worker nan should be"),
        ({"gpus": 2}, "--gpus-per-worker 2 should be 0 or 1"),
        ({"gpus": 0.5}, "--gpus-per-worker 0.5 should be 0 or 1"),
        ({"cpus": 0}, "leaves a worker nothing to compute with"),
    ],
)
def test_resources_that_no_worker_can_use_are_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        Needs(**given)


@pytest.mark.parametrize("text", ["", "[]", '{"workers": 0}', '{"speed": 3}', "no"])
def test_damaged_resource_requests_are_an_error(text):
    with pytest.raises(ConfigError):
        Needs.from_json(text)


@pytest.fixture
def with_ray(monkeypatch):
    """As if Ray were installed, whether it is or not."""
    monkeypatch.setattr(cluster, "find_spec", lambda name: name)


def test_without_ray_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install -r requirements-ray\.txt"):
        require()


@pytest.mark.parametrize("address", ["auto", "ray://10.0.0.1:10001", "localhost", "host:port", "http://a:1"])
def test_an_address_of_another_kind_is_refused(with_ray, monkeypatch, address):
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ConfigError, match="should be host:port"):
        require()


def test_an_address_without_an_answer_is_refused_at_once(with_ray, monkeypatch):
    """Ray itself would go on asking for many minutes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
    with pytest.raises(ConfigError, match=f"no Ray answers at RAY_ADDRESS=127.0.0.1:{port} .*--port {port}$"):
        require()


def test_ray_is_imported_only_when_it_is_needed():
    code = (
        "import sys, mer.jobs.ray_cluster, mer.jobs.ray_worker, mer.cli; "
        "print({'ray', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


def test_one_sqlite_serves_one_machine(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    require_shared_runs(1)
    with pytest.raises(ConfigError, match=r"on 2 machines, and SQLite serves one: .* MLFLOW_TRACKING_URI"):
        require_shared_runs(2)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://10.0.0.1:5000")
    require_shared_runs(2)


@pytest.fixture
def runs(runs_home):
    return RunStore.open()


@pytest.fixture
def spec(song_corpus):
    return Spec(data=str(song_corpus), config=tiny_config())


def test_requested_resources_are_kept_and_change_no_setting(runs, spec):
    plain, far = submit(runs, spec), submit(runs, spec, needs=Needs(2).to_json())
    assert runs.get(plain).needs == ""
    assert Needs.from_json(runs.get(far).needs) == Needs(2)
    assert runs.get(far).spec == runs.get(plain).spec
    runs.finish(far, "stopped")
    assert Needs.from_json(runs.get(requeue(runs, far).id).needs) == Needs(2)


@pytest.mark.parametrize("end", [LostError("gone"), SystemExit(1)], ids=["another lost", "ended by Ray"])
def test_a_run_that_lost_a_worker_is_left_for_the_next_attempt(runs, spec, monkeypatch, end):
    def lose(*arguments):
        raise end

    monkeypatch.setattr(Setup, "of", lose)
    for driven, status in ((True, "running"), (False, "failed")):
        run_id = submit(runs, spec)
        with pytest.raises(type(end)):
            Experiment(lambda: runs, driven=driven).work(run_id)
        assert runs.get(run_id).status == status


@pytest.fixture
def worker_of(monkeypatch):
    """The only worker of a run, in this process, whose environment it changes meanwhile."""
    for name in ("MER_SLOTS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    return lambda run_id, **needs: RunWorker(worker_environment(), run_id, 0, Needs(**needs))


def test_a_worker_that_does_not_see_the_drivers_home_says_so(tmp_path, worker_of):
    worker = worker_of("abc")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    told = worker.work(None, str(tmp_path / "no marker"), "{}", [])
    assert "does not see MER_HOME=" in told["error"]
    assert "lost" not in told


def test_a_worker_uses_its_share_of_the_cores_it_may_use(monkeypatch, worker_of):
    """As where a batch system gives a node's processes eight of its 64."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    worker_of("abc", cpus=4)
    assert cores() == 4


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        ("finished", {"status": "finished", "metrics": {"test_accuracy": 0.5}, "checkpoint": None}),
        ("stopped", {"status": "stopped", "metrics": {}, "checkpoint": None}),
        ("failed", {"error": "the reason"}),
    ],
)
def test_a_worker_whose_run_has_ended_reports_how(runs, spec, worker_of, tmp_path, status, answer):
    run_id = submit(runs, spec)
    runs.start(run_id)
    runs.log(run_id, [(0, answer.get("metrics", {}))])
    runs.save_folder(run_id, "evaluation", lambda folder: (folder / "scores.json").write_text("{}"))
    runs.finish(run_id, status, reason="the reason")
    marker = tmp_path / "marker"
    marker.touch()
    told = worker_of(run_id).work(None, str(marker), "{}", [])
    assert told == answer | ({} if "error" in answer else {"run_id": run_id})


def test_workers_get_only_our_environment_variables(monkeypatch, own_home):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://10.0.0.1:5000")
    monkeypatch.setenv("SOME_SECRET", "1")
    passed = worker_environment()
    assert passed["MER_HOME"] == str(own_home)
    assert passed["MLFLOW_TRACKING_URI"] == "http://10.0.0.1:5000"
    assert not {"SOME_SECRET", "PATH", "HOME"} & passed.keys()
