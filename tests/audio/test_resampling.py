"""Resampling is right, silent above what the target rate can hold, the same everywhere, and never large."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from math import ceil, gcd
from pathlib import Path

import numpy as np
import pytest
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st

from mer.audio import resampling
from mer.audio.resampling import resample
from mer.config.sections import AudioConfig
from tests.conftest import noise, tone

ROOT = Path(__file__).parents[2]
SOXR, SINC = AudioConfig(), AudioConfig(resampler="sinc")
WAYS = pytest.mark.parametrize("audio", [SOXR, SINC], ids=lambda audio: audio.resampler)
USUAL = [8000, 11_025, 22_050, 24_000, 32_000, 44_056, 44_100, 47_000, 48_000, 96_000, 192_000]
ODD = [1000, 1001, 8001, 15_999, 22_051, 44_101, 767_999]  # what they share with 16,000 is small


def db(ratio):
    return 20 * np.log10(ratio + 1e-12)


def level(wave):
    return float(np.sqrt(np.mean(np.square(wave[800:-800], dtype=float))))


def glide(top, rate, seconds=2.0):
    """A sine that glides from 50 Hz to `top`: the same sound at any rate."""
    time = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * (50 * time + (top - 50) / (2 * seconds) * time**2))).astype(np.float32)


@WAYS
def test_the_same_rate_changes_no_sample(audio):
    wave = noise()
    assert resample(wave, rate=16_000, audio=audio) is wave


# What is heard


@pytest.mark.parametrize("rate", [*USUAL, 8001, 22_051, 44_101])
@pytest.mark.parametrize(("audio", "least"), [(SOXR, 70), (SINC, 28)], ids=["soxr", "sinc"])
def test_a_resampled_chirp_equals_a_chirp_at_that_rate(audio, least, rate):
    top = min(6000, 0.4 * rate)
    found = resample(glide(top, rate), rate=rate, audio=audio)
    wanted = glide(top, 16_000)
    difference = found[: len(wanted)] - wanted
    assert db(level(wanted) / level(difference)) > least


@pytest.mark.parametrize("rate", [22_050, 44_100, 44_101, 48_000])
@pytest.mark.parametrize("hertz", [8200, 9000, 10_000])
def test_frequencies_above_half_the_target_rate_do_not_alias(hertz, rate):
    wave = tone(hertz, 2.0, rate=rate)
    assert db(level(resample(wave, rate=rate, audio=SOXR)) / level(wave)) < -100
    assert db(level(resample(wave, rate=rate, audio=SINC)) / level(wave)) < (-5 if hertz < 10_000 else -40)


@pytest.mark.parametrize(
    ("rate", "target"),
    [
        *((rate, 16_000) for rate in USUAL),
        (44_100, 22_050),
        (48_000, 22_050),
        (16_000, 12_000),
        (16_000, 48_000),
    ],
)
@pytest.mark.promise(
    "Older runs get the same samples and features as before.", measured="to 1e-6 of full scale"
)
def test_sinc_equals_torchaudio(rate, target):
    assert difference_from_torchaudio(rate, target, (8000, 12_345, 50_007)) < 1e-6


@pytest.mark.parametrize(("rate", "target"), [(4001, 4000), (4000, 4001), (5003, 4000), (1009, 4000)])
def test_sinc_equals_torchaudio_at_odd_rates(rate, target):
    assert difference_from_torchaudio(rate, target, (round(0.7 * rate),)) < 1e-6


def difference_from_torchaudio(rate, target, lengths):
    """Largest difference of a sample, over waveforms of several lengths, given in samples."""
    theirs, largest = torchaudio.transforms.Resample(rate, target), 0.0  # its filter takes long to make
    for samples in lengths:
        wave = noise(samples / rate, rate=rate)
        expected = theirs(torch.from_numpy(wave)).numpy()
        found = resample(wave, rate=rate, audio=SINC.replace(sample_rate=target))
        assert found.shape == expected.shape
        largest = max(largest, float(np.abs(found - expected).max()))
    return largest


@WAYS
@settings(max_examples=15)
@given(rate=st.integers(1000, 50_000), target=st.integers(4000, 8000), seconds=st.floats(0.5, 0.6))
def test_any_rate_gives_as_many_samples_as_it_should_and_the_same_tone(audio, rate, target, seconds):
    hertz = 0.3 * min(rate, target)
    wave = tone(hertz, seconds, rate=rate)
    found = resample(wave, rate=rate, audio=audio.replace(sample_rate=target))
    assert abs(len(found) - len(wave) * target / rate) <= 1
    assert (found.dtype, found.ndim) == (np.float32, 1)
    wanted, middle = tone(hertz, seconds, rate=target), slice(len(found) // 5, -len(found) // 5)
    count = min(len(found), len(wanted))
    assert np.abs(found[:count] - wanted[:count])[middle].max() < 0.05 * np.abs(wanted).max()


# The same everywhere


@WAYS
@pytest.mark.parametrize("rate", [8000, 44_100, 44_101, 48_000])
def test_the_number_of_threads_changes_no_bit(audio, rate):
    wave = noise(1.0, rate=rate)
    alone = resample(wave, rate=rate, audio=audio)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        assert np.array_equal(resample(wave, rate=rate, audio=audio), alone)
    finally:
        torch.set_num_threads(threads)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: resample(wave, rate=rate, audio=audio), range(8)):
            assert np.array_equal(found, alone)


@pytest.mark.parametrize("rate", [8000, 44_100, 44_101, 48_000])
def test_sinc_in_blocks_equals_sinc_in_one_piece(rate, monkeypatch):
    wave = noise(1.5, rate=rate)
    whole = resample(wave, rate=rate, audio=SINC)
    monkeypatch.setattr(resampling, "AT_ONCE", 20_000)
    assert np.abs(resample(wave, rate=rate, audio=SINC) - whole).max() < 1e-6


# Never large

MEMORY = """
import sys
import numpy as np
from mer.config.sections import AudioConfig
from mer.audio.resampling import resample
from tests.memory import peak
ways = [AudioConfig(resampler=way) for way in ("soxr", "sinc")]
for audio in ways:
    resample(np.zeros(8000, np.float32), rate=8000, audio=audio)
