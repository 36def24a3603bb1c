"""Files whose header does not say how much sound they hold: all is heard, and what is missing is said."""

import io
import re
import struct

import av
import numpy as np
import pytest
import soundfile

from mer.audio.chunks import sound_chunk
from mer.audio.decode import beginning, decode
from mer.audio.formats import Kind
from mer.utils.errors import AudioError
from tests.media import CONTAINERS, encode

RATE = 16_000
UNSEEKABLE = (
    ("WAV", "GSM610"),
    ("WAV", "NMS_ADPCM_16"),
    ("WAV", "NMS_ADPCM_24"),
    ("WAV", "NMS_ADPCM_32"),
    ("WAV", "G721_32"),
    ("AU", "G721_32"),
    ("AU", "G723_24"),
    ("AU", "G723_40"),
    ("AIFF", "GSM610"),
    ("W64", "GSM610"),
)
PLAIN = (
    ("WAV", "PCM_16"),
    ("WAV", "PCM_24"),
    ("WAV", "FLOAT"),
    ("WAV", "IMA_ADPCM"),
    ("WAVEX", "PCM_16"),
    ("RF64", "PCM_16"),
    ("AIFF", "PCM_16"),
    ("AU", "PCM_16"),
    ("CAF", "PCM_16"),
)
BY_LIBSNDFILE = (
    *PLAIN,
    ("WAV", "GSM610"),
    ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", ""),
)


