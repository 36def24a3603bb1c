"""Sound that libsndfile cannot read: every container, its limits, and files that lead elsewhere."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import av
import numpy as np
import pytest

from mer.audio.decode import beginning, decode
from mer.audio.formats import AUDIO_NAMES, AUDIO_SUFFIXES, FORMATS
from mer.utils.errors import AudioError
from tests.media import CONTAINERS, encode

M4A, WEBM, MP4 = (next(one for one in CONTAINERS if one.suffix == name) for name in ("m4a", "webm", "mp4"))
ids = [f"{one.suffix}-{one.codec}" for one in CONTAINERS]


def pitch(clip):
    """Frequency of the strongest partial, Hz."""
    spectrum = np.abs(np.fft.rfft(clip.waveform * np.hanning(len(clip.waveform))))
    return spectrum.argmax() * clip.rate / len(clip.waveform)


@pytest.mark.parametrize("kind", CONTAINERS, ids=ids)
def test_every_container_gives_the_tone_that_was_encoded(kind, sound, tmp_path):
    path = tmp_path / f"clip.{kind.suffix}"
    path.write_bytes(encode(sound.tone(1000, 2.0), 16_000, kind))
    clip = decode(path)
    assert clip.waveform.dtype == np.float32
    assert clip.waveform.ndim == 1
    assert clip.rate == kind.rate
    assert clip.seconds == pytest.approx(2.0, abs=0.2)  # padded to whole frames
    assert pitch(clip) == pytest.approx(1000, abs=3)
    assert np.abs(clip.waveform).max() == pytest.approx(0.5, rel=0.2)
    assert np.array_equal(decode(path.read_bytes()).waveform, clip.waveform)


@pytest.mark.parametrize(
    "kind", [one for one in CONTAINERS if one.suffix != "amr"], ids=lambda one: one.suffix
)
def test_channels_become_their_mean(kind, sound):
    waves = np.stack([sound.tone(500, 2.0), 0.2 * sound.tone(500, 2.0)], axis=1)
    clip = decode(encode(waves, 16_000, kind))
    assert clip.channels == 2
    assert np.abs(clip.waveform).max() == pytest.approx(0.3, rel=0.2)


def test_the_first_audio_track_of_a_video_is_decoded(sound):
    clip = decode(encode(sound.tone(1000, 2.0), 16_000, MP4, video=True))
    assert pitch(clip) == pytest.approx(1000, abs=3)


def test_a_video_without_sound_is_refused_in_one_line():
    content = encode(np.zeros(0), 16_000, MP4, video=True)
    with pytest.raises(AudioError, match=r"^clip: MP4 without sound; choose a file with a track of sound$"):
        decode(content)


@pytest.mark.parametrize("tag", [b"drms", b"enca"])
def test_protected_sound_is_refused_in_one_line(tag, sound):
    content = encode(sound.tone(), 16_000, M4A).replace(b"mp4a", tag)
    with pytest.raises(AudioError, match=r"^clip: MP4 with copy protection \(DRM\); use a copy without it$"):
        decode(content)


def test_protected_windows_media_is_refused_in_one_line(sound):
    wma = next(one for one in CONTAINERS if one.suffix == "wma")
    content = bytearray(encode(sound.tone(), 16_000, wma))
    place = content.find(bytes.fromhex("4052d1861d31d011"))  # a list of codecs, which may be missing
    assert place > 0
    content[place : place + 16] = bytes.fromhex("fbb3112223bdd211b4b700a0c955fc6e")
    with pytest.raises(AudioError, match=r"^clip: WMA with copy protection"):
        decode(bytes(content))


def test_a_codec_that_is_not_allowed_is_named(sound, monkeypatch):
    monkeypatch.setattr("mer.audio.ffmpeg.DECODERS", frozenset({"aac"}))
    with pytest.raises(
        AudioError, match=r"^clip: MP4 with sound of the codec alac; convert it to FLAC or MP3$"
    ):
        decode(encode(sound.tone(), 16_000, CONTAINERS[1]))


def test_without_the_package_the_error_says_how_to_install_it(sound, monkeypatch):
    content = encode(sound.tone(), 16_000, M4A)
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(AudioError, match=r"^clip: MP4 needs the package av; pip install av, or convert"):
        decode(content)


# Limits


@pytest.mark.parametrize("kind", CONTAINERS, ids=ids)
def test_a_clip_that_is_too_long_is_refused(kind, sound):
    content = encode(sound.tone(seconds=3.0), 16_000, kind)
    assert decode(content, max_seconds=3.2).seconds > 2.8
    with pytest.raises(AudioError, match=r"^clip: (over )?\d s long; cut it"):
        decode(content, max_seconds=2.0)


def test_padding_by_the_encoder_does_not_make_a_clip_too_long(sound):
    assert decode(encode(sound.tone(seconds=3.0), 16_000, M4A), max_seconds=3.0).seconds >= 3.0


def test_a_clip_that_is_too_short_or_silent_is_refused(sound):
    with pytest.raises(AudioError, match=r"clip: 0\.\d+ s, shorter than 0\.5 s"):
        decode(encode(sound.tone(seconds=0.2), 16_000, M4A))
    with pytest.raises(AudioError, match="clip: silent"):
        decode(encode(sound.silence(), 16_000, M4A))


def test_too_many_samples_are_refused(sound, monkeypatch):
    monkeypatch.setattr("mer.audio.ffmpeg.MAX_FRAMES", 20_000)
    with pytest.raises(AudioError, match=r"clip: over 1 s long; cut it"):
        decode(encode(sound.tone(seconds=3.0), 16_000, M4A))


def test_a_long_recording_of_a_browser_is_cut_to_its_beginning(sound):
    content = encode(sound.tone(seconds=3.0), 16_000, WEBM)
    assert decode(beginning(content, 1.0)).seconds == pytest.approx(1.0)
    assert beginning(content, 10.0) == content


def test_a_damaged_file_is_refused_by_its_format(sound):
    content = encode(sound.tone(), 16_000, M4A)
    with pytest.raises(AudioError, match=r"^clip: damaged MP4 \(.+\); fetch or export it again$"):
        decode(content[: len(content) // 3])


# Files that lead elsewhere


@pytest.fixture
def asked():
    """An address on this machine, and the requests that it gets."""
    requests = []

    class Server(BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            self.send_response(404)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/a.m4a", requests
    server.shutdown()
    server.server_close()


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{0}\n#EXT-X-ENDLIST\n",
    "m3u": "#EXTM3U\n{0}\n",
    "pls": "[playlist]\nFile1={0}\n",
    "ffconcat": "ffconcat version 1.0\nfile '{0}'\n",
    "concat": "file '{0}'\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
    "dash": '<?xml version="1.0"?>\n<MPD><Period><BaseURL>{0}</BaseURL></Period></MPD>\n',
    "asx": '<asx version="3.0"><entry><ref href="{0}"/></entry></asx>',
}


@pytest.mark.promise("A sound file never makes the program open another file or an address.")
@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("suffix", ["m4a", "m3u8", "mp3"])
def test_a_playlist_is_refused_and_no_address_is_opened(kind, suffix, sound, asked, tmp_path):
    address, requests = asked
    other = tmp_path / "other.m4a"
    other.write_bytes(encode(sound.tone(), 16_000, M4A))
    for target in (address, other, other.name, other.as_uri()):
        path = tmp_path / f"list.{suffix}"
        path.write_text(PLAYLISTS[kind].format(target))
        with pytest.raises(AudioError, match="not audio"):
            decode(path)
    assert requests == []


@pytest.mark.parametrize("padding", [b"", b"ID3\x04\0\0\0\0\0\0", b"\0" * 100])
def test_a_playlist_after_a_tag_or_zeros_is_refused_too(padding, asked):
    address, requests = asked
    with pytest.raises(AudioError, match=r"not audio|damaged"):
        decode(padding + PLAYLISTS["hls"].format(address).encode())
    assert requests == []


def test_sound_in_another_file_is_not_read(sound, tmp_path):
    """QuickTime may name the file that holds the samples, in a data reference of type `alis` or `url `."""
    mov = next(one for one in CONTAINERS if one.suffix == "mov")
    content = encode(sound.tone(), 16_000, mov)
    (tmp_path / "other.mov").write_bytes(content)
    named = content.replace(b"url \0\0\0\1", b"url \0\0\0\0")
    assert named != content
    try:
        clip = decode(named)
    except AudioError:
        return
    assert clip.seconds == pytest.approx(1.0)  # its own samples


def test_ffmpeg_may_use_one_format_and_no_protocol(sound, monkeypatch):
    seen = {}
    real = av.open

    def opened(file, **options):
        seen.update(options)
        return real(file, **options)

    content = encode(sound.tone(), 16_000, M4A)
    monkeypatch.setattr(av, "open", opened)
    decode(content)
    assert seen["format"] == seen["options"]["format_whitelist"] == "mov"
    assert seen["options"]["protocol_whitelist"] == "none"
    with pytest.raises(OSError, match="not opened"):
        seen["io_open"]("http://example.org", 0, {})


# The list


def test_the_label_is_made_from_the_list_of_suffixes():
    assert {
        ".wav",
        ".m4a",
        ".opus",
        ".webm",
        ".wma",
        ".3gp",
        ".mkv",
        ".caf",
        ".mov",
        ".aac",
        ".mp4",
    } <= AUDIO_SUFFIXES
    assert sum(map(len, FORMATS.values())) == len(AUDIO_SUFFIXES)
    for name in FORMATS:
        assert name in AUDIO_NAMES
