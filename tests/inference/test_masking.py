"""Dividing a sound by a mask on its spectrogram: nothing is lost, and each part has what is its own."""

import io

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from mer.audio.mel import mel_frequencies
from mer.config.sections import MelConfig
from mer.inference.masking import as_wav, divide

RATE = 16_000
MEL = MelConfig()
ALL = MelConfig(f_min=0.0)


def blank(samples, value=0.0, config=MEL):
    return np.full((config.n_mels, 1 + samples // config.hop_length), value, np.float32)


def loudness(samples):
    return float(np.sqrt(np.mean(np.square(samples))))


@given(
    seed=st.integers(0, 2**32 - 1),
    samples=st.integers(2000, 20_000),
    rate=st.sampled_from([1000, 4000, 44_100]),
)
def test_heard_and_rest_add_up_to_the_original(seed, samples, rate):
    rng = np.random.default_rng(seed)
    sound = rng.uniform(-1, 1, samples).astype(np.float32)
    config = MelConfig(n_fft=256, hop_length=int(rng.integers(32, 600)), f_max=rate / 2, f_min=0.0)
    mask = rng.random(blank(samples, config=config).shape).astype(np.float32)
    heard, rest = divide(sound, mask, sample_rate=rate, config=config)
    assert heard.dtype == rest.dtype == np.float32
    assert heard.shape == rest.shape == sound.shape
    np.testing.assert_allclose(heard + rest, sound, atol=1e-5)


def test_the_rest_is_what_the_opposite_mask_lets_through(sound):
    wave = sound.chirp(seconds=2)
    mask = np.random.default_rng(0).random(blank(len(wave)).shape).astype(np.float32)
    heard, rest = divide(wave, mask, sample_rate=RATE, config=ALL)
    rest_again, heard_again = divide(wave, 1 - mask, sample_rate=RATE, config=ALL)
    np.testing.assert_allclose(heard, heard_again, atol=1e-5)
    np.testing.assert_allclose(rest, rest_again, atol=1e-5)


def test_a_full_mask_lets_all_through_and_an_empty_one_nothing(sound):
    wave = sound.chirp(seconds=1)
    heard, rest = divide(wave, blank(len(wave), 1), sample_rate=RATE, config=ALL)
    np.testing.assert_allclose(heard, wave, atol=1e-3)
    heard, rest = divide(wave, blank(len(wave)), sample_rate=RATE, config=ALL)
    assert not heard.any()
    np.testing.assert_allclose(rest, wave, atol=1e-5)


@pytest.mark.parametrize("scale", ["slaney", "htk"])
def test_a_mask_over_low_bands_lets_low_tones_through(sound, scale):
    low, high = sound.tone(300, 2), sound.tone(2500, 2)
    config = MEL.replace(scale=scale)
    mask = blank(len(low))
    mask[mel_frequencies(config) < 1000] = 1
    heard, rest = divide(low + high, mask, sample_rate=RATE, config=config)
    inside = slice(1000, -1000)  # the start of a tone has all frequencies
    assert loudness((heard - low)[inside]) < 0.01 * loudness(low)
    assert loudness((rest - high)[inside]) < 0.01 * loudness(high)


def test_a_mask_over_some_seconds_lets_these_through(sound):
    wave, second = sound.chirp(seconds=4), RATE
    mask = blank(len(wave))
    mask[:, RATE // MEL.hop_length : 2 * RATE // MEL.hop_length] = 1
    heard, _ = divide(wave, mask, sample_rate=RATE, config=ALL)
    slack = 1200  # a spectrum is 64 ms long
    assert not heard[: second - slack].any()
    assert not heard[2 * second + slack :].any()
    inside = slice(second + slack, 2 * second - slack)
    np.testing.assert_allclose(heard[inside], wave[inside], atol=1e-3)


def test_frequencies_outside_the_network_s_range_belong_to_the_rest(sound):
    wave = sound.tone(6000, 1)
    heard, rest = divide(wave, blank(len(wave), 1), sample_rate=RATE, config=MEL.replace(f_max=4000.0))
    assert loudness(heard[1000:-1000]) < 1e-3 * loudness(wave)
    np.testing.assert_allclose(heard + rest, wave, atol=1e-5)


def test_a_wav_file_keeps_every_sample_as_it_is():
    samples = np.array([0.1, -1.5, 2.0**-30, 0.0], np.float32)
    found, rate = soundfile.read(io.BytesIO(as_wav(samples, 4000)), dtype="float32")
    assert rate == 4000
    np.testing.assert_array_equal(found, samples)
