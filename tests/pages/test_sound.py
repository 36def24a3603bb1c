"""Charts of sound: positions, units and labels."""

import json
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from mer.audio.mel import mel_frequencies
from mer.config.sections import Config, MelConfig
from pages._ui.charts.base import forest
from pages._ui.charts.dataset import balance, lengths
from pages._ui.charts.over_time import stacked, timeline
from pages._ui.charts.sound import (
    COLUMNS,
    envelope,
    image,
    probability_bars,
    spectrogram,
    thin,
    waveform,
)

SHARES = {"Sad": 0.5, "Happy": 0.375, "Party": 0.125}


def windows(count=3):
    return [SimpleNamespace(start=5.0 * n, end=5.0 * n + 10, probabilities=SHARES) for n in range(count)]


def hertz(label):
    return 1000 * int(label[:-1]) if label.endswith("k") else int(label)


def test_the_envelope_holds_the_extremes_of_the_sound(sound):
    samples = sound.chirp(seconds=10)
    shown = envelope(samples, 16_000)
    assert COLUMNS <= len(shown.seconds) < 2 * COLUMNS
    assert (shown.low.min(), shown.high.max()) == pytest.approx((samples.min(), samples.max()), abs=1e-4)
    assert shown.length == 10
    assert (shown.low <= shown.high).all()


@pytest.mark.parametrize("samples", [1, 500, 899, 901])
def test_a_very_short_sound_has_an_envelope_too(samples):
    shown = envelope(np.linspace(-1, 1, samples, dtype=np.float32), 16_000)
    assert len(shown.low) == samples
    assert waveform(shown).layout.xaxis.range == (0, samples / 16_000)


