"""Shared fixtures: seeded synthetic sound, audio files, and a temporary home.

sound          functions that make waveforms: tone, chirp, chord, noise, silence
write_audio    write_audio(path, waveform, rate=...) writes any format of libsndfile
tiny_corpus    a folder per class (Happy, Sad), three 1 s WAV clips each, all different
small_disk     small_disk(size, content=None) mounts a file system, read-only if it gets content (root only)
full_disk      a folder on a disk without a free byte (root only, else skipped)
single_threaded  torch on one thread, for tests of networks
forbidden      a folder that this process may neither read nor write
"""

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, settings

from mer.utils.machine import processors

# For such small networks a second thread costs more than it saves. torch reads this when it is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

WORKERS = 4  # of up to 2 GB each


def pytest_xdist_auto_num_workers(config) -> int:
    """Only the default tests run in parallel by themselves: a few tests finish sooner here.

    Slow tests run one after the other unless `-n` is given, as in `.ci/run`.
    """
    picked = config.args_source is not pytest.Config.ArgsSource.TESTPATHS or config.option.keyword
    return 0 if picked or config.option.markexpr != "not slow" else min(len(processors()), WORKERS)


def pytest_configure(config):
    """Each worker gets its own cores; with one core, code under test starts no processes for a few clips.

    Slow tests start processes of their own, so they may use all cores.
    """
    worker = getattr(config, "workerinput", None)
    if worker and config.option.markexpr == "not slow" and hasattr(os, "sched_setaffinity"):
        number, mine = int(worker["workerid"].removeprefix("gw")), processors()
        os.sched_setaffinity(0, mine[number % len(mine) :: worker["workercount"]])


pytest_plugins = ["tests.run_helpers", "tests.shard_helpers", "tests.shared_store"]

RATE = 16_000
CLASS_CHORDS = {"Happy": (523.25, 659.26, 783.99), "Sad": (110.0, 130.81, 164.81)}

slow_is_fine = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("mer", derandomize=True, database=None, max_examples=50, **slow_is_fine)
settings.register_profile("thorough", derandomize=False, database=None, max_examples=500, **slow_is_fine)
settings.load_profile("mer")  # the other one: `pytest --hypothesis-profile thorough`


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch) -> Path:
    """Set MER_HOME and all download folders to places in tmp_path, which are created when first used."""
    home = tmp_path / ".mer"
    monkeypatch.setenv("MER_HOME", str(home))
    for name in ("TORCH_HOME", "HF_HOME", "KAGGLEHUB_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / f".{name.lower()}"))
    return home


def tone(hertz=440.0, seconds=1.0, *, rate=RATE, level=0.5):
    """A sine of constant pitch."""
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def chirp(low=100.0, high=4000.0, seconds=1.0, *, rate=RATE, level=0.5):
    """A sine that glides from `low` to `high` Hz at constant speed."""
    hertz = np.linspace(low, high, round(seconds * rate))
    return (level * np.sin(2 * np.pi * np.cumsum(hertz) / rate)).astype(np.float32)


def chord(hertz=(220.0, 277.18, 329.63), seconds=1.0, *, rate=RATE, level=0.5):
    """A sum of sines that does not clip."""
    return np.sum([tone(f, seconds, rate=rate, level=level / len(hertz)) for f in hertz], axis=0)


def noise(seconds=1.0, *, rate=RATE, level=0.3, seed=0):
    """White noise; the same seed gives the same samples."""
    samples = np.random.default_rng(seed).uniform(-level, level, round(seconds * rate))
    return samples.astype(np.float32)


def silence(seconds=1.0, *, rate=RATE):
    """Zeros."""
    return np.zeros(round(seconds * rate), np.float32)


@pytest.fixture(scope="module")
def single_threaded():
    """torch on one thread, for tests of networks."""
    from tests.tiny_backbone import one_thread  # here, as it imports torch

    with one_thread():
        yield


@pytest.fixture(scope="session")
def sound() -> SimpleNamespace:
    """The waveform makers, each float32 of shape (samples,)."""
    return SimpleNamespace(tone=tone, chirp=chirp, chord=chord, noise=noise, silence=silence)


@pytest.fixture(scope="session")
def write_audio():
    """`write_audio(path, waveform, rate=16000, **soundfile_options) -> path`, making folders on the way."""

    def write(path: Path, waveform: np.ndarray, rate: int = RATE, **options) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(str(path), waveform, rate, **options)
        return path

    return write


@pytest.fixture
def tiny_corpus(tmp_path, write_audio) -> Path:
    """Folder per class: a high chord for Happy, a low one for Sad, and a little noise of its own."""
    root = tmp_path / "corpus"
    for label, hertz in CLASS_CHORDS.items():
        for number in range(3):
            clip = chord(hertz) + noise(level=0.05, seed=number + 100 * len(label))
            write_audio(root / label / f"{number}.wav", clip)
    return root


@pytest.fixture
def small_disk(tmp_path):
    """`small_disk("64k")` mounts a file system of that size; with `content`, a folder, it is read-only."""
    points = []

    def make(size: str, content: Path | None = None) -> Path:
        point = tmp_path / f"disk-{len(points)}"
        point.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(point)]
        if os.name != "posix" or os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("a small file system can be mounted by root alone, and not on every machine")
        points.append(point)
        if content:
            # By another process: closing the file of an open database would drop the locks of SQLite.
            subprocess.run(["cp", "-r", f"{content}/.", str(point)], check=True)
            subprocess.run(["mount", "-o", "remount,ro", str(point)], check=True)
        return point

    yield make
    for point in points:
        subprocess.run(["umount", "-l", str(point)], check=True)  # even if a file there is still open


@pytest.fixture
def full_disk(small_disk):
    """A full file system of 64 KiB."""
    place = small_disk("64k")
    (place / "ballast").write_bytes(bytes(65_536))
    return place


@pytest.fixture
def forbidden(tmp_path):
    """A folder without permissions. They do not stop root, so root becomes nobody."""
    place = tmp_path / "forbidden"
    place.mkdir(mode=0)
    os.seteuid(os.geteuid() or 65_534)
    yield place
    os.seteuid(os.getuid())
    place.chmod(0o700)
