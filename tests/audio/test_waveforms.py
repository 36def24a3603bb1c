"""What a person hands in as sound, path or number: made fit, or refused in one line, at every entry point."""

import io
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nst

from mer.audio import decode as audio
from mer.audio import mel as features
from mer.audio import preview, quality, waveforms
from mer.audio import windows as cutting
from mer.audio.resampling import resample
from mer.config.sections import AudioConfig, MelConfig
from mer.data.cache import descriptors
from mer.data.folders import audio_below
from mer.inference import ensemble as ensembles
from mer.inference import explain, masking, stimuli, timeline
from mer.inference import export as portable
from mer.inference import predictor as inference
from mer.utils.errors import AudioError, ConfigError, MerError
from tests.serve_helpers import SHIPPED

RATE = 16_000
AUDIO, MEL = AudioConfig(), MelConfig()
LISTENER = inference.Predictor(SHIPPED, device="cpu")
MASK = np.full((MEL.n_mels, 10), 0.5, np.float32)


def wave(seconds=1.0, rate=RATE):
    rng = np.random.default_rng(0)
    return rng.uniform(-0.5, 0.5, round(seconds * rate)).astype(np.float32)


WAVEFORMS = {  # every entry point that takes samples
    "predict_waveform": LISTENER.predict_waveform,
    "windows of a predictor": lambda sound: list(LISTENER.windows(sound, [0])),
    "log_mel": partial(features.log_mel, sample_rate=RATE, config=MEL),
    "resample": partial(resample, rate=8000, audio=AUDIO),
    "images": partial(features.images, audio=AUDIO, mel=MEL),
    "windows": lambda sound: list(cutting.windows(sound, AUDIO)),
    "remarks": partial(quality.remarks, sample_rate=RATE),
    "descriptors": descriptors.descriptors,
    "divide": lambda sound: masking.divide(sound, MASK, sample_rate=RATE, config=MEL),
    "as_wav": partial(masking.as_wav, rate=RATE),
    "as_samples": waveforms.as_samples,
}
NO_WAVEFORM = {
    "None": None,
    "a list": [0.1] * RATE,
    "a path": "clip.wav",
    "bytes": b"clip",
    "a number": 1.0,
    "true": True,
    "an open file": io.BytesIO(b"clip"),
    "no dimension": np.float32(1) * np.ones(()),
    "three dimensions": np.ones((2, 3, RATE), np.float32),
    "no axis of channels": np.ones((100, RATE), np.float32),
    "complex": np.ones(RATE, np.complex64),
    "logical": np.ones(RATE, bool),
    "int64": np.ones(RATE, np.int64),
    "uint16": np.ones(RATE, np.uint16),
    "objects": np.full(RATE, None),
    "texts": np.full(RATE, "a"),
    "times": np.zeros(RATE, "datetime64[s]"),
    "fields": np.zeros(RATE, [("a", "f4")]),
    "NaN": np.full(RATE, np.nan, np.float32),
    "one NaN": np.r_[wave(), np.nan].astype(np.float32),
    "infinite": np.r_[wave(), np.inf],
    "far too loud": wave() * np.float32(1e30),
    "beyond float32": wave().astype(float) * 1e300,
    "far too long": np.broadcast_to(np.float32(0.1), 2**40),
    "far too long in stereo": np.broadcast_to(np.float32(0.1), (2**40, 2)),
    "no channels": np.ones((RATE, 0), np.float32),
    "a tensor elsewhere": torch.ones(RATE, device="meta"),
    "a sparse tensor": torch.ones(RATE).to_sparse(),
    "a tensor of complex numbers": torch.ones(RATE, dtype=torch.complex64),
}


def one_line(error):
    text = str(error)
    return 10 < len(text) < 300 and text.isprintable()