@pytest.mark.parametrize("frames", [1, 626, 900, 901, 1800, 5000])
def test_a_spectrogram_is_reduced_to_the_resolution_of_a_screen(frames):
    level = np.full((128, frames), -20.4, np.float32)
    small = thin(level)
    assert small.shape[0] == 128
    assert min(frames, COLUMNS // 2) <= small.shape[1] <= COLUMNS
    assert small.dtype == np.int8
    assert (small == -20).all()


def test_reducing_a_small_spectrogram_changes_nothing():
    level = np.random.default_rng(0).uniform(-80, 0, (64, 4000)).astype(np.float32)
    assert (thin(thin(level)) == thin(level)).all()


@pytest.mark.parametrize(
    "config", [MelConfig(), MelConfig(n_mels=32, f_max=2000.0), MelConfig(f_min=300.0, scale="htk")]
)
def test_the_ticks_of_a_spectrogram_lie_at_the_bands_of_their_frequency(config):
    chart = spectrogram(np.zeros((config.n_mels, 100)), seconds=2.0, config=config)
    bands = mel_frequencies(config)
    axis = chart.layout.yaxis
    assert len(axis.tickvals) == len(axis.ticktext) >= 3
    for place, label in zip(axis.tickvals, axis.ticktext, strict=True):
        width = bands[min(int(place) + 1, len(bands) - 1)] - bands[max(int(place) - 1, 0)]
        assert bands[round(place)] == pytest.approx(hertz(label), rel=0.03, abs=width)


def test_labels_of_frequencies_do_not_overlap():
    axis = spectrogram(np.zeros((128, 100)), seconds=2.0, config=MelConfig()).layout.yaxis
    assert np.diff(axis.tickvals).min() > 128 / 14
    assert axis.ticktext[-1] == "8k"


def test_a_clip_over_time_has_one_time_axis_for_all_its_parts(sound):
    level = np.zeros((128, 500))
    parts = [spectrogram(level, seconds=20.0, config=MelConfig(), height=220)]
    parts += [waveform(envelope(sound.chirp(seconds=20), 16_000), height=70), timeline(windows(), height=130)]
    whole = stacked(parts, title="t")
    assert {trace.xaxis for trace in whole.data} == {"x"}
    assert {trace.yaxis for trace in whole.data} == {"y", "y2", "y3"}
    assert whole.layout.xaxis.range == (0, 20)
    domains = [whole.layout[axis].domain for axis in ("yaxis", "yaxis2", "yaxis3")]
    assert all(upper[0] > lower[1] for upper, lower in pairwise(domains)), "no part lies on another"
    heights = [high - low for low, high in domains]
    assert heights == pytest.approx([height / 448 for height in (220, 70, 130)])
    assert [trace.name for trace in whole.data if trace.showlegend] == list(SHARES)
    bar = whole.data[0].colorbar
    assert (bar.y, bar.len) == pytest.approx((np.mean(domains[0]), heights[0]))


def test_only_the_time_of_a_clip_can_be_zoomed_and_other_charts_leave_a_finger_to_the_page():
    whole = stacked([spectrogram(np.zeros((128, 500)), seconds=20.0, config=MelConfig())], title="t")
    assert whole.layout.dragmode == "zoom"
    assert whole.layout.yaxis.fixedrange
    assert probability_bars(SHARES).layout.dragmode is False


def test_a_spectrogram_between_two_ticks_has_no_ticks():
    narrow = MelConfig(n_mels=16, f_min=300.0, f_max=450.0)
    assert not spectrogram(np.zeros((16, 100)), seconds=2.0, config=narrow).layout.yaxis.ticktext


def test_a_spectrogram_has_low_bands_below_and_seconds_across():
    level = np.zeros((128, 626))
    level[3] = -10
    (shown,) = spectrogram(level, seconds=10.0, config=Config().mel).data
    assert (shown.x[0], shown.x[-1]) == (0, 10)
    assert shown.z[3][0] == -10
    assert float(shown.y[0].split()[0]) < float(shown.y[-1].split()[0])


def test_bars_are_labelled_with_their_percent_and_the_first_class_is_on_top():
    (bars,) = probability_bars(SHARES).data
    assert list(bars.y) == ["Party पार्टी, 12%", "Happy खुशी, 38%", "Sad दुख, 50%"]
    assert bars.text is None, "a text behind a bar may meet the line at chance"


def test_chance_is_marked_by_a_line():
    (line,) = probability_bars(SHARES).layout.shapes
    assert line.x0 == line.x1 == pytest.approx(1 / 3)


def test_the_emotions_over_time_add_up_to_one_at_each_window():
    areas = timeline(windows()).data
    assert [area.name for area in areas] == list(SHARES)
    assert np.sum([area.y for area in areas], axis=0) == pytest.approx(np.ones(3))
    assert list(areas[0].x) == [5, 10, 15]
    assert {area.stackgroup for area in areas} == {"one"}


def test_the_same_emotion_has_the_same_colour_in_bars_and_over_time():
    (bars,) = probability_bars(SHARES).data
    over_time = {area.name: area.line.color for area in timeline(windows()).data}
    assert dict(zip(list(SHARES)[::-1], bars.marker.color, strict=True)) == over_time


def test_the_input_of_a_network_is_drawn_with_row_0_at_the_bottom():
    pixels = np.arange(16.0).reshape(4, 4)
    (shown,) = image(pixels, unit="σ", title="x").data
    assert shown.z[0][0] == 0
    assert "σ" in shown.hovertemplate


def test_a_forest_chart_has_the_first_score_on_top_with_its_interval():
    chart = forest(["a", "b"], [(0.5, 0.4, 0.7), (0.3, 0.1, 0.4)], chance=0.2, majority=None, title="t")
    (dots,) = chart.data
    assert list(dots.error_x.array) == pytest.approx([0.2, 0.1])
    assert list(dots.error_x.arrayminus) == pytest.approx([0.1, 0.2])
    bottom, top = chart.layout.yaxis.range
    assert top < 0 < 1 < bottom
    assert [line.name for line in chart.layout.shapes] == ["chance 20%"]


def test_reference_lines_at_the_same_place_are_told_apart_by_the_legend():
    chart = forest(["a"], [(0.5, 0.4, 0.7)], chance=0.2, majority=0.2, svm=0.2, title="t")
    assert not chart.layout.annotations
    assert [line.name for line in chart.layout.shapes] == ["chance 20%", "largest class 20%", "SVM 20%"]
    assert all(line.showlegend for line in chart.layout.shapes)
    assert len({line.line.dash for line in chart.layout.shapes}) == 3


def test_there_is_a_bar_for_each_class_and_every_duration_is_counted():
    (bars,) = balance({"Happy": 3, "calm": 5}).data
    assert dict(zip(bars.y, bars.x, strict=True)) == {"calm": 5, "Happy खुशी": 3}
    assert list(lengths([1.0, 2.5]).data[0].x) == [1.0, 2.5]


def test_charts_are_small_enough_to_send():
    level = np.random.default_rng(0).uniform(-80, 0, (128, 60_000))
    chart = spectrogram(level, seconds=960, config=Config().mel)
    assert len(json.dumps(chart.to_plotly_json(), default=lambda value: value.tolist())) < 1e6
