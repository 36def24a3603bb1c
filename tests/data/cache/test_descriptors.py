"""Statistics of a clip's sound say what they are meant to say, and are worked out once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mer.config.sections import AudioConfig
from mer.data.cache import descriptors as module
from mer.data.cache.descriptors import SIZE, count_onsets, describe, descriptors
from mer.data.cache.store import FeatureStore
from mer.utils.errors import AudioError
from tests.conftest import chord, noise, silence, tone

RATE = 22_050
AUDIO = AudioConfig()
MEL, MFCC, CHROMA = slice(0, 40), slice(40, 60), slice(100, 112)  # of the means over time


@pytest.mark.parametrize(
    "wave", [silence(0.5, rate=RATE), np.ones(RATE, np.float32), noise(0.5, rate=RATE, level=1e-6)]
)
def test_near_silence_has_finite_descriptors(wave):
    found = descriptors(wave)
    assert (found.shape, found.dtype) == ((SIZE,), np.float32)
    assert np.isfinite(found).all()


@settings(max_examples=10)
@given(st.floats(0.5, 1.5), st.floats(30, 11_000), st.floats(1e-3, 1))
def test_any_tone_has_finite_descriptors(seconds, hertz, level):
    assert np.isfinite(descriptors(tone(hertz, seconds, rate=RATE, level=level))).all()


def test_the_chroma_of_an_a_is_an_a():
    names = ["C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B"]
    assert names[descriptors(tone(440, rate=RATE))[CHROMA].argmax()] == "A"


def test_twice_as_loud_is_6_db_more_in_each_band_and_the_same_chroma_and_timbre():
    wave = chord(rate=RATE) + noise(rate=RATE, level=0.1)
    quiet, loud = descriptors(wave / 2), descriptors(wave)
    assert loud[MEL] - quiet[MEL] == pytest.approx(np.full(40, 6.02), abs=0.05)
    assert loud[CHROMA] == pytest.approx(quiet[CHROMA], abs=1e-4)
    assert loud[MFCC][1:] == pytest.approx(quiet[MFCC][1:], abs=0.05)


@pytest.mark.parametrize(("beats", "octaves"), [(90, np.log2(1.5)), (120, 1.0)])
def test_a_click_each_beat_is_an_onset_and_gives_the_tempo(beats, octaves):
    wave = silence(10, rate=RATE)
    for start in np.arange(0.2, 9.9, 60 / beats):
        first = round(start * RATE)
        wave[first : first + 400] = noise(400 / RATE, rate=RATE)
    onsets, tempo = descriptors(wave)[-2:]
    assert tempo == pytest.approx(octaves, abs=0.06)
    assert onsets == pytest.approx(beats / 60, abs=0.11)


@pytest.mark.parametrize(
    ("strength", "onsets"),
    [
        ([0, 0, 0, 0], 0),
        ([0, 0, 9, 0, 0], 1),
        ([9, 0, 0, 0, 0], 1),  # the first frame has none before it
        ([0, 0, 9, 9, 0, 0], 1),  # the second is next to the first
        ([0, 0, 9, 0, 9, 0, 0], 2),
        ([0, 0, 9, 8, 0, 0], 1),  # falling already
        ([5, 5, 5.1, 5, 5], 1),  # the scale is that of the clip
        ([0, 9, 9.2, 8.8, 9.3, 9, 9, 9, 9], 2),  # the highest of three in a row may be passed over
        (np.arange(9.0), 2),  # a slope is not above what is around it, but for its end
    ],
)
def test_an_onset_rises_above_its_surroundings(strength, onsets):
    assert count_onsets(np.asarray(strength, np.float32)) == onsets


@pytest.fixture
def clips(tmp_path, sound, write_audio):
    files = [write_audio(tmp_path / f"{n}.wav", sound.noise(0.6, seed=n)) for n in range(3)]
    facts = FeatureStore(tmp_path / "store").facts(files)
    return list(zip(files, [fact.file_hash for fact in facts], strict=True))


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "store")


def test_descriptors_come_in_the_order_of_the_clips(store, clips):
    found = describe(store, clips, audio=AUDIO)
    assert found.shape == (3, SIZE)
    assert (describe(store, clips[::-1], audio=AUDIO) == found[::-1]).all()


def test_stored_descriptors_are_not_computed_again(store, clips, monkeypatch):
    found = describe(store, clips, audio=AUDIO)
    monkeypatch.setattr(module, "descriptors", None)
    assert (describe(store, clips, audio=AUDIO) == found).all()


def test_a_damaged_entry_is_computed_again(store, clips):
    found = describe(store, clips, audio=AUDIO)
    (entry,) = store.root.glob(f"descriptors/*/??/{clips[1][1]}.npy")
    whole = entry.read_bytes()
    entry.write_bytes(whole[:-9] + b"\x00" * 9)
    assert (describe(store, clips, audio=AUDIO) == found).all()
    assert entry.read_bytes() == whole


def test_a_clip_that_is_gone_is_named(store, clips):
    clips[2][0].unlink()
    with pytest.raises(AudioError, match=r"2\.wav: no such file"):
        describe(store, clips, audio=AUDIO)


def test_descriptors_use_the_resampler_of_the_run(store, clips):
    older = AudioConfig(resampler="sinc")
    found, before = (describe(store, clips, audio=audio) for audio in (AUDIO, older))
    assert (found != before).any()
    assert (describe(store, clips, audio=older) == before).all()
    assert module.settings(older) == {"version": 2, "descriptors": 1}, "found where they were always kept"
