"""A path and its bytes are one file, also with other bytes in front of the sound."""

import io
import json

import numpy as np
import pytest
import soundfile

from mer.audio.decode import decode
from mer.audio.formats import recognise
from mer.cli import main
from mer.data.cache.store import FeatureStore
from mer.utils.errors import AudioError
from tests.hostile_audio import hostile
from tests.serve_helpers import SHIPPED

APE = b"APETAGEX" + (2000).to_bytes(4, "little") + (82).to_bytes(4, "little") + bytes(16)
JUNK = {
    "nothing": b"",
    "a zero": b"\0",
    "100 zeros": bytes(100),
    "200,000 zeros": bytes(200_000),
    "random bytes": np.random.default_rng(0).bytes(5000),
    "text": b"some words\n" * 50,
    "an APE tag": APE + b"x" * 82,
    "an ID3 tag": b"ID3\4\0\0\0\0\1\0" + bytes(128),
    "two tags and zeros": b"ID3\4\0\0\0\0\1\0" + bytes(128) + APE + b"x" * 82 + bytes(300),
}


@pytest.fixture(scope="module")
def music(sound):
    file = io.BytesIO()
    soundfile.write(file, sound.chord(seconds=3.0) + sound.noise(3.0, level=0.1), 16_000, format="MP3")
    return file.getvalue()


@pytest.mark.parametrize("name", JUNK)
def test_an_mp3_behind_other_bytes_is_heard_from_path_and_bytes(name, music, tmp_path):
    content = JUNK[name] + music
    (path := tmp_path / "clip.mp3").write_bytes(content)
    kind = recognise(io.BytesIO(content))
    assert kind.name == "MP3"
    assert len(JUNK[name]) <= kind.begin < len(JUNK[name]) + 200
    from_path, from_bytes = decode(path), decode(content)
    assert from_path.seconds == pytest.approx(3.0, abs=0.15)
    assert np.array_equal(from_path.waveform, from_bytes.waveform)
    assert from_path.remarks == from_bytes.remarks == ()


@pytest.mark.parametrize("container", ["WAV", "FLAC", "OGG", "AIFF", "AU"])
def test_other_formats_behind_a_tag_or_zeros_are_heard_alike(container, sound, tmp_path):
    file = io.BytesIO()
    soundfile.write(file, sound.chord(seconds=2.0), 16_000, format=container)
    for name in ("an ID3 tag", "100 zeros"):
        content = JUNK[name] + file.getvalue()
        (path := tmp_path / "clip").write_bytes(content)
        from_path, from_bytes = decode(path), decode(content)
        assert from_path.seconds == pytest.approx(2.0, abs=0.1)
        assert np.array_equal(from_path.waveform, from_bytes.waveform)


@pytest.mark.parametrize("name", ["100 zeros", "random bytes", "an APE tag"])
def test_prediction_data_set_and_upload_hear_the_same_file(name, music, tmp_path, capsys):
    content = JUNK[name] + music
    (path := tmp_path / "clip.mp3").write_bytes(content)
    assert main(["predict", str(SHIPPED), str(path), "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    (fact,) = FeatureStore(tmp_path / "store").facts([path])
    assert fact.reason is None
    assert fact.seconds == pytest.approx(answer["windows"][-1]["end"], abs=0.01)
    assert decode(content).seconds == fact.seconds


def test_damaged_files_are_heard_or_refused_alike_from_path_and_bytes(tmp_path):
    path = tmp_path / "clip"
    for content in hostile(120, seed=11):
        path.write_bytes(content)
        assert outcome(path) == outcome(content)


def outcome(source):
    """The hash of the sound, or why there is none."""
    try:
        return decode(source, name="clip").content_hash()
    except AudioError as error:
        return str(error)