@pytest.mark.parametrize("use", WAVEFORMS.values(), ids=WAVEFORMS.keys())
@pytest.mark.parametrize("sound", NO_WAVEFORM.values(), ids=NO_WAVEFORM.keys())
@pytest.mark.promise(
    "A wrong waveform, path or number is refused in one line by every function that takes sound.",
    measured="29 wrong waveforms x 10 functions, 10 wrong sources x 7, 11 wrong numbers x 14",
)
def test_input_that_is_no_waveform_is_refused_in_one_line_everywhere(use, sound):
    with pytest.raises(AudioError) as caught:
        use(sound)
    assert one_line(caught.value)


@pytest.mark.parametrize("use", [v for k, v in WAVEFORMS.items() if k != "remarks"])
@pytest.mark.parametrize("shape", [(0,), (0, 2), (2, 0)])
def test_no_samples_are_refused(use, shape):
    with pytest.raises(AudioError, match="empty, 0 samples"):
        use(np.zeros(shape, np.float32))


@pytest.mark.parametrize(
    ("sound", "said"),
    [
        (wave(0.2), "0.20 s, shorter than 0.5 s"),
        (np.zeros(RATE, np.float32), "silent, nothing above -80 dBFS"),
        (np.ones(RATE, np.int16), "silent"),
        (np.broadcast_to(np.float32(0.1), 3601 * RATE), "3601 s long; cut it to 3600 s"),
    ],
)
def test_a_clip_is_refused_like_a_file_with_the_same_words(sound, said):
    with pytest.raises(AudioError, match=f"^waveform: {said}"):
        LISTENER.predict_waveform(sound)


def as_given(kind, pcm):
    """16-bit samples in another guise, and the largest error of that."""
    level = pcm.astype(np.float64) / 2**15
    guises = {
        "int16": pcm,
        "big-endian": pcm.astype(">i2"),
        "int32": pcm.astype(np.int32) << 16,
        "float64": level,
        "longdouble": level.astype(np.longdouble),
        "stereo, channels last": np.stack([pcm, pcm], axis=1),
        "stereo, channels first": np.stack([level, level]),
        "one channel": level[None],
        "every second sample": np.repeat(level, 2)[::2],
        "backwards": level[::-1].copy()[::-1],
        "a tensor": torch.from_numpy(level.astype(np.float32)),
        "a tensor of int16": torch.from_numpy(pcm.copy()),
        "a tensor with a gradient": torch.from_numpy(level).requires_grad_(),
        "a masked array": np.ma.array(level),
    }
    guise = guises[kind]
    if kind == "float64":
        guise.flags.writeable = False
    return guise


GUISES = [
    "int16",
    "big-endian",
    "int32",
    "float64",
    "longdouble",
    "stereo, channels last",
    "stereo, channels first",
    "one channel",
    "every second sample",
    "backwards",
    "a tensor",
    "a tensor of int16",
    "a tensor with a gradient",
    "a masked array",
]


@pytest.mark.parametrize("kind", GUISES)
@pytest.mark.promise("The same samples give the same prediction in any array type.")
def test_the_same_sound_in_any_type_or_shape_has_the_same_answer(kind):
    pcm = np.round(wave() * 2**15).astype(np.int16)
    usual = (pcm / np.float32(2**15)).astype(np.float32)
    expected = LISTENER.predict_waveform(usual).probabilities
    assert LISTENER.predict_waveform(as_given(kind, pcm)).probabilities == pytest.approx(expected, abs=1e-6)


@given(
    pcm=nst.arrays(np.int16, st.integers(9, 40), elements=st.integers(-(2**15), 2**15 - 1)),
    kind=st.sampled_from([kind for kind in GUISES if "tensor" not in kind]),
)
def test_the_same_samples_in_any_type_or_shape_are_the_same_waveform(pcm, kind):
    found = waveforms.as_samples(as_given(kind, pcm))
    assert (found.dtype, found.shape) == (np.float32, pcm.shape)
    assert found.flags.c_contiguous
    assert found.flags.writeable
    assert np.array_equal(found, pcm / 2**15)


@given(st.integers(1, 8), st.integers(9, 50), st.booleans())
def test_channels_on_either_axis_are_mixed_by_their_mean(channels, frames, first):
    sound = np.random.default_rng(channels).uniform(-1, 1, (frames, channels)).astype(np.float32)
    found = waveforms.as_samples(sound.T if first else sound)
    assert found == pytest.approx(sound.mean(axis=1), abs=1e-6)


