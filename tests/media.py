"""Sound in the containers of phones, browsers and messengers, encoded by the FFmpeg in PyAV's wheel."""

import io
from typing import NamedTuple

import av
import numpy as np

__all__ = ["CONTAINERS", "Container", "encode"]


class Container(NamedTuple):
    """Suffix, FFmpeg's muxer and encoder, sample rate in Hz, and bit rate in bit/s if one is needed."""

    suffix: str
    muxer: str
    codec: str
    rate: int = 16_000
    bits: int = 0


CONTAINERS = (
    Container("m4a", "ipod", "aac"),
    Container("m4a", "ipod", "alac"),
    Container("aac", "adts", "aac"),
    Container("mp4", "mp4", "aac"),
    Container("mov", "mov", "pcm_s16le"),
    Container("3gp", "3gp", "aac"),
    Container("webm", "webm", "libopus", 48_000),
    Container("opus", "opus", "libopus", 48_000),
    Container("mkv", "matroska", "aac"),
    Container("mka", "matroska", "libmp3lame"),
    Container("wma", "asf", "wmav2", 44_100, 96_000),
    Container("caf", "caf", "alac"),
    Container("amr", "amr", "libopencore_amrnb", 8000),
    Container("avi", "avi", "libmp3lame"),
    Container("mp2", "mp2", "mp2"),
    Container("mpg", "mpeg", "mp2"),
    Container("ac3", "ac3", "ac3", 48_000),
    Container("wv", "wv", "wavpack"),
)


def encode(samples: np.ndarray, rate: int, kind: Container, *, video: bool = False) -> bytes:
    """A file with samples in [-1, 1], (frames,) or (frames, channels), and with `video` also a black picture.

    With no samples there is no stream of sound.
    """
    samples = np.asarray(samples, np.float32)
    samples = samples[:, None] if samples.ndim == 1 else samples
    sink = io.BytesIO()
    with av.open(sink, "w", format=kind.muxer) as container:
        shown = container.add_stream("mpeg4", rate=5) if video else None
        layout = "mono" if samples.shape[1] == 1 else "stereo"
        heard = container.add_stream(kind.codec, rate=kind.rate, layout=layout) if samples.size else None
        if shown:
            shown.width, shown.height, shown.pix_fmt = 64, 64, "yuv420p"
            picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24")
            for one in (*[picture] * 5, None):
                container.mux(shown.encode(one))
        if heard:
            if kind.bits:
                heard.bit_rate = kind.bits
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.reshape(1, -1)), "flt", layout)
            frame.sample_rate = rate
            resampler = av.AudioResampler(heard.codec_context.format, layout, kind.rate)
            parts = [*resampler.resample(frame), *resampler.resample(None), None]
            for part in parts:
                container.mux(heard.encode(part))
    return sink.getvalue()
