"""Decoding: every format, rate, depth and channel count that is promised, and every way to be unusable."""

import re

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from mer.audio import libsndfile
from mer.audio.decode import Audio, beginning, decode, load
from mer.config.sections import AudioConfig
from mer.utils.errors import AudioError

SUFFIXES = ["wav", "flac", "ogg", "mp3", "aiff", "au"]
EXACT = [  # container, subtype, largest error of a sample
    ("wav", "PCM_U8", 2**-7),
    ("wav", "PCM_16", 2**-15),
    ("wav", "PCM_24", 2**-23),
    ("wav", "PCM_32", 2**-23),
    ("wav", "FLOAT", 0),
    ("wav", "DOUBLE", 0),
    ("wav", "ULAW", 0.04),
    ("flac", "PCM_16", 2**-15),
    ("flac", "PCM_24", 2**-23),
    ("aiff", "PCM_16", 2**-15),
    ("au", "PCM_16", 2**-15),
]


def dominant(waveform, rate):
    """Frequency of the strongest partial, Hz, to the nearest bin."""
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
    return spectrum.argmax() * rate / len(waveform)


# What can be decoded


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_gives_the_tone_that_was_written(suffix, sound, write_audio, tmp_path):
    path = write_audio(tmp_path / f"clip.{suffix}", sound.tone(1000, 1.0))
    clip = decode(path)
    assert (clip.rate, clip.channels, clip.waveform.dtype, clip.waveform.ndim) == (16_000, 1, np.float32, 1)
    assert clip.seconds == pytest.approx(1.0, abs=0.1)  # MP3 pads to whole frames
    assert dominant(clip.waveform, clip.rate) == pytest.approx(1000, abs=3)
    assert np.abs(clip.waveform).max() == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_bytes_decode_to_the_same_samples_as_the_file(suffix, sound, write_audio, tmp_path):
    path = write_audio(tmp_path / f"clip.{suffix}", sound.chirp())
    assert np.array_equal(decode(path.read_bytes()).waveform, decode(path).waveform)


@pytest.mark.parametrize(("suffix", "subtype", "error"), EXACT)
def test_every_bit_depth_keeps_the_samples(suffix, subtype, error, sound, write_audio, tmp_path):
    wave = sound.noise(0.6)
    path = write_audio(tmp_path / f"clip.{suffix}", wave, subtype=subtype)
    assert np.abs(decode(path).waveform - wave).max() <= error


@pytest.mark.parametrize("name", ["LOUD.WAV", "clip.Flac", "audio.wav.bak", "no_suffix", "गीत १.wav"])
def test_the_content_decides_the_format_and_not_the_name(name, sound, write_audio, tmp_path):
    format_ = "FLAC" if name.endswith("Flac") else "WAV"
    path = write_audio(tmp_path / "clip", sound.tone(), format=format_).rename(tmp_path / name)
    assert decode(path).seconds == 1.0


def test_a_flac_file_named_wav_is_decoded(sound, write_audio, tmp_path):
    path = write_audio(tmp_path / "clip.flac", sound.tone())
    assert decode(path.rename(tmp_path / "clip.wav")).seconds == 1.0


@pytest.mark.parametrize("rate", [1000, 8000, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000])
def test_every_sample_rate_loads_at_the_rate_asked_for(rate, sound, write_audio, tmp_path):
    path = write_audio(tmp_path / "clip.wav", sound.tone(300, 1.0, rate=rate), rate=rate)
    wave = load(path, AudioConfig())
    assert decode(path).rate == rate
    assert len(wave) == 16_000
    assert wave.dtype == np.float32
    assert dominant(wave, 16_000) == pytest.approx(300, abs=2)
    assert np.abs(wave[2000:-2000]).max() == pytest.approx(0.5, rel=0.02)