@pytest.mark.parametrize(("kind", "least", "most"), [("int8", -128, 127), ("uint8", 0, 255)])
def test_full_scale_of_8_bits_is_1(kind, least, most):
    found = waveforms.as_samples(np.array([least, most], kind))
    assert found == pytest.approx([-1, 127 / 128])


def test_a_waveform_that_needs_no_change_is_not_copied():
    sound = wave()
    assert waveforms.as_samples(sound) is sound


# Paths and bytes

SOURCES = {  # every entry point that takes a path or bytes of a clip
    "decode": audio.decode,
    "load": lambda source: audio.load(source, AUDIO),
    "predict": LISTENER.predict,
    "timeline": lambda source: list(timeline.timeline(LISTENER, source, rate=1)),
    "explain": partial(explain.explain, LISTENER),
    "steps": partial(preview.steps, audio=AUDIO, mel=MEL),
    "measure": stimuli.measure,
}
NO_SOURCE = [None, 3, 1.5, True, [], ["clip.wav"], io.BytesIO(b"x"), wave(), torch.ones(3), object()]


@pytest.mark.parametrize("use", SOURCES.values(), ids=SOURCES.keys())
@pytest.mark.parametrize("source", NO_SOURCE, ids=lambda source: type(source).__name__)
@pytest.mark.promise(
    "A wrong waveform, path or number is refused in one line by every function that takes sound."
)
def test_a_path_of_a_wrong_type_is_refused_with_its_type(use, source):
    with pytest.raises(AudioError, match=f"a {type(source).__name__} is neither a path nor the bytes"):
        use(source)


@pytest.mark.parametrize("use", SOURCES.values(), ids=SOURCES.keys())
@pytest.mark.parametrize("source", ["", "gone.wav", "a\0b", "x" * 5000, b"", "\udcff.wav", Path("gone")])
def test_a_missing_path_is_refused_in_one_line(use, source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AudioError) as caught:
        use(source)
    assert "\n" not in str(caught.value)


class Place:
    """A path of another library."""

    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return str(self.path)


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "clip.wav"
    soundfile.write(path, wave(12.0), RATE)
    return path


@pytest.mark.parametrize("use", SOURCES.values(), ids=SOURCES.keys())
@pytest.mark.parametrize("kind", [str, Place, Path.read_bytes, lambda path: bytearray(path.read_bytes())])
def test_a_path_of_any_kind_and_bytes_are_taken_everywhere(use, kind, clip):
    assert use(kind(clip)) is not None


def test_checkpoints_and_outputs_are_named_by_str_as_well(clip, tmp_path):
    listener = ensembles.open_predictor(str(SHIPPED), device="cpu")
    (pair,) = listener.predict_many([str(clip)])
    assert pair[1].emotion == LISTENER.predict(clip).emotion
    assert audio_below(str(tmp_path))[0] == [clip]
    assert timeline.write_timeline(listener, str(clip), str(tmp_path / "out.csv"), rate=1) == 3
    assert len(list(tmp_path.glob("out.csv"))) == 1
    with pytest.raises(MerError, match=r"must end in \.onnx or \.pt2"):
        portable.convert(str(SHIPPED), str(tmp_path / "model.other"))


@pytest.mark.parametrize("place", [None, 3, b"", []])
def test_a_folder_without_a_checkpoint_is_refused(place):
    with pytest.raises(MerError) as caught:
        ensembles.open_predictor(place)
    assert one_line(caught.value)


def test_several_clips_are_a_list_and_each_error_comes_in_its_place(clip):
    for single in (clip, str(clip), b"x"):
        with pytest.raises(AudioError, match="a single clip; give a list"):
            LISTENER.predict_many(single)
    outcomes = [outcome for _, outcome in LISTENER.predict_many([None, clip, 3], workers=2)]
    assert [isinstance(outcome, AudioError) for outcome in outcomes] == [True, False, True]


