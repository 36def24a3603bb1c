"""`mer ladder`: every rung is trained, compared with the one before, and shown."""

import io
import json
from contextlib import redirect_stdout

import pytest

from mer.cli import main
from mer.experiments.study2022.ladder import ASIDE, START, rungs
from mer.runs.store import RunStore
from tests.run_helpers import TINY
from tests.tiny_backbone import tiny_zoo

# What differs between rungs must not be held; the rest makes a run take a second.
HELD = {key: value for key, value in TINY.items() if key not in ("validation", "epochs", "batch_size")}
SETTINGS = HELD | {"backbone": "tiny", "epochs": 1}
OPTIONS = [f"--{key.replace('_', '-')}={value}" for key, value in SETTINGS.items()]


@pytest.fixture
def mer(capsys, runs_home):
    def run(*words):
        with tiny_zoo():
            status = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture(scope="module")
def climbed(module_home, song_corpus):
    """The JSON object that `mer ladder` writes about a ladder of the tiny network."""
    words = ["ladder", "--data", str(song_corpus), *OPTIONS, "--json"]
    with pytest.MonkeyPatch.context() as patch, tiny_zoo(), redirect_stdout(io.StringIO()) as out:
        patch.setenv("MER_HOME", str(module_home))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert main(words) == 0
    return json.loads(out.getvalue())


def test_every_rung_is_a_run_with_scores_and_its_change(climbed):
    keys = [rung.key for rung in rungs(**SETTINGS)]
    assert [row["rung"] for row in climbed["rungs"]] == keys
    assert keys[0] == START
    assert set(keys[-2:]) == set(ASIDE)
    for row in climbed["rungs"]:
        assert row["status"] == "finished"
        assert {"song_accuracy", "intervals", "majority", "chance", "seconds", "n_songs"} <= row.keys()
    for row in climbed["rungs"][1:-2]:
        assert {"difference", "interval", "p", "changed"} <= row.keys()
        assert row["changed"]
    assert "outside" in climbed["rungs"][0]
    assert "outside" not in climbed["rungs"][1]
    assert climbed["failed"] == []
    assert len(climbed["published"]) == 6


def test_the_runs_belong_to_one_ladder_and_are_named_after_their_rungs(
    climbed, song_corpus, runs_home, module_home
):
    found = {run.id: run for run in RunStore.open().runs()}
    for row in climbed["rungs"]:
        run = found[row["run_id"]]
        assert run.spec["ladder"] == climbed["ladder"]
        assert run.name.endswith(f" · {row['rung']}")
        assert run.spec["command"].startswith(f"python -m mer train --data {song_corpus}")


def test_the_table_names_each_rung_and_the_study(mer, song_corpus, monkeypatch):
    monkeypatch.setattr("mer.experiments.study2022.ladder.rungs", lambda **held: rungs(**held)[:2])
    status, out, _ = mer("ladder", "--data", song_corpus, *OPTIONS)
    assert status == 0
    lines = out.splitlines()
    assert lines[1].startswith("as released, songs kept apart")
    assert lines[2].startswith("an output for each class")
    assert "mobilenet_v3_small 38.8%, alexnet 36.7%" in out
    assert "largest class" in out


def test_a_rung_that_fails_is_named_and_the_others_run(mer, song_corpus, monkeypatch):
    broken = [rungs(**SETTINGS)[0], rungs(**(SETTINGS | {"backbone": "resnet19"}))[1], rungs(**SETTINGS)[2]]
    monkeypatch.setattr("mer.experiments.study2022.ladder.rungs", lambda **held: broken)
    status, out, _ = mer("ladder", "--data", song_corpus, *OPTIONS, "--json")
    found = json.loads(out)
    assert status == 0
    assert [row["rung"] for row in found["failed"]] == ["outputs"]
    assert "unknown backbone 'resnet19'" in found["failed"][0]["error"]
    assert len(found["rungs"]) == 2


def test_if_every_rung_fails_the_error_is_shown(mer, tmp_path):
    status, out, err = mer("ladder", "--data", tmp_path / "nowhere", *OPTIONS)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "nowhere" in err


def test_a_detached_ladder_is_queued(mer, song_corpus, monkeypatch):
    specs = []
    monkeypatch.setattr("mer.jobs.queue.launch", lambda store, spec: specs.append(spec) or f"run{len(specs)}")
    status, out, _ = mer("ladder", "--data", song_corpus, *OPTIONS, "--detach", "--json")
    found = json.loads(out)
    assert status == 0
    assert len(found["run_ids"]) == len(specs) == len(rungs(**SETTINGS))
    assert {spec.ladder for spec in specs} == {found["ladder"]}