@pytest.mark.parametrize("channels", range(1, 9))
def test_one_to_eight_channels_become_their_mean(channels, sound, write_audio, tmp_path):
    waves = np.stack([sound.noise(0.6, seed=n) for n in range(channels)], axis=1)
    clip = decode(write_audio(tmp_path / "clip.wav", waves, subtype="FLOAT"))
    assert clip.channels == channels
    assert clip.waveform == pytest.approx(waves.mean(axis=1), abs=1e-6)


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("kind", [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "FLOAT")])
def test_every_way_of_reading_gives_the_bits_of_the_mean_of_floats(kind, channels, sound, tmp_path):
    waves = np.stack([sound.noise(0.6, seed=n, level=0.999) for n in range(channels)], axis=1)
    soundfile.write(tmp_path / "clip", waves, 16_000, format=kind[0], subtype=kind[1])
    plain = soundfile.read(tmp_path / "clip", dtype="float32", always_2d=True)[0].mean(axis=1)
    assert np.array_equal(decode(tmp_path / "clip").waveform, plain)


@pytest.mark.parametrize("channels", [9, 16])
def test_more_than_eight_channels_are_refused(channels, sound, write_audio, tmp_path):
    waves = np.repeat(sound.noise()[:, None], channels, axis=1)
    with pytest.raises(AudioError, match=f"clip.wav: {channels} channels; use 1 to 8"):
        decode(write_audio(tmp_path / "clip.wav", waves))


@pytest.mark.parametrize("rate", [500, 999, 768_001])
def test_absurd_sample_rates_are_refused(rate, write_audio, tmp_path):
    path = write_audio(tmp_path / "clip.wav", np.full(4000, 0.5), rate=rate)
    with pytest.raises(AudioError, match=f"sample rate {rate} Hz; use one from 1000 to 768000"):
        decode(path)


# What cannot be used


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(AudioError, match=r"gone.wav: no such file; check the path"):
        decode(tmp_path / "gone.wav")


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(AudioError, match="no such file; check the path"):
        decode(tmp_path)


NOT_AUDIO = {
    "text.wav": (b"This is not sound at all, whatever the name may say.\n" * 20, "text, not audio; use WAV"),
    "song.mp3": (b"\n<!DOCTYPE html><html>", "HTML, not audio; it is a web page; fetch the sound itself"),
    "saved.mp3": (
        b"<!-- saved from -->\n<HTML>",
        "HTML, not audio; it is a web page; fetch the sound itself",
    ),
    "xhtml.ogg": (b"<?xml version='1.0'?>\n<html xmlns='x'>", "HTML, not audio; it is a web page; fetch"),
    "utf16.mp3": ("<!DOCTYPE html><html>".encode("utf-16"), "HTML, not audio; it is a web page; fetch"),
    "paper.mp3": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3", "PDF, not audio; use WAV"),
    "photo.m4a": (b"\0\0\0\x18ftypheic" + bytes(200), "an image, not audio; use WAV"),
    "scan.wav": (b"II*\0" + bytes(200), "an image, not audio; use WAV"),
    "songs.mp3": (b"songs/" + bytes(251) + b"ustar\x0000" + bytes(247), "an archive, not audio; unpack it"),
    "letter.wav": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500), "an Office document, not audio; use"),
    "notes.mp3": ("गीत नहीं".encode("utf-16"), "text, not audio; use WAV"),
    "list.m4a": (b"#EXTM3U\nsong.mp3\n", "a playlist, not audio; it only names sounds; fetch"),
    "zeros.wav": (bytes(5000), "only zero bytes, not audio; copy or fetch the file again"),
    "archive.wav": (b"PK\x03\x04" + bytes(200), "an archive, not audio; unpack it"),
    "cover.mp3": (b"\xff\xd8\xff\xe0" + bytes(200), "an image, not audio; use WAV"),
    "notes.ogg": (b"MThd" + bytes(200), "MIDI, not audio; it holds notes; render them to sound"),
    "pointer.wav": (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer, not audio; run git"),
    "headerless": (b"\x01\x02" * 16_000, "not audio that can be decoded (unknown format); use WAV, FLAC"),
}


@pytest.mark.parametrize("name", NOT_AUDIO)
def test_a_file_that_is_not_audio_is_refused_with_its_kind_and_the_remedy(name, tmp_path):
    content, message = NOT_AUDIO[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(AudioError, match=re.escape(f"{name}: {message}")):
        decode(path)
    with pytest.raises(AudioError, match=re.escape(f"clip: {message}")):
        decode(content)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "clip.wav").touch()
    with pytest.raises(AudioError, match=r"clip.wav: empty, 0 bytes; record or export it again"):
        decode(tmp_path / "clip.wav")
    with pytest.raises(AudioError, match=r"^clip: empty, 0 bytes"):
        decode(b"")


