"""Emotion over time: on the grid that was asked for, and the model's own answer at each point."""

import csv

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mer.audio.decode import load
from mer.inference.predictor import Predictor
from mer.inference.timeline import timeline, write_timeline
from mer.models.checkpoint import save_checkpoint
from mer.utils.errors import AudioError, ConfigError
from tests.tiny_backbone import tiny_card, tiny_config, tiny_fit, tiny_zoo

RATE = 4000
WINDOW = 1.0  # s, of the tiny model


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    with tiny_zoo():
        config = tiny_config(epochs=1)
        folder = tmp_path_factory.mktemp("model") / "checkpoint"
        yield Predictor(save_checkpoint(folder, tiny_fit(config)[0], tiny_card(config)), device="cpu")


@pytest.fixture
def recording(tmp_path, sound, write_audio):
    """`recording(seconds)` writes a sound that changes all the time."""
    return lambda seconds: write_audio(
        tmp_path / "long.wav", 0.5 * sound.chirp(100, 1900, seconds, rate=RATE), RATE
    )


def test_values_lie_in_the_middle_of_windows_at_the_rate_asked_for(predictor, recording):
    rows = list(timeline(predictor, recording(3.2), rate=4))
    assert [row["time"] for row in rows] == [0.5 + 0.25 * k for k in range(9)]
    assert all(row["start"] == row["time"] - WINDOW / 2 for row in rows)
    assert all(row["end"] - row["start"] == WINDOW for row in rows)


def test_each_value_is_the_prediction_of_its_window(predictor, recording):
    path = recording(3.0)
    whole = load(path, predictor.card.config.audio)
    for row in timeline(predictor, path, rate=2):
        first = round(row["start"] * predictor.card.config.audio.sample_rate)
        alone = predictor.predict_waveform(whole[first : first + round(WINDOW * RATE)])
        assert row["emotion"] == alone.emotion
        for name, share in alone.probabilities.items():
            assert row[f"p_{name}"] == pytest.approx(share, abs=1e-5)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rate=st.floats(1.0, 10.0), seconds=st.floats(1.0, 4.0))
def test_the_grid_never_drifts_and_never_passes_the_end(predictor, recording, rate, seconds):
    rows = list(timeline(predictor, recording(seconds), rate=rate))
    for number, row in enumerate(rows):
        assert row["time"] == pytest.approx(number / rate + WINDOW / 2, abs=1e-6)
        assert row["start"] + WINDOW / 2 == pytest.approx(row["time"], abs=1e-3)
        assert row["end"] <= seconds + 1e-3
    assert rows[-1]["end"] > seconds - 1 / rate - 2e-3


@pytest.mark.parametrize("rate", [0, -1, 0.5, 11, float("nan"), float("inf")])
def test_an_impossible_rate_is_refused(predictor, recording, rate):
    with pytest.raises(ConfigError, match=r"rate=.* is out of range: 1 <= rate <= 10"):
        next(timeline(predictor, recording(2.0), rate=rate))


def test_a_sound_shorter_than_a_window_is_refused(predictor, recording):
    with pytest.raises(AudioError, match=r"long.wav: 0.8 s, shorter than the model's window of 1 s"):
        next(timeline(predictor, recording(0.8), rate=2))


def test_the_csv_holds_the_rows(predictor, recording, tmp_path):
    path, out = recording(2.0), tmp_path / "out" / "time.csv"
    assert write_timeline(predictor, path, out, rate=2) == 3
    with out.open(newline="") as file:
        found = list(csv.DictReader(file))
    rows = list(timeline(predictor, path, rate=2))
    assert [{name: str(value) for name, value in row.items()} for row in rows] == found
