"""Channels in opposite phase: the loudest one is heard, and it is said."""

import io

import numpy as np
import pytest
import soundfile

from mer.audio import libsndfile
from mer.audio.decode import decode
from mer.audio.waveforms import as_samples
from tests.media import CONTAINERS, encode

RATE = 16_000
M4A = CONTAINERS[0]


def wav(samples, subtype="FLOAT", container="WAV"):
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format=container, subtype=subtype)
    return file.getvalue()


def remark(number):
    return (f"Its channels are in opposite phase and cancel each other; only channel {number} was used.",)


@pytest.mark.parametrize("second", [-1.0, -0.9, -0.6])
@pytest.mark.parametrize("subtype", ["FLOAT", "PCM_16", "PCM_24"])
def test_the_first_of_two_channels_is_heard(second, subtype, sound):
    wave = sound.noise(2.0)
    clip = decode(wav(np.stack([wave, second * wave], axis=1), subtype))
    assert clip.waveform == pytest.approx(wave, abs=1e-4)
    assert clip.remarks == remark(1)
    assert clip.channels == 2
    assert clip.fresh


def test_the_louder_channel_is_heard_whichever_it_is(sound):
    wave = sound.noise(2.0)
    clip = decode(wav(np.stack([-0.8 * wave, wave], axis=1)))
    assert np.array_equal(clip.waveform, wave)
    assert clip.remarks == remark(2)


def test_a_hiss_that_the_channels_do_not_share_is_not_all_that_is_heard(sound):
    wave, hiss = sound.noise(2.0), 0.02 * np.stack([sound.noise(2.0, seed=n) for n in (1, 2)], axis=1)
    assert decode(wav(np.stack([wave, -wave], axis=1) + hiss)).remarks == remark(1)


@pytest.mark.parametrize("step", [5, 8])
def test_what_only_some_samples_suggest_is_checked_on_all(step):
    """Some thousand frames are looked at first; there each tone has one phase, opposite to the other's."""
    time, hertz = np.arange(step * 4096 - 1) / RATE, RATE / step
    waves = np.stack([np.cos(2 * np.pi * hertz * time), -np.cos(2 * np.pi * 2 * hertz * time)], axis=1)
    assert decode(wav(0.3 * waves)).remarks == ()


@pytest.mark.parametrize(
    "waves",
    [
        lambda wave, other: (wave, other),
        lambda wave, other: (wave, 0 * wave),
        lambda wave, other: (wave, other - 0.5 * wave),
        lambda wave, other: (wave, other, 0 * wave, other, 0 * wave, wave),
    ],
    ids=["unrelated", "one alone", "wide", "six"],
)
def test_other_channels_are_averaged(waves, sound):
    waves = np.stack(waves(sound.noise(2.0), sound.noise(2.0, seed=1)), axis=1)
    clip = decode(wav(waves))
    assert clip.waveform == pytest.approx(waves.mean(axis=1), abs=1e-6)
    assert clip.remarks == ()
    assert not clip.fresh


def test_a_long_file_read_in_blocks_is_heard_alike(sound, monkeypatch):
    waves = np.stack([sound.noise(2.0), -sound.noise(2.0)], axis=1)
    content = wav(waves, "PCM_16")
    whole = decode(content)
    monkeypatch.setattr(libsndfile, "AT_ONCE", 4096)
    parts = decode(content)
    assert np.array_equal(parts.waveform, whole.waveform)
    assert parts.remarks == whole.remarks == remark(1)


def test_what_ffmpeg_reads_is_heard_alike(sound):
    wave = sound.chirp(seconds=2.0)
    clip = decode(encode(np.stack([wave, -wave], axis=1), RATE, M4A))
    assert np.abs(clip.waveform).max() == pytest.approx(0.5, rel=0.2)
    assert clip.remarks == remark(1)


def test_samples_in_memory_are_heard_as_those_of_a_file(sound):
    waves = np.stack([sound.noise(2.0), -0.9 * sound.noise(2.0)], axis=1)
    assert np.array_equal(as_samples(waves), decode(wav(waves)).waveform)
    assert np.array_equal(as_samples(waves.T), decode(wav(waves)).waveform)


def test_silence_in_all_channels_is_silence_and_no_phase():
    assert np.array_equal(as_samples(np.zeros((100, 2), np.float32)), np.zeros(100, np.float32))