def test_a_header_without_samples_is_refused(sound, write_audio, tmp_path):
    path = write_audio(tmp_path / "clip.wav", sound.silence(0))
    assert path.stat().st_size >= 44
    with pytest.raises(AudioError, match=r"clip.wav: empty, 0 samples; record or export it again"):
        decode(path)


def test_digital_silence_is_refused(sound, write_audio, tmp_path):
    path = write_audio(tmp_path / "clip.wav", sound.silence())
    with pytest.raises(AudioError, match=r"clip.wav: silent, nothing above -80 dBFS; check the recording"):
        decode(path)


def test_silence_begins_at_80_db_below_full_scale(sound, write_audio, tmp_path):
    faint = {"subtype": "FLOAT", "rate": 16_000}
    assert decode(write_audio(tmp_path / "a.wav", sound.tone(level=1.1e-4), **faint)).seconds == 1.0
    with pytest.raises(AudioError, match="silent"):
        decode(write_audio(tmp_path / "b.wav", sound.tone(level=0.9e-4), **faint))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_sample_that_is_not_a_number_is_refused(bad, channels, sound, write_audio, tmp_path):
    waves = np.repeat(sound.tone()[:, None], channels, axis=1)
    waves[9_000, -1] = bad
    path = write_audio(tmp_path / "clip.wav", waves, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"clip.wav: NaN or infinite samples; export it again"):
        decode(path)


@pytest.mark.parametrize("peak", [1e11, 1e20, 3e38])
@pytest.mark.parametrize("channels", [1, 2])
def test_float_samples_too_large_to_be_sound_are_refused(peak, channels, sound, write_audio, tmp_path):
    """Their power would overflow to infinity, and all features of the clip become NaN."""
    waves = np.repeat(sound.tone()[:, None], channels, axis=1)
    waves[9_000] = peak
    path = write_audio(tmp_path / "clip.wav", waves, subtype="FLOAT")
    with pytest.raises(
        AudioError, match=r"clip.wav: samples up to \d.*e\+\d+, where 1 is full scale; export"
    ):
        decode(path)


def test_a_clip_of_half_a_second_is_long_enough(sound, write_audio, tmp_path):
    assert decode(write_audio(tmp_path / "a.wav", sound.tone(seconds=0.5))).seconds == 0.5
    with pytest.raises(AudioError, match=r"b.wav: 0.49 s, shorter than 0.5 s; use a longer excerpt"):
        decode(write_audio(tmp_path / "b.wav", sound.tone(seconds=0.49)))


def test_a_clip_that_is_too_long_is_refused_before_its_samples_are_read(
    sound, write_audio, tmp_path, monkeypatch
):
    path = write_audio(tmp_path / "clip.wav", sound.tone(seconds=3.0))
    assert decode(path, max_seconds=3.0).seconds == 3.0
    monkeypatch.setattr(libsndfile.soundfile.SoundFile, "read", lambda *_, **__: pytest.fail("was read"))
    with pytest.raises(AudioError, match=r"clip.wav: 3 s long; cut it to 2 s or less"):
        decode(path, max_seconds=2.0)


def test_the_longest_clip_is_an_hour_by_default(write_audio, tmp_path):
    path = write_audio(tmp_path / "clip.wav", np.zeros(1000 * 3601, np.int16), rate=1000)
    with pytest.raises(AudioError, match="3601 s long; cut it to 3600 s or less"):
        decode(path)


def test_messages_call_the_clip_by_the_name_given(tmp_path):
    with pytest.raises(AudioError, match=r"^upload 3: no such file"):
        decode(tmp_path / "x.wav", name="upload 3")
    with pytest.raises(AudioError, match=r"^upload 3: text, not audio"):
        load(b"text", AudioConfig(), name="upload 3")


def test_an_empty_name_leaves_only_the_reason_in_the_message():
    with pytest.raises(AudioError, match=r"^: text, not audio"):
        decode(b"text", name="")


# Damage