def test_only_bytes_can_be_cut_to_their_beginning(clip):
    assert len(audio.beginning(clip.read_bytes(), 1.0)) < 40_000
    with pytest.raises(AudioError, match=r"clip.wav: a path; give the bytes"):
        audio.beginning(clip, 1.0)


# Numbers

NUMBERS = {
    "sample_rate of log_mel": lambda n: features.log_mel(wave(), sample_rate=n, config=MEL),
    "rate of resample": lambda n: resample(wave(), rate=n, audio=AUDIO),
    "sample_rate of LogMel": lambda n: features.LogMel(n, MEL),
    "sample_rate of remarks": lambda n: quality.remarks(wave(), sample_rate=n),
    "sample_rate of divide": lambda n: masking.divide(wave(), MASK, sample_rate=n, config=MEL),
    "rate of as_wav": lambda n: masking.as_wav(wave(), n),
    "rate of as_rate": waveforms.as_rate,
    "max_seconds": lambda n: audio.decode(b"x", max_seconds=n),
    "seconds of beginning": lambda n: audio.beginning(b"x", n),
    "n_samples": lambda n: cutting.window_starts(n, AUDIO),
    "rate of timeline": lambda n: list(timeline.timeline(LISTENER, b"x", rate=n)),
    "window of steps": lambda n: preview.steps(b"x", audio=AUDIO, mel=MEL, window=n),
    "start": lambda n: LISTENER.windows(wave(), [n]),
    "workers": lambda n: LISTENER.predict_many(["x"], workers=n),
    "loudness": lambda n: stimuli.common_loudness([], wanted=n),
}
NO_NUMBER = [float("nan"), float("inf"), -1e30, 10**400, -(10**400), True, np.True_, "1", [1], 1j, np.ones(2)]


@pytest.mark.parametrize("use", NUMBERS.values(), ids=NUMBERS.keys())
@pytest.mark.parametrize("number", NO_NUMBER, ids=lambda number: repr(number)[:12])
@pytest.mark.promise(
    "A wrong waveform, path or number is refused in one line by every function that takes sound."
)
def test_numbers_out_of_range_are_refused_in_one_line(use, number):
    with pytest.raises(ConfigError) as caught:
        use(number)
    assert one_line(caught.value)


WHOLE = ["sample_rate of log_mel", "rate of as_wav", "n_samples", "window of steps", "start", "workers"]


@pytest.mark.parametrize("name", WHOLE)
def test_whole_numbers_are_checked(name):
    with pytest.raises(ConfigError, match="is no whole number"):
        NUMBERS[name](1000.5 if "rate" in name else 1.5)


@pytest.mark.parametrize("rate", [0, -1, 999, 768_001])
def test_rates_out_of_range_are_refused(rate):
    for name in (
        "sample_rate of log_mel",
        "sample_rate of remarks",
        "sample_rate of divide",
        "rate of as_wav",
    ):
        with pytest.raises(ConfigError, match=r"1000 <= .*rate <= 768000"):
            NUMBERS[name](rate)


@pytest.mark.parametrize("rate", [16_000, 16_000.0, np.int64(16_000), np.float32(16_000)])
def test_a_whole_rate_of_any_type_is_accepted(rate):
    assert waveforms.as_rate(rate) == 16_000
    assert type(waveforms.as_rate(rate)) is int


@pytest.mark.parametrize("mask", [None, MASK[0], MASK[:3], MASK[:, :0], MASK * np.nan, MASK + 1, MASK - 1])
def test_a_mask_that_does_not_fit_is_refused(mask):
    with pytest.raises(ConfigError, match="mask"):
        masking.divide(wave(), mask, sample_rate=RATE, config=MEL)


@pytest.mark.parametrize("window", [0.5, True, float("nan"), "1", 10**400])
def test_a_window_to_explain_is_a_whole_number(clip, window):
    with pytest.raises(ConfigError) as caught:
        explain.explain(LISTENER, clip, window=window)
    assert one_line(caught.value)