def written(samples, kind=("WAV", "PCM_16"), rate=RATE):
    """A file by libsndfile."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind[0], subtype=kind[1] or None)
    return file.getvalue()


def muxed(samples, muxer, codec, rate=RATE, *, bits=0, sink=None, **options):
    """A file by FFmpeg with options of its muxer or encoder; it may be written at the path `sink`."""
    sink = sink or io.BytesIO()
    with av.open(
        sink if isinstance(sink, io.BytesIO) else str(sink), "w", format=muxer, options=options
    ) as container:
        stream = container.add_stream(codec, rate=rate, layout="mono", options=options)
        if bits:
            stream.bit_rate = bits
        frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), "flt", "mono")
        frame.sample_rate = rate
        stream.codec_context.open()
        size = stream.codec_context.frame_size or None
        resampler = av.AudioResampler(stream.codec_context.format, "mono", rate, size)
        for part in (*resampler.resample(frame), *resampler.resample(None), None):
            container.mux(stream.encode(part))
    return sink.getvalue() if isinstance(sink, io.BytesIO) else sink.read_bytes()


def mp3(samples, **options):
    return muxed(samples, "mp3", "libmp3lame", id3v2_version="0", **options)


def unindexed(samples, quality="4"):
    """An MP3 of variable bit rate that does not say how many frames it has."""
    return mp3(samples, write_xing="0", global_quality=str(118 * int(quality)), flags="+qscale")


def changing(sound, seconds=10.0):
    """A second near silence, which costs few bits, then noise, which costs many."""
    wave = sound.noise(seconds)
    wave[:RATE] *= 1e-4
    return wave


# All the sound is heard


@pytest.mark.promise("The samples of a file count, not what its header says of them.")
def test_an_mp3_of_variable_rate_without_an_index_is_heard_to_its_end(sound, tmp_path):
    wave = changing(sound)
    (path := tmp_path / "a.mp3").write_bytes(unindexed(wave))
    guess = soundfile.info(path).duration
    assert not 9.5 < guess < 10.5
    for source in (path, path.read_bytes()):
        clip = decode(source)
        assert clip.seconds == pytest.approx(10.0, abs=0.15)
        assert clip.remarks == ()


@pytest.mark.parametrize("xing", ["0", "1"])
def test_two_mp3_files_joined_are_heard_as_one(xing, sound):
    parts = [mp3(sound.tone(hertz, 3.0), write_xing=xing, b="64k") for hertz in (300, 1200)]
    clip = decode(b"".join(parts))
    assert clip.seconds == pytest.approx(6.0, abs=0.2)
    assert clip.remarks == ()


@pytest.mark.parametrize("kind", [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS")], ids="-".join)
def test_two_streams_joined_are_heard_as_one(kind, sound):
    clip = decode(written(sound.noise(3.0), kind) + written(sound.noise(2.0, seed=1), kind))
    assert clip.seconds == pytest.approx(5.0, abs=0.1)
    assert clip.remarks == ()


def test_a_single_stream_is_not_taken_for_two(sound):
    clip = decode(written(sound.noise(3.0), ("OGG", "VORBIS")))
    assert clip.seconds == pytest.approx(3.0, abs=0.1)
    assert not clip.fresh


@pytest.mark.promise("The samples of a file count, not what its header says of them.")
def test_flac_from_a_pipe_which_states_no_length_is_heard(sound):
    content = bytearray(written(sound.chirp(seconds=3.0), ("FLAC", "PCM_16")))
    place = content.index(b"fLaC") + 8
    whole = decode(bytes(content)).waveform
    content[place + 13] &= 0xF0  # 36 bits: the number of samples
    content[place + 14 : place + 18] = bytes(4)
    clip = decode(bytes(content))
    assert np.array_equal(clip.waveform, whole)
    assert clip.remarks == ()
    assert decode(beginning(bytes(content), 1.0)).seconds == 1.0


@pytest.mark.parametrize("kind", UNSEEKABLE, ids="-".join)
def test_codecs_in_which_nothing_can_be_sought_are_heard(kind, sound, tmp_path):
    wave = sound.tone(500, 3.0, rate=8000)
    (path := tmp_path / "clip").write_bytes(written(wave, kind, rate=8000))
    clip = decode(path)
    assert clip.seconds == pytest.approx(3.0, abs=0.05)
    assert np.corrcoef(clip.waveform[: len(wave)], wave)[0, 1] > 0.95
    assert clip.remarks == ()
    assert np.array_equal(decode(path.read_bytes()).waveform, clip.waveform)


@pytest.mark.promise("The samples of a file count, not what its header says of them.")
@pytest.mark.parametrize("size", ["zero", "early", "unknown"])
@pytest.mark.parametrize("kind", PLAIN, ids="-".join)
def test_a_size_that_a_killed_recorder_left_does_not_hide_the_samples(kind, size, sound):
    content = written(sound.noise(3.0), kind)
    whole = decode(content).waveform
    name = "WAV" if kind[0] in ("WAVEX", "RF64") else kind[0]
    chunk = sound_chunk(io.BytesIO(content), Kind(name))
    width, order = len(chunk.field), "little" if name == "WAV" else "big"
    field = {"zero": 0, "early": chunk.size // 5 // 1024 * 1024}.get(size)
    field = chunk.field if field is None else field.to_bytes(width, order)
    content = content[: chunk.place] + field + content[chunk.place + width :]
    clip = decode(content)
    assert clip.seconds == pytest.approx(3.0, abs=0.1)
    assert np.array_equal(clip.waveform[: len(whole)], whole)
    assert clip.remarks == ()
    assert decode(beginning(content, 1.0)).seconds == pytest.approx(1.0)


@pytest.mark.parametrize(
    "behind",
    [
        b"LIST" + struct.pack("<I", 9000) + b"x" * 9000,
        b"ID3\4\0\0" + bytes(9000),
        b"TAG" + b"x" * 125,
        bytes(9000),
    ],
    ids=["a chunk", "ID3v2", "ID3v1", "zeros"],
)
def test_what_other_programs_put_behind_the_samples_is_not_heard(behind, sound):
    content = written(sound.noise(3.0))
    clip = decode(content + behind)
    assert clip.seconds == 3.0
    assert not clip.fresh


def test_a_header_without_samples_is_still_empty():
    with pytest.raises(AudioError, match="empty, 0 samples"):
        decode(written(np.zeros(0)))


@pytest.mark.parametrize("behind", [b"TAG" + b"x" * 125, b"\0" * 20_000, b"x" * 20_000])
def test_what_follows_an_mp3_changes_nothing(behind, sound):
    content = mp3(sound.noise(3.0))
    plain, clip = decode(content), decode(content + behind)
    assert np.array_equal(clip.waveform, plain.waveform)
    assert not clip.fresh


# A file that is cut says so


@pytest.mark.promise(
    "A file that is cut is judged by what is there, with a remark, or refused.",
    measured="a cut between two frames of a stream may go unnoticed",
)
@pytest.mark.parametrize("share", [0.3, 0.87])
@pytest.mark.parametrize("kind", BY_LIBSNDFILE, ids="-".join)
def test_a_cut_file_of_libsndfile_is_judged_with_a_remark(kind, share, sound):
    content = written(sound.noise(10.0), kind)
    whole, clip = decode(content), decode(content[: int(share * len(content))])
    assert whole.remarks == ()
    assert_cut(clip, share)


def assert_cut(clip, share, *, tolerance=0.15):
    """A remark says that it is cut, with the seconds that were read, and the whole length if it is known."""
    assert clip.seconds == pytest.approx(10 * share, abs=10 * tolerance)
    (remark,) = clip.remarks
    found = re.fullmatch(
        r"It is cut: (?:(\d+\.\d) of its (\d+\.\d) s can be read|it breaks off after (\d+\.\d) s)\.", remark
    )
    assert found, remark
    read, whole, after = found.groups()
    assert float(read or after) == pytest.approx(clip.seconds, abs=0.06)
    assert whole is None or float(whole) == pytest.approx(10.0, abs=0.5)


SEALED = {"mov", "caf", "3gp"}  # their index is at the end, without which nothing can be read


@pytest.mark.promise("A file that is cut is judged by what is there, with a remark, or refused.")
@pytest.mark.parametrize("share", [0.3, 0.87])
@pytest.mark.parametrize("kind", CONTAINERS, ids=lambda one: f"{one.suffix}-{one.codec}")
def test_a_cut_file_of_any_container_is_judged_with_a_remark_or_refused(kind, share, sound):
    content = encode(sound.noise(10.0), RATE, kind)
    assert decode(content).remarks == ()
    cut = content[: int(share * len(content)) // 13 * 13 + 1]  # amid a frame of AMR too
    if kind.suffix == "wv" and share < 0.5:  # its first block lasts longer
        with pytest.raises(AudioError, match=r"^clip: damaged WavPack"):
            decode(cut)
    elif kind.suffix in SEALED or kind.muxer in ("ipod", "mp4"):
        with pytest.raises(AudioError, match=r"^clip: damaged (MP4|CAF)"):
            decode(cut)
    else:
        assert_cut(decode(cut), share)


MORE = {  # muxer, encoder, options
    "m4a-faststart": ("mp4", "aac", {"movflags": "faststart"}),
    "mp4-fragments": ("mp4", "aac", {"movflags": "frag_keyframe+empty_moov"}),
    "mp3-unindexed": ("mp3", "libmp3lame", {"write_xing": "0"}),
}


@pytest.mark.promise("A file that is cut is judged by what is there, with a remark, or refused.")
@pytest.mark.parametrize("name", MORE)
def test_a_cut_stream_is_judged_with_a_remark(name, sound, tmp_path):
    muxer, codec, options = MORE[name]
    content = muxed(sound.noise(10.0), muxer, codec, sink=tmp_path / "clip", **options)
    assert decode(content).remarks == ()
    assert_cut(decode(content[: int(0.6 * len(content)) + 1]), 0.6)


def test_a_recording_of_a_browser_that_states_no_length_is_whole_or_cut(sound):
    """A cut near the end of a block is not noticed, most others are."""
    content = muxed(sound.noise(10.0, rate=48_000), "webm", "libopus", 48_000, live="1")
    assert decode(content).remarks == ()
    places = np.linspace(0.3, 0.9, 10) * len(content)
    noticed = [bool(decode(content[: int(place)]).remarks) for place in places]
    assert sum(noticed) >= 7


def test_what_is_lost_in_the_middle_is_refused_since_the_rest_is_out_of_place(sound):
    content = bytearray(written(sound.noise(10.0), ("FLAC", "PCM_16")))
    middle = len(content) // 2
    content[middle : middle + 50_000] = bytes(50_000)
    with pytest.raises(AudioError, match=r"damaged FLAC, \d\.\d of 10\.0 s can be read; fetch or export it"):
        decode(bytes(content))
