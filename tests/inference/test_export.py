"""A checkpoint as one file: samples in, the checkpoint's own probabilities out."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mer.audio.mel import as_input
from mer.inference.export import TOLERANCE, Portable, convert
from mer.inference.predictor import Predictor
from mer.models.checkpoint import load_checkpoint, save_checkpoint
from mer.models.heads import HEADS
from mer.utils.errors import CheckpointError
from tests.tiny_backbone import tiny_card, tiny_config, tiny_model, tiny_zoo

SHIPPED = Path(__file__).parents[2] / "checkpoints"
VARIANTS = [
    *({"head": name} for name in HEADS),
    {"pool": "attention"},
    {"loss": "bce"},
    {"standardize": "window"},
]


@pytest.fixture(autouse=True)
def tiny_in_the_zoo():
    with tiny_zoo():
        yield


def saved(folder, *, card=(), **train):
    """An untrained checkpoint whose outputs are not all alike."""
    config = tiny_config(**train)
    model = tiny_model(config)
    torch.nn.init.normal_(model.head.linear.weight, std=5.0)
    return save_checkpoint(folder, model, tiny_card(config, **dict(card)))


def portable(folder):
    return Portable(*load_checkpoint(folder)).eval()


def noise(seconds=1.0, *, level=0.3, rate=4000):
    return level * torch.randn(1, round(seconds * rate), generator=torch.Generator().manual_seed(1))


def probabilities(folder, windows):
    with torch.inference_mode():
        return portable(folder)(windows)[0].numpy()


@pytest.mark.parametrize("train", VARIANTS, ids=lambda train: " ".join(map(str, *train.items())))
@pytest.mark.parametrize("level", [0.5, 0.01])
def test_the_exported_file_predicts_like_the_checkpoint(tmp_path, train, level):
    folder = saved(tmp_path / "checkpoint", **train)
    own = Predictor(folder, device="cpu").predict_waveform(noise(level=level)[0].numpy())
    found = probabilities(folder, noise(level=level))[0]
    assert found == pytest.approx(list(own.probabilities.values()), abs=TOLERANCE)
    assert found.std() > 10 * TOLERANCE  # else any answer would do


def test_a_temperature_is_part_of_the_answer(tmp_path):
    folder = saved(tmp_path / "checkpoint")
    cold = saved(tmp_path / "cold", card={"calibration": {"temperature": 5.0}})
    own = Predictor(cold, device="cpu").predict_waveform(noise()[0].numpy())
    assert probabilities(cold, noise())[0] == pytest.approx(list(own.probabilities.values()), abs=TOLERANCE)
    assert abs(probabilities(cold, noise()) - probabilities(folder, noise())).max() > TOLERANCE


def test_an_exported_file_handles_silence(tmp_path):
    """The loudest point of a silent window is no reference, or its rounding errors would be the picture."""
    folder = saved(tmp_path / "checkpoint")
    images = portable(folder).log_mel(torch.zeros(1, 4000))
    assert torch.all(images == images.min())


def test_windows_of_a_clip_are_weighed_by_their_scores(tmp_path):
    folder = saved(tmp_path / "checkpoint", pool="attention")
    clip = noise(1.5)[0]
    own = Predictor(folder, device="cpu").predict_waveform(clip.numpy())
    starts = [round(4000 * window.start) for window in own.windows]
    with torch.inference_mode():
        rows, scores = portable(folder)(torch.stack([clip[start : start + 4000] for start in starts]))
    mean = (scores.softmax(0)[:, None] * rows).sum(0)
    assert len(starts) == 2
    assert mean.tolist() == pytest.approx(list(own.probabilities.values()), abs=TOLERANCE)


def check_report(found, out):
    """The report agrees with the file, and nothing else was left beside it."""
    assert found["difference"] < TOLERANCE
    assert found["size"] == out.stat().st_size
    assert (found["classes"], found["sample_rate"], found["window_seconds"]) == (["Happy", "Sad"], 4000, 1.0)
    assert [path.name for path in out.parent.glob("*.*")] == [out.name]


def test_a_pt2_file_is_compared_with_the_checkpoint_and_described(tmp_path):
    folder, out = saved(tmp_path / "checkpoint"), tmp_path / "model.pt2"
    check_report(convert(folder, out), out)


def test_an_onnx_file_is_compared_and_described_and_runs_without_this_project(tmp_path):
    import onnxruntime

    folder, out = saved(tmp_path / "checkpoint"), tmp_path / "model.onnx"
    check_report(convert(folder, out), out)
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about["classes"]) == ["Happy", "Sad"]
    assert json.loads(about["sample_rate"]) == 4000
    windowing = {name: json.loads(about[name]) for name in ("hop_seconds", "pad", "only_first")}
    assert windowing == {"hop_seconds": 0.5, "pad": "zero", "only_first": False}
    for count in (1, 2, 7):
        windows = noise().repeat(count, 1)
        rows, scores = session.run(None, {"windows": windows.numpy()})
        assert rows.shape == (count, 2)
        assert scores.shape == (count,)
        assert np.allclose(rows, probabilities(folder, windows), atol=TOLERANCE)


def test_a_file_that_differs_from_the_checkpoint_is_not_written(tmp_path, monkeypatch):
    folder, out = saved(tmp_path / "checkpoint"), tmp_path / "model.pt2"
    monkeypatch.setattr("mer.inference.export.as_input", lambda images: as_input(2 * images))
    with pytest.raises(CheckpointError, match="would differ from"):
        convert(folder, out)
    assert not out.exists()


@pytest.mark.parametrize(
    ("train", "name", "said"),
    [
        ({}, "model.bin", "the file must end in .onnx or .pt2"),
        ({"outputs": "imagenet"}, "model.pt2", "ImageNet's outputs"),
        ({"always_training": True}, "model.pt2", "no evaluation mode"),
    ],
)
def test_checkpoints_that_cannot_be_converted_are_refused(tmp_path, train, name, said):
    with pytest.raises(CheckpointError, match=said):
        convert(saved(tmp_path / "checkpoint", **train), tmp_path / name)


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".onnx", ".pt2"])
@pytest.mark.parametrize("name", ["demo_mobilenet_v3_small", "emotify_music"])
def test_the_shipped_checkpoints_convert(tmp_path, name, ending):
    assert convert(SHIPPED / name, tmp_path / f"model{ending}")["difference"] < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("ending", [".onnx", ".pt2"])
def test_every_head_converts(tmp_path, head, ending):
    out = tmp_path / f"model{ending}"
    assert convert(saved(tmp_path / "checkpoint", head=head, pool="attention"), out)["difference"] < TOLERANCE
