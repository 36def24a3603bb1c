"""`mer ensemble` from two runs to predictions of a folder, and its errors."""

import json

import pytest

from mer.cli import main
from mer.inference.ensemble import open_predictor
from mer.runs.store import RunStore
from tests.run_helpers import TINY, write_songs
from tests.tiny_backbone import tiny_zoo

SETTINGS = TINY | {"backbone": "tiny", "epochs": 1}
OPTIONS = [f"--{key.replace('_', '-')}={value}" for key, value in SETTINGS.items()]


@pytest.fixture(autouse=True)
def tiny_in_the_zoo():
    with tiny_zoo():
        yield


@pytest.fixture
def mer(capsys, runs_home):
    def run(*words):
        status = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_songs(tmp_path_factory.mktemp("ensemble"))


@pytest.fixture(scope="module")
def two(module_home, corpus):
    """Two runs on the same clips."""
    with pytest.MonkeyPatch.context() as patch, tiny_zoo():
        patch.setenv("MER_HOME", str(module_home))
        for rate in ("0.01", "0.1"):
            assert main(["train", "--data", str(corpus), *OPTIONS, "--lr", rate]) == 0
        return [run.id for run in RunStore.open().runs()[:2]]


def test_an_ensemble_is_made_judged_asked_and_exported(mer, two, corpus, tmp_path):
    status, out, err = mer("ensemble", two[0][:12], two[1], "--out", tmp_path / "both", "--json")
    assert (status, err, len(out.splitlines())) == (0, "", 1)
    made = json.loads(out)
    assert made["checkpoint"] == str(tmp_path / "both")
    assert [row["weight"] for row in made["members"]] == [0.5, 0.5]
    assert made["diversity"]["agreement"][0][0] == 1
    scores = json.loads(mer("evaluate", tmp_path / "both", "--data", corpus, "--json")[1])
    assert scores["n_clips"] == 16
    answers = json.loads(mer("predict", tmp_path / "both", corpus / "Sad", "--json")[1])
    assert len(answers) == 8
    assert all(sum(row["probabilities"].values()) == pytest.approx(1) for row in answers)
    clip, out = corpus / "Sad" / "0a.wav", tmp_path / "why"
    why = json.loads(mer("explain", tmp_path / "both", clip, "--out", out, "--json")[1])
    assert why["emotion"] in ("Happy", "Sad")
    assert mer("export", made["run_id"], "--out", tmp_path / "half", "--half")[0] == 0
    whole, half = (open_predictor(tmp_path / name) for name in ("both", "half"))
    clip = corpus / "Sad" / "0a.wav"
    assert half.predict(clip).probabilities == pytest.approx(whole.predict(clip).probabilities, abs=1e-2)


def test_it_prints_the_weights_and_the_agreement_of_the_members(mer, two):
    status, out, _ = mer("ensemble", *two, "--weights", "validation")
    assert status == 0
    assert "same answer (Cohen's kappa)" in out
    assert f"run {RunStore.open().runs()[0].id[:8]}, checkpoint: " in out
    assert "ensemble of 2" in mer("runs", "list")[1]
    shown = json.loads(mer("runs", "show", RunStore.open().runs()[0].id, "--json")[1])
    assert shown["tags"]["mer.members"].split(",") == two


def test_a_folder_in_use_is_refused_before_the_ensemble_is_made(mer, two, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    before = len(RunStore.open().runs())
    status, out, err = mer("ensemble", *two, "--out", tmp_path / "taken")
    assert (status, out) == (2, "")
    assert "exists and is not empty" in err
    assert len(RunStore.open().runs()) == before


@pytest.mark.parametrize(
    ("names", "message"), [([], "joins 2 to 16 runs, not 1"), (["nothing"], "there is no such run")]
)
def test_runs_that_cannot_be_joined_are_an_error_in_one_line(mer, two, names, message, tmp_path):
    status, out, err = mer("ensemble", two[0], *names, "--out", tmp_path / "out")
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith("error: ")
    assert message in err
    assert not (tmp_path / "out").exists()
