"""Players: what every browser plays is left as it is, all else becomes FLAC with the same sound."""

import io

import numpy as np
import pytest
import soundfile

from mer.audio.decode import decode
from mer.audio.formats import recognise
from mer.audio.playing import playable
from mer.utils.errors import AudioError
from tests.media import CONTAINERS, encode

RATE = 16_000


def written(samples, kind, subtype="PCM_16"):
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format=kind, subtype=subtype)
    return file.getvalue()


def contained(samples, suffix, codec):
    kind = next(kind for kind in CONTAINERS if (kind.suffix, kind.codec) == (suffix, codec))
    return encode(samples, RATE, kind)


@pytest.mark.parametrize(
    ("kind", "subtype", "media_type"),
    [
        ("WAV", "PCM_16", "audio/wav"), ("WAV", "PCM_24", "audio/wav"), ("WAVEX", "PCM_16", "audio/wav"),
        ("WAV", "FLOAT", "audio/wav"), ("FLAC", "PCM_16", "audio/flac"),
        ("MP3", "MPEG_LAYER_III", "audio/mpeg"),
    ],
)  # fmt: skip
def test_a_file_that_all_browsers_play_is_not_changed(sound, kind, subtype, media_type):
    content = written(sound.chirp(seconds=1), kind, subtype)
    assert playable(content, name="a") == (content, media_type)


def test_aac_in_mp4_is_not_changed(sound):
    content = contained(sound.chirp(seconds=1), "m4a", "aac")
    assert playable(content, name="a") == (content, "audio/mp4")


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [
        ("AIFF", "PCM_16"), ("AU", "PCM_16"), ("WAV", "GSM610"), ("WAV", "ULAW"), ("RF64", "PCM_16"),
        ("OGG", "VORBIS"), ("CAF", "PCM_16"),
    ],
)  # fmt: skip
def test_a_file_that_some_browser_does_not_play_becomes_flac_with_the_same_sound(sound, kind, subtype):
    content = written(sound.chirp(seconds=1), kind, subtype)
    made, media_type = playable(content, name="a")
    assert (media_type, recognise(io.BytesIO(made)).name) == ("audio/flac", "FLAC")
    before, after = decode(content), decode(made)
    assert after.rate == before.rate
    np.testing.assert_allclose(after.waveform, np.clip(before.waveform, -1, 1), atol=1e-4)


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [
        ("m4a", "alac"),
        ("mov", "pcm_s16le"),
        ("3gp", "aac"),
        ("wma", "wmav2"),
        ("mp2", "mp2"),
        ("opus", "libopus"),
    ],
)
def test_a_container_or_codec_that_some_browser_does_not_play_becomes_flac(sound, suffix, codec):
    made, media_type = playable(contained(sound.chirp(seconds=1), suffix, codec), name="a")
    assert media_type == "audio/flac"
    assert decode(made).seconds == pytest.approx(1, abs=0.1)


def test_what_is_not_sound_is_an_error():
    with pytest.raises(AudioError, match=r"a\.aiff: text, not audio"):
        playable(b"no sound at all", name="a.aiff")
