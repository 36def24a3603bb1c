"""Stimuli: the models agree on them, and loudness and tempo do not tell the emotions apart."""

import csv
import json
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyloudnorm
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from mer.data.clips import Clip, Dataset
from mer.inference.stimuli import PEAK, Stimulus, candidates, common_loudness, export, match
from mer.models.card import WEIGHTS
from mer.models.checkpoint import save_checkpoint
from mer.utils.errors import AudioError, ConfigError, DataError
from tests.tiny_backbone import tiny_card, tiny_config, tiny_fit, tiny_zoo

CLASSES = ("Happy", "Sad")
ROOT = Path(__file__).parents[2]
RATE = 16_000


class Oracle:
    """A model that knows the answer to each file by heart: the probability of Happy, or an error."""

    def __init__(self, answers, classes=CLASSES):
        self.answers, self.card = answers, SimpleNamespace(classes=classes)

    def predict_many(self, paths):
        for path in paths:
            happy = self.answers[path.stem]
            if isinstance(happy, AudioError):
                yield path, happy
            else:
                shares = dict(zip(CLASSES, (happy, 1 - happy), strict=True))
                yield path, SimpleNamespace(emotion=max(shares, key=shares.get), probabilities=shares)


@pytest.fixture
def beats(tmp_path, sound, write_audio):
    """`beats(name, label, song)` writes a clip with a click every half second."""

    def write(name, label="Happy", song=None, level=0.3):
        wave = level * sound.tone(440, 4.0)
        wave[np.arange(len(wave)) % 8000 > 2000] *= 0.05
        return Clip(f"{name}.wav", write_audio(tmp_path / f"{name}.wav", wave, RATE), label, song)

    return write


def stimulus(emotion, tempo, agreement=0.8, number=0, **more):
    clip = Clip(f"{emotion} {number}.wav", Path("x.wav"), emotion)
    return Stimulus(clip, emotion, agreement, 10.0, tempo=tempo, **more)


def test_only_clips_on_which_all_models_and_the_label_agree_are_candidates(beats):
    clips = [beats("agreed"), beats("split"), beats("mislabelled", label="Sad"), beats("broken")]
    broken = AudioError("broken.wav: silent")
    first = Oracle({"agreed": 0.9, "split": 0.9, "mislabelled": 0.9, "broken": broken})
    second = Oracle({"agreed": 0.7, "split": 0.2, "mislabelled": 0.8, "broken": 0.9})
    (found,) = candidates(clips, [first, second])
    assert (found.clip.id, found.emotion) == ("agreed.wav", "Happy")
    assert found.agreement == pytest.approx(0.8)
    assert found.seconds == pytest.approx(4)
    assert 20 < found.tempo < 500


MEASURED = """
import sys
from pathlib import Path
from mer.inference.stimuli import measure
from tests.memory import peak
usual, fast = map(Path, sys.argv[1:])
measure(usual)
before = peak()
measure(fast)
print(peak() - before)
"""


