"""The whole job, as a newcomer runs it: one command after the other, in an empty home, offline. Slow."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mer.cli import main
from mer.models.zoo import ZOO

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[1]
RATE = 22_050


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """An empty folder to work in; MER_HOME and the cache of weights are in it, empty too."""
    return tmp_path_factory.mktemp("newcomer")


@pytest.fixture(scope="module")
def mer(place):
    """Run a command in a process of its own; returns what it printed as data."""
    settings = {"PYTHONPATH": str(ROOT), "MER_HOME": str(place / "home"), "TORCH_HOME": str(place / "torch")}
    no_network = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")

    def run(*words, status=0):
        command = [sys.executable, "-m", "mer", *map(str, words), "--json"]
        done = subprocess.run(
            command, cwd=place, env=os.environ | settings | no_network, capture_output=True, text=True
        )
        assert done.returncode == status, done.stderr
        return json.loads(done.stdout) if done.stdout else done.stderr

    return run


@pytest.fixture
def mer_here(place, monkeypatch, capsys):
    """Run a command in this process, which has imported torch already; returns what it printed as data."""
    monkeypatch.setenv("MER_HOME", str(place / "home"))
    monkeypatch.setenv("TORCH_HOME", str(place / "torch"))

    def run(*words):
        status, said = main([*map(str, words), "--json"]), capsys.readouterr()
        assert status == 0, said.err
        return json.loads(said.out)

    return run


@pytest.fixture(scope="module")
def demo(mer, place):
    mer("data", "demo", "--out", "demo", "--clips-per-class", "8")
    return place / "demo"


def test_the_commands_of_the_readme_in_a_row(mer, demo, place):
    report = mer("data", "check", "demo")
    assert (report["clips"], report["synthetic"], report["left_out"]) == (40, True, [])
    run = mer("train", "--data", "demo", "--preset", "quick")
    assert run["status"] == "finished"
    mer("export", run["run_id"], "--out", "model")
    scores = mer("evaluate", "model", "--data", "demo")
    assert scores["n_clips"] == 40
    assert scores["accuracy"] > 0.5  # most of these clips it was trained on; one in five is chance
    files = sorted((demo / "Sad").glob("*.flac"))
    assert [row["file"] for row in mer("predict", "model", *files)] == [str(file) for file in files]


def plucked(rng, seconds, hertz):
    """A string plucked twice a second: partials that decay, the higher ones faster."""
    time = np.arange(int(seconds * RATE)) / RATE
    since = time % 0.5
    partials = sum(np.sin(2 * np.pi * hertz * k * time) * np.exp(-k * 2 * since) / k for k in range(1, 8))
    return 0.1 * partials + 0.005 * rng.standard_normal(len(time))


def test_a_zip_laid_out_as_mer500_trains_without_preparation(mer_here, place):
    rng = np.random.default_rng(0)
    tree = place / "unpacked"
    for label, hertz in (
        ("Sad", 110.0),
        ("Romantic", 220.0),
        ("Devotional", 330.0),
        ("Party", 440.0),
        ("Happy", 550.0),
    ):
        (tree / label / label).mkdir(parents=True)
        for number in range(4):
            seconds = 22 if (label, number) == ("Sad", 0) else 10 + number
            wave = plucked(rng, seconds, hertz * 2 ** (number / 12))
            soundfile.write(tree / label / label / f"{number}.wav", wave, RATE)
    (tree / "Sad" / "Sad" / "4.wav").write_bytes(b"RIFF but no more than that")
    with zipfile.ZipFile(place / "archive.zip", "w") as archive:
        for path in sorted(tree.rglob("*.wav")):
            archive.write(path, path.relative_to(tree))
    report = mer_here("data", "check", place / "archive.zip")
    assert report["classes"] == dict.fromkeys(("Romantic", "Happy", "Sad", "Devotional", "Party"), 4)
    assert [row["file"] for row in report["left_out"]] == ["Sad/Sad/4.wav"]
    assert report["seconds"]["max"] == 22
    run = mer_here("train", "--data", place / "archive.zip", "--preset", "quick", "--epochs", "2")
    assert run["status"] == "finished"
    windows = mer_here("predict", run["checkpoint"], tree / "Sad" / "Sad" / "0.wav")[0]["windows"]
    assert (windows[0]["start"], windows[-1]["end"]) == (0, 22)
    assert len(windows) == 4


@pytest.fixture(scope="module")
def few(mer, place):
    """Four clips of each of five classes."""
    mer("data", "demo", "--out", "few", "--clips-per-class", "4")
    return place / "few"


@pytest.mark.parametrize("name", ZOO)
def test_every_backbone_trains_an_epoch_and_predicts(mer_here, few, name):
    run = mer_here(
        *("train", "--data", few, "--backbone", name, "--weights", "none", "--no-baseline"),
        *("--epochs", "1", "--batch-size", "8", "--lr", "0.0001"),
        *("--window-seconds", "3", "--hop-seconds", "3", "--only-first"),
    )
    assert run["status"] == "finished"
    found = mer_here("predict", run["checkpoint"], few / "Happy" / sorted(os.listdir(few / "Happy"))[0])[0]
    assert sum(found["probabilities"].values()) == pytest.approx(1)


def test_imagenet_weights_that_are_not_here_are_an_error_and_leave_no_run(mer, demo):
    before = len(mer("runs", "list")["runs"])
    error = mer("train", "--data", "demo", "--backbone", "resnet18", status=2)
    assert error.splitlines()[-1].startswith("error: ")
    assert "resnet18-f37072fd.pth" in error
    assert len(mer("runs", "list")["runs"]) == before
