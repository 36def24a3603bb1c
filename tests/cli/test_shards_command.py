"""`mer prepare --shards` and `mer train` on what it made."""

import json

import pandas as pd
import pytest

from mer.cli import main
from tests.run_helpers import TINY, write_songs
from tests.shard_helpers import as_parquet

SOUND = (
    "sample_rate",
    "window_seconds",
    "hop_seconds",
    "n_fft",
    "hop_length",
    "n_mels",
    "f_max",
    "image_size",
)
OPTIONS = [f"--{key.replace('_', '-')}={TINY[key]}" for key in SOUND]


@pytest.fixture
def mer(capsys, runs_home):
    """Run a command; returns exit status, what it printed, and what it said."""

    def run(*words):
        status = main([str(word) for word in words])
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def manifest(tmp_path):
    return as_parquet(write_songs(tmp_path / "songs", songs=6))


def test_a_set_is_prepared_and_trained_on(mer, manifest, tmp_path):
    out = tmp_path / "set"
    status, printed, _ = mer("prepare", manifest, "--shards", out, *OPTIONS, "--json")
    found = json.loads(printed)
    assert (status, len(printed.splitlines())) == (0, 1)
    assert (found["clips"], found["left_out"], found["out"]) == (24, 0, str(out))
    words = [
        "--backbone",
        "mobilenet_v3_small",
        "--weights",
        "none",
        "--epochs",
        "1",
        "--validation",
        "0",
        "--test",
        "0.5",
    ]
    status, printed, said = mer("train", "--data", out, "--no-baseline", *words, *OPTIONS, "--json")
    assert status == 0, said
    assert json.loads(printed)["status"] == "finished"


def test_the_report_names_clips_left_out_and_that_songs_are_not_guessed(mer, manifest, tmp_path):
    rows = pd.read_parquet(manifest).assign(song=None)
    pd.concat([rows, pd.DataFrame({"path": ["none.wav"], "label": ["Sad"]})]).to_parquet(manifest)
    status, printed, _ = mer("prepare", manifest, "--shards", tmp_path / "set", *OPTIONS)
    assert status == 0
    assert "24 clips of 2 classes, 24 windows, in 1 shards" in printed
    assert "a set is not compared by sound" in printed
    assert "1 files left out, 0 duplicates with the same audio as another clip; see" in printed
    assert "mer train --no-baseline --data" in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--executor", "ray"], "need --shards, the folder of a sharded set"),
        (["--from", "s3://bucket/"], "need --shards, the folder of a sharded set"),
        (["--shards", "OUT", "--from", "/etc"], "should be the beginning of URLs"),
        (["--shards", "OUT", "--label-column", "mood"], "no column 'mood'"),
    ],
)
def test_impossible_requests_are_refused_in_one_line(words, message, mer, manifest, tmp_path):
    words = [str(tmp_path / "set") if word == "OUT" else word for word in words]
    status, printed, said = mer("prepare", manifest, *words)
    assert (status, printed) == (2, "")
    assert message in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "set" / "plan.json").exists()


def test_a_missing_manifest_is_named(mer, tmp_path):
    status, _, said = mer("prepare", tmp_path / "none.parquet", "--shards", tmp_path / "set")
    assert status == 2
    assert "none.parquet cannot be read: No such file or directory; check the path" in said


def test_a_finished_set_needs_no_further_preparation_and_no_svm(mer, sharded):
    status, printed, said = mer("prepare", sharded, *OPTIONS, "--json")
    assert (status, said) == (0, "")
    assert json.loads(printed).items() >= {"clips": 24, "left_out": 0}.items()