@pytest.mark.slow
def test_a_stimulus_of_the_highest_rate_is_measured_in_little_memory(tmp_path, sound, write_audio):
    """Memory for its tempo once grew with the square of the rate: to 4 GB for five seconds."""
    paths = [
        write_audio(tmp_path / f"{rate}.wav", sound.tone(440, 3.0, rate=rate), rate)
        for rate in (48_000, 768_000)
    ]
    command = [sys.executable, "-W", "ignore", "-c", MEASURED, *map(str, paths)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 300


def test_a_label_outside_the_classes_is_ignored(beats):
    found = candidates([beats("one", label="Rock")], [Oracle({"one": 0.9})])
    assert [one.emotion for one in found] == ["Happy"]


def test_each_song_has_its_surest_clip_as_candidate(beats):
    clips = [beats("a", song="s"), beats("b", song="s"), beats("c", song="t")]
    found = candidates(clips, [Oracle({"a": 0.7, "b": 0.95, "c": 0.6})])
    assert [one.clip.id for one in found] == ["b.wav", "c.wav"]


def test_models_of_other_classes_are_refused(beats):
    models = [Oracle({"a": 0.9}), Oracle({"a": 0.9}, classes=("Happy", "Party"))]
    with pytest.raises(DataError, match="not all models know 'Party'"):
        candidates([beats("a")], models)


def test_progress_counts_every_model(beats):
    seen = []
    candidates([beats("a")], [Oracle({"a": 0.9})] * 3, progress=lambda *step: seen.append(step))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_tempi_of_the_chosen_are_spread_alike():
    rng = np.random.default_rng(0)
    fast = [stimulus("Happy", tempo, number=k) for k, tempo in enumerate(rng.uniform(90, 180, 60))]
    slow = [stimulus("Sad", tempo, number=k) for k, tempo in enumerate(rng.uniform(60, 120, 60))]
    chosen = match([*fast, *slow], per_class=10)
    gap = np.subtract(*(np.mean([o.tempo for o in chosen if o.emotion == e]) for e in CLASSES))
    before = np.mean([o.tempo for o in fast]) - np.mean([o.tempo for o in slow])
    assert abs(gap) < 0.3 * before


def test_between_clips_of_one_tempo_the_surer_is_chosen():
    found = [stimulus("Happy", 100, 0.6), stimulus("Happy", 100, 0.9, 1), stimulus("Sad", 100)]
    assert [one.agreement for one in match(found, per_class=1)] == [0.9, 0.8]


@given(
    st.lists(st.tuples(st.sampled_from(CLASSES), st.floats(40, 240), st.floats(0.2, 1)), max_size=24),
    st.integers(1, 4),
)
def test_every_emotion_gets_as_many_different_clips_or_none_does(drawn, per_class):
    found = [stimulus(*one, number=k) for k, one in enumerate(drawn)]
    counts = [sum(one.emotion == emotion for one in found) for emotion in {o.emotion for o in found}]
    if not counts or min(counts) < per_class:
        with pytest.raises(DataError, match=r"--per-class|the models agree on no clip"):
            match(found, per_class=per_class)
        return
    chosen = match(found, per_class=per_class)
    assert len({one.clip.id for one in chosen}) == len(chosen) == per_class * len(counts)
    assert [one.emotion for one in chosen] == sorted(one.emotion for one in chosen)


def test_less_than_one_clip_per_emotion_is_refused():
    with pytest.raises(ConfigError, match="per_class=0 should be at least 1"):
        match([stimulus("Happy", 100)], per_class=0)


def test_the_common_loudness_leaves_every_peak_its_headroom():
    loud, spiky = (
        stimulus("Happy", 100, loudness=-10.0, peak=-2.0),
        stimulus("Sad", 100, loudness=-30.0, peak=-4.0),
    )
    assert common_loudness([loud], wanted=-23) == -23
    level = common_loudness([loud, spiky], wanted=-23)
    assert level == pytest.approx(-30 + PEAK + 4)


def test_written_stimuli_are_equally_loud_and_name_their_source(beats, tmp_path):
    clips = [beats("quiet", level=0.05), beats("loud", level=0.6)]
    chosen = candidates(clips, [Oracle({"quiet": 0.9, "loud": 0.9})])
    with tiny_zoo():
        config = tiny_config(epochs=1)
        model = save_checkpoint(tmp_path / "a_model", tiny_fit(config)[0], tiny_card(config))
    dataset = Dataset("=songs", tmp_path, tuple(clips), licence="CC BY")
    rows = export(tmp_path / "out", chosen, dataset, [model], loudness=-23.0)
    for row in rows:
        wave, rate = soundfile.read(tmp_path / "out" / row["file"])
        loudness = pyloudnorm.Meter(rate).integrated_loudness(wave)
        assert loudness == pytest.approx(row["loudness_lufs"], abs=0.1)
        assert 20 * np.log10(np.abs(wave).max()) <= PEAK + 0.01
        assert row["sha256"] == sha256((tmp_path / "out" / row["file"]).read_bytes()).hexdigest()
        assert row["source_sha256"] == sha256((tmp_path / row["source"]).read_bytes()).hexdigest()
    with (tmp_path / "out" / "stimuli.csv").open(newline="") as file:
        assert [row["file"] for row in csv.DictReader(file)] == ["001_Happy.wav", "002_Happy.wav"]
    about = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert about["data"] == {"name": "=songs", "licence": "CC BY", "synthetic": False}
    weights = sha256((model / WEIGHTS).read_bytes()).hexdigest()
    assert about["models"] == [{"folder": "a_model", "weights_sha256": weights}]


def test_an_emotion_that_cannot_be_a_file_name_still_gets_files(beats, tmp_path):
    (one,) = candidates([beats("a")], [Oracle({"a": 0.9})])
    strange = [replace(one, emotion="../उदास"), replace(one, emotion="a/b c")]
    rows = export(tmp_path / "out", strange, Dataset("d", tmp_path, ()), [], loudness=-23.0)
    assert [row["file"] for row in rows] == ["001_class.wav", "002_a-b-c.wav"]
