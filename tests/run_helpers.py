"""A run store per test, copied from one empty database because creating it takes seconds; and tiny runs."""

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mer.config.sections import Config
from mer.runs.connection import open_local

RATE = 4000
TINY = {
    "sample_rate": RATE,
    "window_seconds": 1.0,
    "hop_seconds": 0.5,
    "n_fft": 256,
    "hop_length": 64,
    "n_mels": 24,
    "f_max": 2000.0,
    "image_size": 32,
    "epochs": 3,
    "batch_size": 8,
    "backbone": "mobilenet_v3_small",
    "weights": "none",
    "test": 0.25,
    "validation": 0.25,
}


def tiny_config(**changes) -> Config:
    """A config whose run takes one or two seconds, without the SVM."""
    return Config().updated(**TINY | {"baseline": False} | changes)


def write_songs(root, *, labels=("Happy", "Sad"), songs=4, clips=2):
    """Write clips of 1.2 s, a folder per class, with a manifest that names their songs."""
    rows = ["path,label,song"]
    rng = np.random.default_rng(7)
    for number, label in enumerate(labels):
        for song in range(songs):
            for clip in range(clips):
                hertz = 200 * (number + 1) * (1 + 0.1 * song)
                time = np.arange(int(1.2 * RATE)) / RATE
                wave = 0.4 * np.sin(2 * np.pi * hertz * time) + 0.05 * rng.standard_normal(len(time))
                path = root / label / f"{song}{'abcd'[clip]}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, wave, RATE)
                rows.append(f"{path.relative_to(root).as_posix()},{label},{label} {song}")
    (root / "manifest.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture(scope="session")
def empty_home(tmp_path_factory):
    """A home with an empty run store, only to be copied."""
    home = tmp_path_factory.mktemp("empty") / "home"
    open_local(home)
    return home


def copy_home(source: Path, target: Path) -> Path:
    """Copy an empty run store; SQLite copies its own file, so no lock on `source` is lost."""
    target.mkdir(parents=True)
    with (
        closing(sqlite3.connect(source / "mlflow.db")) as old,
        closing(sqlite3.connect(target / "mlflow.db")) as new,
    ):
        old.backup(new)
        new.execute("UPDATE experiments SET artifact_location = ?", [(target / "artifacts").as_uri()])
        new.commit()
    return target


@pytest.fixture(scope="module")
def module_home(empty_home, tmp_path_factory):
    """A home for runs that the tests of a module share."""
    return copy_home(empty_home, tmp_path_factory.mktemp("module") / "home")


@pytest.fixture
def runs_home(request, empty_home, tmp_path_factory, monkeypatch):
    """MER_HOME with its own run store, or that of the module if the test uses `module_home`."""
    if "module_home" in request.fixturenames:
        home = request.getfixturevalue("module_home")
    else:
        home = copy_home(empty_home, tmp_path_factory.mktemp("runs") / "home")
    monkeypatch.setenv("MER_HOME", str(home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return home


@pytest.fixture(scope="session")
def song_corpus(tmp_path_factory):
    return write_songs(tmp_path_factory.mktemp("songs"))
