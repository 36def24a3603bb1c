"""The files of an explanation: what is in them, and that any class name can be drawn."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from mer.inference.deletion import Deletion
from mer.inference.explain import Explanation
from mer.inference.explain_files import FILES, write_explanation

BANDS, FRAMES, RATE = 16, 20, 4000


def explanation(*, explained="Sad", empty=False):
    rng = np.random.default_rng(0)
    relevance = np.zeros((BANDS, FRAMES), np.float32) if empty else rng.random((BANDS, FRAMES), np.float32)
    checked = Deletion((0.0, 0.5, 1.0), (0.9, 0.2, 0.1), ((0.9, 0.5, 0.1), (0.9, 0.6, 0.1)))
    return Explanation(
        emotion="Happy", explained=explained, probability=0.9, start=1.0, end=2.0,
        relevance=relevance, level=rng.uniform(-80, 0, (BANDS, FRAMES)).astype(np.float32),
        seconds=1 + np.arange(FRAMES) * 0.05, hertz=np.linspace(50, 1900, BANDS),
        heard=rng.uniform(-1, 1, RATE).astype(np.float32), rest=np.zeros(RATE, np.float32), rate=RATE,
        deletion=None if empty else checked,
    )  # fmt: skip


@pytest.fixture
def written(tmp_path):
    def write(found):
        write_explanation(tmp_path, found, {"file": "दिल.wav"})
        return tmp_path

    return write


def test_all_files_are_there(written):
    assert sorted(path.name for path in written(explanation()).iterdir()) == sorted(FILES.values())


def test_the_map_is_a_table_of_bands_in_hertz_over_seconds(written):
    found = explanation()
    with (written(found) / "map.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header[0] == "hz"
    assert [float(second) for second in header[1:]] == pytest.approx(found.seconds)
    assert [float(row[0]) for row in rows] == pytest.approx(found.hertz, abs=0.1)
    np.testing.assert_allclose(np.array(rows, float)[:, 1:], found.relevance, atol=6e-4)


def test_the_sounds_are_kept_to_the_last_bit(written):
    found = explanation()
    samples, rate = soundfile.read(written(found) / "heard.wav", dtype="float32")
    assert rate == RATE
    np.testing.assert_array_equal(samples, found.heard)


def test_the_json_says_what_was_explained_and_how_it_was_checked(written):
    data = json.loads((written(explanation()) / "explanation.json").read_text("utf-8"))
    assert list(data)[:3] == ["file", "emotion", "explained"]
    assert (data["file"], data["explained"], data["start"]) == ("दिल.wav", "Sad", 1)
    assert data["deletion"]["removed"] == [0, 0.5, 1]


@pytest.mark.parametrize("found", [explanation(), explanation(explained="दुख $x_$"), explanation(empty=True)])
def test_the_picture_can_be_drawn(written, found):
    content = (written(found) / "picture.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) > 10_000


def test_a_map_of_a_single_frame_can_be_drawn(written):
    found = explanation()
    short = replace(
        found, relevance=found.relevance[:, :1], level=found.level[:, :1], seconds=found.seconds[:1]
    )
    assert (written(short) / "picture.png").read_bytes().startswith(b"\x89PNG")
