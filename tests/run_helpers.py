"""A run store shared by the tests of a session (making its database takes two seconds), and tiny runs."""

import numpy as np
import pytest
import soundfile

from mer.config.sections import Config

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
    """A config whose run takes a second or two; the SVM beside it would take as long again."""
    return Config().updated(**TINY | {"baseline": False} | changes)


def write_songs(root, *, labels=("Happy", "Sad"), songs=4, clips=2):
    """Clips of 1.2 s in a folder per class with a manifest that names their songs."""
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
def session_home(tmp_path_factory):
    return tmp_path_factory.mktemp("session") / "home"


@pytest.fixture
def runs_home(session_home, monkeypatch):
    """MER_HOME of the whole session: runs of other tests are in it too.

    Never to be copied: a process that closes a database's file loses its locks on it, as POSIX has it.
    """
    monkeypatch.setenv("MER_HOME", str(session_home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return session_home


@pytest.fixture(scope="session")
def song_corpus(tmp_path_factory):
    return write_songs(tmp_path_factory.mktemp("songs"))
