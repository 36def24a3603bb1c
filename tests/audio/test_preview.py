"""The steps from a file to the network's input are those that training and prediction take."""

import numpy as np
import pytest

from mer.audio.decode import load
from mer.audio.mel import Standardizer, images
from mer.audio.preview import steps
from mer.config.sections import Config
from mer.utils.errors import AudioError

CONFIG = Config()


@pytest.fixture
def clip(tmp_path, sound, write_audio):
    """14 s at 44.1 kHz: two windows."""
    return write_audio(tmp_path / "long.wav", sound.chirp(seconds=14.0, rate=44_100), rate=44_100)


def of(path, **options):
    return steps(path, audio=CONFIG.audio, mel=CONFIG.mel, **options)


def test_each_step_follows_from_the_one_before(clip):
    found = of(clip)
    assert found.raw.rate == 44_100
    assert len(found.resampled) == 14 * 16_000
    np.testing.assert_array_equal(found.resampled, load(clip, CONFIG.audio))
    np.testing.assert_array_equal(found.window, found.resampled[: 10 * 16_000])
    assert found.level.shape == (128, 626)
    assert found.image.shape == found.standardized.shape == (224, 224)


@pytest.mark.parametrize(("number", "start"), [(0, 0.0), (1, 4.0), (7, 4.0)])
def test_a_window_number_past_the_end_gives_the_last_window(clip, number, start):
    found = of(clip, window=number)
    assert (found.n_windows, found.start, found.padding) == (2, start, 0)
    first = round(start * 16_000)
    np.testing.assert_array_equal(found.window, found.resampled[first : first + 160_000])


def test_the_image_is_the_one_that_networks_are_given(clip):
    found = of(clip, window=1)
    expected = images(found.resampled, audio=CONFIG.audio, mel=CONFIG.mel)[1]
    np.testing.assert_array_equal(found.image, expected.astype(np.float32))


def test_a_given_standardizer_is_used_and_else_the_clips_own(clip):
    given = of(clip, standardizer=Standardizer(mean=-40.0, std=20.0))
    np.testing.assert_allclose(given.standardized, (given.image + 40) / 20)
    own = of(clip)
    assert own.standardizer != given.standardizer
    assert abs(own.standardized.mean()) < 0.2


def test_the_padding_of_a_short_clip_is_reported(tmp_path, sound, write_audio):
    found = of(write_audio(tmp_path / "short.wav", sound.tone(seconds=3.0)))
    assert found.padding == pytest.approx(7)
    assert not found.window[3 * 16_000 :].any()


def test_a_clip_that_cannot_be_decoded_is_an_error_with_its_name(tmp_path):
    with pytest.raises(AudioError, match="my clip: text, not audio"):
        of(b"not a sound", name="my clip")