before = peak()
for audio in ways:
    for rate in map(int, sys.argv[1:]):
        resample(np.zeros(rate // 2, np.float32), rate=rate, audio=audio)
print(peak() - before)
"""


@pytest.mark.promise(
    "No sample rate takes much memory or time.", measured="see [below](#broken-and-hostile-audio)"
)
def test_memory_is_bounded_for_every_rate():
    """Before, half a second at 8001 Hz took 4 GB."""
    command = [sys.executable, "-c", MEMORY, *map(str, ODD)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    assert float(done.stdout) < 60


@given(rate=st.integers(1000, 768_000), target=st.integers(4000, 48_000))
@settings(max_examples=50)
def test_cached_filters_are_small_for_every_pair_of_rates(rate, target):
    step, phases = rate // gcd(rate, target), target // gcd(rate, target)
    numbers = 0
    for number, (_, taps) in enumerate(resampling._bands(step, phases)):
        numbers = max(numbers, taps.numel())
        if number == 3:
            break
    reach = resampling._reach(step, phases)
    assert numbers <= resampling.ROWS * (2 * ceil(reach) + ceil(resampling.ROWS * step / phases) + 2)
    assert numbers < 2**18


LONG = """
import sys
import time
import numpy as np
from mer.config.sections import AudioConfig
from mer.audio.resampling import resample
from tests.memory import peak
way, rate, target, samples = sys.argv[1], *map(int, sys.argv[2:])
audio = AudioConfig(resampler=way, sample_rate=target)
wave = np.full(samples, 0.1, np.float32)
before, began = peak(), time.perf_counter()
made = resample(wave, rate=rate, audio=audio)
print((peak() - before) * 2**20 / (wave.nbytes + made.nbytes), time.perf_counter() - began)
"""


@pytest.mark.slow
@WAYS
@pytest.mark.parametrize(
    ("rate", "target", "samples"),
    [(44_101, 16_000, 3600 * 44_101), (767_999, 16_000, 2**28), (1001, 48_000, 3600 * 1001)],
    ids=["an hour", "as many samples as there may be", "the lowest rate to the highest"],
)
def test_resampling_the_longest_recording_takes_little_more_memory_than_its_samples(
    rate, target, samples, audio
):
    command = [sys.executable, "-c", LONG, audio.resampler, str(rate), str(target), str(samples)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    more, seconds = map(float, done.stdout.split())
    assert more < 2
    assert seconds < 120