@pytest.mark.parametrize("suffix", [suffix for suffix in SUFFIXES if suffix != "flac"])
def test_a_file_cut_in_half_gives_the_half_that_is_there(suffix, sound, write_audio, tmp_path):
    content = write_audio(tmp_path / f"clip.{suffix}", sound.noise(seconds=4.0)).read_bytes()
    assert 0.8 < decode(content[: len(content) // 2]).seconds < 2.3  # a page of Ogg holds a second


def test_an_aiff_header_cut_short_is_refused_and_nothing_is_printed(
    sound, write_audio, tmp_path, monkeypatch
):
    """libsndfile then seeks to before the start, which BytesIO answers with a traceback on stderr."""
    content = write_audio(tmp_path / "clip.aiff", sound.chirp()).read_bytes()
    printed = []
    monkeypatch.setattr("sys.unraisablehook", printed.append)
    with pytest.raises(AudioError, match="damaged AIFF"):
        decode(content[:30])
    assert printed == []


@pytest.fixture(scope="module")
def contents(tmp_path_factory, sound, write_audio):
    folder = tmp_path_factory.mktemp("formats")
    wave = sound.chirp(seconds=0.8)
    return {suffix: write_audio(folder / f"clip.{suffix}", wave).read_bytes() for suffix in SUFFIXES}


@settings(max_examples=100)
@given(data=st.data())
def test_damage_of_any_kind_is_either_decoded_or_refused(contents, data):
    """Cut at any byte, then with bytes changed anywhere: an AudioError or sound, never anything else."""
    content = bytearray(contents[data.draw(st.sampled_from(SUFFIXES))])
    cut = data.draw(st.integers(0, 100) | st.integers(0, len(content)))
    content = content[:cut]
    places = st.integers(0, min(60, cut - 1)) | st.integers(0, cut - 1)
    for place, byte in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=4)) if cut else ():
        content[place] = byte
    try:
        clip = decode(bytes(content))
    except AudioError as error:
        assert str(error).startswith("clip: ")  # noqa: PT017 - either way is right
    else:
        assert np.isfinite(clip.waveform).all()
        assert clip.seconds >= 0.5


# Content hash


def test_the_content_hash_is_that_of_a_lossless_copy(sound, write_audio, tmp_path):
    wave = np.stack([sound.noise(seed=1), sound.noise(seed=2)], axis=1)
    wave = np.round(wave * 2**15).astype(np.int16)  # FLAC rounds floats in another way than WAV
    hashes = {
        decode(write_audio(tmp_path / f"clip.{suffix}", wave, subtype="PCM_16")).content_hash()
        for suffix in ("wav", "flac", "aiff", "au")
    }
    assert len(hashes) == 1


def test_the_content_hash_changes_with_a_sample_and_with_the_rate(sound):
    wave = sound.noise()
    changed = wave.copy()
    changed[100] += 2**-14
    hashes = {
        Audio(w, rate, 1).content_hash() for w, rate in [(wave, 16_000), (changed, 16_000), (wave, 8000)]
    }
    assert len(hashes) == 3


def test_the_content_hash_of_clipped_floats_is_stable(sound):
    """Beyond full scale the hash clips, as a 16-bit file would; the cast alone would be undefined."""
    loud = 1e9 * sound.tone()
    assert Audio(loud, 16_000, 1).content_hash() == Audio(np.clip(loud, -1, 1), 16_000, 1).content_hash()


# --- the beginning of a recording --------------------------------------------------------------------


def test_a_long_recording_is_cut_to_its_beginning(tmp_path, sound, write_audio):
    content = write_audio(tmp_path / "long.wav", sound.chirp(seconds=5.0)).read_bytes()
    cut = decode(beginning(content, 2.0))
    assert cut.seconds == 2.0
    np.testing.assert_array_equal(cut.waveform, decode(content).waveform[: 2 * 16_000])


def test_a_recording_that_is_short_enough_stays_as_it_is(tmp_path, sound, write_audio):
    content = write_audio(tmp_path / "short.flac", sound.tone(seconds=2.0)).read_bytes()
    assert beginning(content, 2.0) == content


@pytest.mark.parametrize("content", [b"", b"RIFF", b"no sound at all" * 99])
def test_content_that_cannot_be_decoded_is_returned_for_decode_to_refuse(content):
    assert beginning(content, 2.0) == content
