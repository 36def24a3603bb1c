"""Log-mel images against theory and, as an independent reference, librosa."""

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mer.audio.mel import Standardizer, as_input, images, log_mel, mel_frequencies
from mer.config.sections import AudioConfig, MelConfig

RATE = 16_000
SCALES = ["slaney", "htk"]
AUDIO = AudioConfig(window_seconds=1.0, hop_seconds=0.5)


def reference(waveform, config, *, level):
    """The same by librosa, whose mel filters are built in another way (float64, own code)."""
    power = librosa.feature.melspectrogram(
        y=waveform,
        sr=RATE,
        n_fft=config.n_fft,
        hop_length=config.hop_length,
        n_mels=config.n_mels,
        fmin=config.f_min,
        fmax=config.f_max,
        htk=config.scale == "htk",
        norm="slaney" if config.scale == "slaney" else None,
        pad_mode="reflect",
    )
    return librosa.power_to_db(power, ref=level, top_db=None)


# Log-mel


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("hertz", [110.0, 440.0, 1000.0, 2500.0, 6000.0])
def test_a_pure_tone_peaks_in_the_band_of_its_frequency(scale, hertz, sound):
    config = MelConfig(scale=scale)
    level = log_mel(sound.tone(hertz), sample_rate=RATE, config=config)
    loudest = level.mean(dim=1).argmax()
    nearest = np.abs(mel_frequencies(config) - hertz).argmin()
    assert abs(int(loudest) - int(nearest)) <= (1 if hertz >= 400 else 2)  # bands finer than the transform


@pytest.mark.parametrize("scale", SCALES)
def test_a_chirp_rises_through_the_bands(scale, sound):
    level = log_mel(sound.chirp(200, 7000), sample_rate=RATE, config=MelConfig(scale=scale))
    peaks = level.argmax(dim=0).numpy()[2:-2]
    assert (np.diff(peaks) >= 0).all()
    assert peaks[-1] - peaks[0] > 60


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("config", [{}, {"n_fft": 1024, "hop_length": 160, "n_mels": 64, "f_min": 50.0}])
def test_levels_are_those_of_librosa(scale, config, sound):
    config = MelConfig(scale=scale, **config)
    wave = sound.chirp() + sound.noise(level=0.1)
    ours = log_mel(wave, sample_rate=RATE, config=config).numpy()
    theirs = reference(wave, config, level=np.max)
    assert ours.shape == theirs.shape == (config.n_mels, 1 + 16_000 // config.hop_length)
    assert np.abs(ours - np.maximum(theirs, -80)).max() < 0.02  # dB


def test_absolute_levels_are_those_of_librosa_and_keep_loudness(sound):
    config = MelConfig(reference="absolute", top_db=80.0)
    wave = sound.noise()
    ours = log_mel(wave, sample_rate=RATE, config=config).numpy()
    assert np.abs(ours - np.maximum(reference(wave, config, level=1.0), -80)).max() < 0.02
    quiet = log_mel(0.1 * wave, sample_rate=RATE, config=config).numpy()
    assert (ours - quiet)[quiet > -79] == pytest.approx(20, abs=0.01)


def test_levels_relative_to_the_maximum_forget_loudness(sound):
    wave = sound.noise()
    loud, quiet = (log_mel(f * wave, sample_rate=RATE, config=MelConfig()) for f in (1.0, 0.01))
    assert torch.allclose(loud, quiet, atol=1e-3)


@pytest.mark.parametrize("top_db", [20.0, 80.0, 120.0])
def test_levels_lie_between_zero_and_the_range_below(top_db, sound):
    wave = np.concatenate([sound.tone(seconds=0.5), sound.silence(0.5)])
    level = log_mel(wave, sample_rate=RATE, config=MelConfig(top_db=top_db))
    assert level.max() == 0
    assert level.min() >= -top_db
    if top_db < 90:  # below, the floor of -100 dB absolute is what is reached
        assert level.min() == -top_db


@pytest.mark.parametrize("wave", ["silence", "faint"])
def test_near_silence_gives_finite_levels(wave, sound):
    samples = sound.silence() if wave == "silence" else sound.tone(level=1e-7)
    for kind in ("max", "absolute"):
        level = log_mel(samples, sample_rate=RATE, config=MelConfig(reference=kind))
        assert torch.isfinite(level).all()


def test_silence_has_the_lowest_level(sound):
    for kind in ("max", "absolute"):
        level = log_mel(sound.silence(), sample_rate=RATE, config=MelConfig(reference=kind))
        assert (level == -80).all()


def test_a_waveform_that_is_a_view_is_read_in_its_order(sound):
    wave = sound.noise()
    forwards = log_mel(wave[::-1].copy(), sample_rate=RATE, config=MelConfig())
    assert torch.equal(log_mel(wave[::-1], sample_rate=RATE, config=MelConfig()), forwards)


# Band frequencies


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("f_min", "f_max"), [(20.0, 8000.0), (0.0, 900.0), (1500.0, 7000.0)])
def test_band_frequencies_are_those_of_librosa(scale, f_min, f_max):
    config = MelConfig(scale=scale, f_min=f_min, f_max=f_max, n_mels=40)
    theirs = librosa.mel_frequencies(n_mels=42, fmin=f_min, fmax=f_max, htk=scale == "htk")[1:-1]
    assert mel_frequencies(config) == pytest.approx(theirs, rel=1e-6)


# Images


