"""The store among processes: killed at any moment, filled by two at once."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from mer.config.sections import AudioConfig, MelConfig
from mer.data.cache.arrays import is_whole
from mer.data.cache.store import FeatureStore

ROOT = Path(__file__).parents[3]
CLIPS, WORKERS = 30, 2
SETTINGS = {
    "audio": AudioConfig(window_seconds=0.5, hop_seconds=0.5),
    "mel": MelConfig(n_mels=32, image_size=32),
}

FILL = """
import os, sys, time
from pathlib import Path
from mer.data.cache import store
from tests.data.cache.test_store_processes import SETTINGS, WORKERS

plain = store.decode

def slow(*arguments, **options):
    log = os.open(sys.argv[3], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, b"decoded\\n")
    os.close(log)
    time.sleep(0.05)
    return plain(*arguments, **options)

store.decode = slow

if __name__ == "__main__":
    clips = sorted(Path(sys.argv[1]).glob("*.wav"))
    facts = store.FeatureStore(Path(sys.argv[2])).prepare(clips, workers=WORKERS, **SETTINGS)
    assert len(facts) == len(clips)
"""


@pytest.fixture
def place(tmp_path, sound, write_audio):
    """A folder with `clips`, a script that fills a `store` slowly, and its log of decoded clips."""
    for number in range(CLIPS):
        write_audio(tmp_path / "clips" / f"{number:02}.wav", sound.noise(0.6, seed=number))
    (tmp_path / "fill.py").write_text(FILL)
    return tmp_path


def fill(place):
    command = [sys.executable, "fill.py", "clips", "store", "log"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=place, env=environment)


def entries(place):
    return list((place / "store").glob("images/*/*/[!.]*.npy"))


def decoded(place):
    return (place / "log").read_text().count("decoded") if (place / "log").exists() else 0


def wait_until(condition, what, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def test_killing_the_preparation_loses_at_most_the_clips_in_progress(place):
    process = fill(place)
    wait_until(lambda: len(entries(place)) >= 5, "no entries appeared")
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(
        lambda: not any(worker.is_running() for worker in workers), "the workers outlived their parent", 10
    )
    kept = entries(place)
    assert 5 <= len(kept) < CLIPS
    assert all(is_whole(path) for path in kept)
    assert decoded(place) - len(kept) <= WORKERS
    before = decoded(place)
    assert fill(place).wait() == 0
    assert decoded(place) - before == CLIPS - len(kept)
    assert len(entries(place)) == CLIPS


def test_two_processes_fill_the_store_without_repeating_work(place):
    both = [fill(place), fill(place)]
    assert [process.wait() for process in both] == [0, 0]
    assert decoded(place) == CLIPS
    assert len(entries(place)) == CLIPS
    assert all(is_whole(path) for path in entries(place))
    facts = FeatureStore(place / "store").facts(sorted((place / "clips").glob("*.wav")))
    assert [fact.reason for fact in facts] == [None] * CLIPS
