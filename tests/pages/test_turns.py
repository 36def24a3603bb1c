"""With any number of visitors, at most as many clips are processed at once as there are cores."""

import ast
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from mer.config.sections import Config
from mer.data.library import add
from mer.inference.predictor import Prediction, Window
from pages._ui.cached import datasets
from pages._ui.parts import clip
from pages._ui.shell import turns

ROOT = Path(__file__).parents[2]
VISITORS = 8


class Crowd:
    """Counts calls, and how many run at once."""

    def __init__(self):
        self.inside, self.most, self.times, self.lock = 0, 0, 0, threading.Lock()

    def __call__(self, *arguments, **keywords):
        with self.lock:
            self.inside, self.times = self.inside + 1, self.times + 1
            self.most = max(self.most, self.inside)
        time.sleep(0.05)
        with self.lock:
            self.inside -= 1


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr(turns, "cores", lambda: 2)
    turns.places.cache_clear()
    yield
    turns.places.cache_clear()


@pytest.mark.promise(
    "The dashboard predicts as many clips at once as there are cores; others wait.",
    measured="20 songs of 5 minutes: 15 s, 0.8 GB more",
)
def test_no_more_clips_are_predicted_at_once_than_there_are_cores(
    two_cores, monkeypatch, sound, write_audio, tmp_path
):
    crowd, even = Crowd(), {"Happy": 0.5, "Sad": 0.5}

    def answer(samples, remarks):
        crowd()
        return Prediction("Happy", even, (Window(0.0, 1.0, even),))

    network = SimpleNamespace(card=SimpleNamespace(config=Config()), answer=answer)
    model = SimpleNamespace(folder="f", changed=lambda: 1)
    monkeypatch.setattr(clip, "predictor", lambda _: network)
    songs = [
        write_audio(tmp_path / f"{number}.wav", sound.noise(1.0, seed=number)).read_bytes()
        for number in range(VISITORS)
    ]
    with ThreadPoolExecutor(VISITORS) as pool:
        found = list(pool.map(lambda song: clip.analyse(song, "song", model), songs))
    assert [analysis.prediction.emotion for analysis in found] == ["Happy"] * VISITORS
    assert (crowd.times, crowd.most) == (VISITORS, 2)


def test_a_place_is_free_again_after_an_error(two_cores):
    for _ in range(5):
        with pytest.raises(ZeroDivisionError), turns.in_turn():
            raise ZeroDivisionError
    with turns.in_turn():
        pass


@pytest.mark.promise("A data set that many visitors open at once is checked once.", measured="1 command")
def test_a_data_set_that_many_visitors_open_at_once_is_checked_once(monkeypatch, tiny_corpus):
    checks, entry = Crowd(), add(tiny_corpus)
    monkeypatch.setattr(datasets, "run_mer", checks)
    with ThreadPoolExecutor(VISITORS) as pool:
        found = list(pool.map(lambda _: datasets.report(entry), range(VISITORS)))
    assert [len(report.facts) for report in found] == [6] * VISITORS
    assert checks.times == 1


def caches():
    """Each cached function of the dashboard with the options of its cache."""
    for path in [*(ROOT / "pages").rglob("*.py"), ROOT / "streamlit_app.py"]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            for decorator in getattr(node, "decorator_list", []):
                call = decorator if isinstance(decorator, ast.Call) else ast.Call(decorator, [], [])
                if ast.unparse(call.func) in ("st.cache_data", "st.cache_resource", "lru_cache", "cache"):
                    yield f"{path.name} {node.name}", {word.arg for word in call.keywords}


@pytest.mark.promise("Every cache of the dashboard is bounded.", measured="all but one list of names")
def test_every_cache_is_bounded():
    found = dict(caches())
    assert len(found) > 10
    endless = {name for name, words in found.items() if not words & {"max_entries", "maxsize"}}
    assert endless == {"datasets.py _checked"}  # a few words for each data set of the library