def test_each_window_has_a_square_image_in_half_precision(sound):
    made = images(sound.noise(2.3), audio=AUDIO, mel=MelConfig(image_size=64))
    assert made.dtype == np.float16
    assert made.shape == (3, 64, 64)
    assert made.max() <= 0
    assert made.min() >= -80


def test_row_zero_of_an_image_is_the_lowest_band(sound):
    mel = MelConfig(image_size=128)
    low, high = (images(sound.tone(f), audio=AUDIO, mel=mel)[0].mean(axis=1).argmax() for f in (100, 7000))
    assert low < 20
    assert high > 108


def test_columns_of_an_image_are_time(sound):
    wave = np.concatenate([sound.tone(seconds=0.5), sound.silence(0.5)])
    columns = images(wave, audio=AUDIO, mel=MelConfig(image_size=64))[0].max(axis=0)
    assert (columns[:28] > -20).all()
    assert (columns[37:] == -80).all()


def test_each_image_is_that_of_its_own_window(sound):
    wave = np.concatenate([sound.tone(300), 0.01 * sound.tone(3000)])
    audio, mel = AudioConfig(window_seconds=1.0, hop_seconds=1.0), MelConfig(image_size=64)
    both = images(wave, audio=audio, mel=mel)
    assert np.array_equal(both[0], images(wave[:RATE], audio=audio, mel=mel)[0])
    assert np.array_equal(both[1], images(wave[RATE:], audio=audio, mel=mel)[0])
    assert both[1].max() > -10  # 40 dB quieter, yet relative to its own maximum


def test_an_image_of_the_spectrogram_s_own_size_is_the_spectrogram(sound):
    mel = MelConfig(n_mels=32, hop_length=516, image_size=32)  # 1 + 16000 // 516 = 32 frames
    wave = sound.chirp()
    level = log_mel(wave, sample_rate=RATE, config=mel)
    assert images(wave, audio=AUDIO, mel=mel)[0] == pytest.approx(level.numpy(), abs=0.04)


@pytest.mark.parametrize("scale", SCALES)
def test_default_settings_leave_no_band_empty(scale, sound):
    mel = MelConfig(scale=scale)
    level = log_mel(sound.noise(), sample_rate=AudioConfig().sample_rate, config=mel)
    assert (level.amax(dim=1) > level.max() - mel.top_db).all()


# Standardising


LEVELS = hnp.arrays(np.float16, (5, 4, 4), elements=st.floats(-80, 0, width=16))


@given(LEVELS)
def test_standardised_training_images_have_zero_mean_and_unit_variance(batch):
    scaler = Standardizer.fit([batch])
    scaled = scaler(torch.from_numpy(batch)).double()
    assert scaled.dtype == torch.float64
    assert scaler.mean == pytest.approx(batch.astype(np.float64).mean(), abs=1e-9)
    if batch.astype(np.float64).std() > 0.1:
        assert float(scaled.mean()) == pytest.approx(0, abs=1e-4)
        assert float(scaled.std(correction=0)) == pytest.approx(1, abs=1e-4)


@given(LEVELS, st.integers(1, 4))
def test_statistics_do_not_depend_on_how_images_are_batched(batch, size):
    pieces = Standardizer.fit(batch[i : i + size] for i in range(0, len(batch), size))
    whole = Standardizer.fit([batch])
    assert pieces.mean == pytest.approx(whole.mean, abs=1e-9)
    assert pieces.std == pytest.approx(whole.std, abs=1e-6)


@given(st.floats(-80, 0, width=16), st.integers(1, 50))
def test_images_of_one_value_become_finite(value, count):
    batch = np.full((count, 3, 3), value, np.float16)
    scaler = Standardizer.fit([batch])
    assert scaler.std >= 1e-6
    assert torch.isfinite(scaler(torch.from_numpy(batch))).all()


def test_standardising_keeps_the_shape_and_gives_single_precision():
    scaled = Standardizer(mean=-40.0, std=20.0)(torch.tensor([[-80.0, 0.0]], dtype=torch.float16))
    assert scaled.dtype == torch.float32
    assert scaled.tolist() == [[-2.0, 2.0]]


def test_statistics_of_many_values_are_those_of_numpy():
    """Half precision sums would overflow at 65504; a million values near -40 dB sum to forty million."""
    batch = np.random.default_rng(0).normal(-40, 15, (100, 100, 100)).astype(np.float16)
    scaler = Standardizer.fit([batch])
    assert scaler.mean == pytest.approx(batch.astype(np.float64).mean(), abs=1e-6)
    assert scaler.std == pytest.approx(batch.astype(np.float64).std(), abs=1e-6)


# Network input


def test_the_three_channels_share_the_memory_of_one_image():
    batch = torch.arange(2 * 4 * 4, dtype=torch.float32).reshape(2, 4, 4)
    made = as_input(batch)
    assert made.shape == (2, 3, 4, 4)
    assert made.untyped_storage().nbytes() == batch.nbytes
    for channel in range(3):
        assert torch.equal(made[:, channel], batch)


@pytest.mark.parametrize("samples", [600, 2048, 4096, 4097])
def test_a_clip_shorter_than_half_a_fourier_transform_has_a_spectrogram(sound, samples):
    wave = sound.tone(440.0, 1.0)[:samples]
    level = log_mel(wave, sample_rate=RATE, config=MelConfig(n_fft=8192))
    assert level.shape == (128, 1 + samples // 256)
    assert level.max() == 0
    assert torch.isfinite(level).all()
