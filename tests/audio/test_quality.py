"""What is said of inputs that no prediction should be trusted on, and nothing of music."""

import re

import numpy as np
import pytest
import soxr
from scipy.signal import butter, sosfilt

from mer.audio.decode import hear, load
from mer.audio.quality import remarks
from mer.config.sections import AudioConfig
from mer.data.demo import write_demo

RATE = 16_000
NOISE = ("It sounds like noise rather than music.",)
STEADY = ("It hardly changes: a steady tone, hum or noise rather than music.",)


def coloured(exponent, seconds=5.0, *, rate=RATE, seed=0):
    """Noise whose power falls as 1 / frequency ** exponent, at -20 dBFS."""
    rng = np.random.default_rng(seed)
    hertz = np.fft.rfftfreq(round(seconds * rate), 1 / rate)
    spectrum = rng.standard_normal((len(hertz), 2)) @ (1, 1j)
    spectrum *= np.where(hertz < 20, 0, np.maximum(hertz, 20) ** (-exponent / 2))
    return level(np.fft.irfft(spectrum))


def level(wave, decibels=-20.0):
    """`wave` with that root mean square."""
    return (wave * 10 ** (decibels / 20) / np.sqrt(np.mean(wave**2))).astype(np.float32)


def crowd(seconds=5.0, seed=0):
    """The bands of many voices, each of which swells and falls."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    knots = np.arange(0, seconds + 0.25, 0.25)
    total = np.zeros(len(time))
    for low, high, gain in ((150, 500, 1), (400, 1200, 0.7), (1000, 2500, 0.4), (2000, 4000, 0.2)):
        band = butter(2, [low, high], "band", fs=RATE, output="sos")
        swell = np.abs(np.interp(time, knots, 1 + 0.5 * rng.standard_normal(len(knots))))
        total += gain * swell * sosfilt(band, rng.standard_normal(len(time)))
    return level(total)


def hum(seconds=5.0, hertz=50):
    time = np.arange(round(seconds * RATE)) / RATE
    return level(sum(np.sin(2 * np.pi * hertz * k * time + k) / k for k in range(1, 9)))


def melody(sound, *, beat=0.5, notes=8, **options):
    """One chord after another, each dying away."""
    rate = options.get("rate", RATE)
    fade = np.exp(-4 * np.arange(round(beat * rate)) / rate)
    pitches = 220 * 2 ** (np.array([0, 4, 7, 5, 9, 2, 11, 12]) / 12)
    return np.concatenate(
        [fade * sound.chord((p, 1.5 * p, 2 * p), beat, **options) for p in pitches[:notes]]
    ).astype(np.float32)


def test_a_melody_gets_no_remark(sound):
    assert remarks(melody(sound), sample_rate=RATE) == ()


def test_a_melody_over_a_little_noise_gets_no_remark(sound):
    assert remarks(melody(sound) + coloured(1, 4.0) / 5, sample_rate=RATE) == ()


def test_clips_of_the_demo_corpus_get_no_remark(tmp_path):
    write_demo(tmp_path / "demo", clips_per_class=2, workers=1)
    for path in sorted((tmp_path / "demo").rglob("*.flac")):
        assert remarks(load(path, AudioConfig()), sample_rate=RATE) == (), path


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("seconds", [2.0, 10.0])
@pytest.mark.parametrize("exponent", [0, 1, 2])
def test_white_pink_and_brown_noise_get_the_remark_not_music(exponent, seconds, seed):
    assert remarks(coloured(exponent, seconds, seed=seed), sample_rate=RATE) == NOISE


@pytest.mark.parametrize("seed", range(3))
def test_a_crowd_gets_the_remark_not_music(seed):
    assert remarks(crowd(seed=seed), sample_rate=RATE) == NOISE


def test_noise_that_swells_gets_the_remark_not_music():
    wave = coloured(0) * np.linspace(0.05, 1, 5 * RATE, dtype=np.float32)
    assert remarks(wave, sample_rate=RATE) == NOISE


@pytest.mark.parametrize("rate", [4000, 8000, 44_100])
def test_noise_is_recognised_at_any_sample_rate(rate):
    assert remarks(coloured(1, rate=rate), sample_rate=rate) == NOISE


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("hertz", [50, 60])
def test_a_hum_gets_the_remark_not_music_with_or_without_noise(hertz, share):
    assert remarks(hum(hertz=hertz) + share * coloured(1), sample_rate=RATE) == STEADY


def test_a_long_tone_gets_the_remark_not_music_and_a_short_one_does_not(sound):
    assert remarks(sound.tone(440, 3.0), sample_rate=RATE) == STEADY
    assert remarks(sound.tone(440, 1.5), sample_rate=RATE) == ()


def test_a_clip_of_less_than_a_second_is_too_short(sound):
    assert remarks(melody(sound)[: RATE // 2], sample_rate=RATE) == (
        "It is 0.5 s long, too short to tell music by.",
    )
    assert remarks(np.zeros(0, np.float32), sample_rate=RATE) == (
        "It is 0.0 s long, too short to tell music by.",
    )


def test_the_share_of_silence_is_remarked(sound):
    wave = np.zeros(20 * RATE, np.float32)
    wave[: 2 * RATE] = melody(sound, notes=4)
    assert remarks(wave, sample_rate=RATE) == ("90% of it is silence.",)
    assert remarks(wave[: 5 * RATE // 2], sample_rate=RATE) == ()


def test_silence_before_and_after_the_music_is_said_with_its_length(sound):
    wave = np.concatenate([np.zeros(3 * RATE), melody(sound), np.zeros(2 * RATE)]).astype(np.float32)
    assert remarks(wave, sample_rate=RATE) == (
        "56% of it is silence, of which 3.0 s at the start and 2.0 s at the end.",
    )


def test_a_pause_between_two_parts_is_said(sound):
    wave = np.concatenate([melody(sound), np.zeros(4 * RATE), melody(sound)]).astype(np.float32)
    found = remarks(wave, sample_rate=RATE)
    assert found == ("33% of it is silence, of which 0.0 s at the start and 0.0 s at the end.",)


def test_silence_is_known_over_a_constant_offset(sound):
    wave = np.concatenate([np.zeros(12 * RATE), melody(sound)]).astype(np.float32) + np.float32(0.005)
    assert "of which 12.0 s at the start" in remarks(wave, sample_rate=RATE)[0]


def test_silence_is_remarked_as_silent_and_quiet():
    found = remarks(np.zeros(3 * RATE, np.float32), sample_rate=RATE)
    assert found == ("100% of it is silence.", "It is very quiet: its peak is -200 dBFS.")


def test_the_peak_of_a_very_quiet_clip_is_remarked(sound):
    assert remarks(melody(sound, level=0.008), sample_rate=RATE) == (
        "It is very quiet: its peak is -43 dBFS.",
    )
    assert remarks(melody(sound, level=0.05), sample_rate=RATE) == ()


def test_the_share_of_clipped_samples_is_remarked(sound):
    wave = melody(sound, level=1.0)
    assert remarks(wave, sample_rate=RATE) == ()
    for level in (1.0, 0.6):  # a recorder may clip below full scale
        (found,) = remarks(level * np.clip(8 * wave, -1, 1), sample_rate=RATE)
        assert re.fullmatch(r"It is clipped: \d\d% of its samples are stuck at one level\.", found)


def test_what_is_loud_but_not_cut_off_is_not_clipped(sound):
    """Float files may exceed full scale, and a loud tone spends much time near its peak."""
    assert remarks(3 * melody(sound, level=1.0), sample_rate=RATE) == ()
    slow = np.round(0.9 * 32_767 * sound.tone(60, 1.5, level=1.0)) / 32_768
    assert remarks(slow.astype(np.float32), sample_rate=RATE) == ()


def test_clipping_is_found_at_the_rate_of_the_file(sound, write_audio, tmp_path):
    """Resampling would round its corners."""
    rng = np.random.default_rng(0)
    wave = np.clip(8 * melody(sound, level=1.0, rate=44_100) + 0.01 * rng.standard_normal(176_400), -1, 1)
    path = write_audio(tmp_path / "clip.wav", wave, rate=44_100, subtype="PCM_16")
    assert any(found.startswith("It is clipped") for found in hear(path, AudioConfig()).remarks)


def test_a_constant_offset_is_said_where_it_is_strong(sound):
    wave = melody(sound)
    assert remarks(wave + np.float32(0.2), sample_rate=RATE) == (
        "It has a constant part (DC) of 0.20, where 1 is full scale.",
    )
    assert remarks(wave + np.float32(0.01), sample_rate=RATE) == ()


def test_the_sound_of_a_telephone_is_said(sound, write_audio, tmp_path):
    rich = melody(sound) + coloured(1, 4.0) / 3
    narrow = soxr.resample(soxr.resample(rich, RATE, 8000), 8000, RATE)
    assert remarks(rich, sample_rate=RATE) == ()
    assert remarks(narrow, sample_rate=RATE) == ("It has no sound above 4 kHz, as over a telephone.",)
    path = write_audio(tmp_path / "clip.wav", soxr.resample(rich, RATE, 8000), rate=8000)
    assert hear(path, AudioConfig()).remarks == ("It has no sound above 4 kHz, as over a telephone.",)
    assert hear(path, AudioConfig(sample_rate=8000)).remarks == ()  # this network uses no more


def test_a_low_voice_alone_is_no_telephone(sound):
    assert remarks(melody(sound, level=0.4), sample_rate=RATE) == ()
    soft = sosfilt(butter(2, 1500, fs=RATE, output="sos"), melody(sound) + coloured(2, 4.0) / 5)
    assert remarks(soft.astype(np.float32), sample_rate=RATE) == ()


def test_the_remarks_on_an_hour_of_sound_take_a_moment(sound):
    wave = np.resize(melody(sound), 3600 * RATE)
    assert remarks(wave, sample_rate=RATE) == ()
