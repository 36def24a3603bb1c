"""Exports a checkpoint as one file for other programs: samples of windows to probabilities.

The file includes the spectrogram, so running it needs no code of this project. Its input is mono samples at
`sample_rate`, in windows of `window_seconds`. Its metadata hold the settings for cutting a clip into windows:
`hop_seconds`, `pad` (a shorter clip is padded with zeros or by repetition) and `only_first`. The answer to a
clip is the mean over its windows, weighted by the softmax of their scores.
"""

import json
import warnings
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mer.audio.mel import LogMel, Standardizer, as_input
from mer.config.inputs import DESCRIPTORS, networks_of
from mer.inference.predictor import Predictor
from mer.models.card import Card
from mer.models.checkpoint import load_checkpoint
from mer.models.classifier import Classifier
from mer.models.outputs import to_probabilities
from mer.models.released import ReleasedClassifier
from mer.utils.errors import CheckpointError
from mer.utils.files import as_path, atomic_path

__all__ = ["TOLERANCE", "Portable", "convert"]

TOLERANCE = 1e-3  # largest difference between a probability of the file and of the checkpoint
OUTPUTS = ("probabilities", "scores")
AUDIO = ("sample_rate", "resampler", "window_seconds", "hop_seconds", "pad", "only_first")  # in the metadata
MOST = 1024  # windows in one batch


class Portable(nn.Module):
    """The exported module: windows of sound (n, samples) -> probabilities (n, classes) and scores (n,)."""

    def __init__(self, model: Classifier, standardizer: Standardizer, card: Card) -> None:
        super().__init__()
        self.model, self.standardizer, self.card = model, standardizer, card
        self.log_mel = LogMel(card.config.audio.sample_rate, card.config.mel)

    def forward(self, windows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute probabilities (n, classes) and scores (n,) of windows (n, samples)."""
        inputs = as_input(self.standardizer(self.log_mel(windows)))
        logits, scores = self.model.answer(self.model.embed(inputs))
        return to_probabilities(logits, self.card.config.train.loss, self.card.temperature), scores


def convert(checkpoint: str | PathLike, out: str | PathLike) -> dict[str, Any]:
    """Export a checkpoint as ONNX or as a torch.export program, and compare the file with the checkpoint.

    Parameters
    ----------
    checkpoint
        Folder of a checkpoint of one network.
    out
        The file to write. Its suffix chooses the format: `.onnx`, or `.pt2` for torch.export.

    Returns
    -------
    dict
        `file`, `size` in bytes, `classes`, `sample_rate` in Hz, `resampler`, `window_seconds`, `hop_seconds`,
        `pad`, `only_first`, and `difference`: the largest difference of a probability from the checkpoint's,
        on windows of noise.

    Raises
    ------
    CheckpointError
        For an ensemble, a network without an evaluation mode or with ImageNet's outputs, another suffix, a
        missing package, or a difference of 0.001 or more. Then nothing is written.
    """
    checkpoint, out = as_path(checkpoint, "checkpoint"), as_path(out, "out")
    writers: dict[str, Callable[..., Callable]] = {".onnx": _write_onnx, ".pt2": _write_program}
    if out.suffix not in writers:
        raise CheckpointError(f"{out}: the file must end in .onnx or .pt2")
    model, standardizer, card = load_checkpoint(checkpoint)
    if isinstance(model, ReleasedClassifier):
        raise CheckpointError(
            f"{checkpoint} keeps ImageNet's outputs or has no evaluation mode; convert another network"
        )
    if DESCRIPTORS in networks_of(card.config.train.backbone):
        raise CheckpointError(
            f"{checkpoint}: descriptors ({DESCRIPTORS!r}) cannot be exported; convert a model without them"
        )
    portable = Portable(model, standardizer, card).eval()
    noises, network = _noises(card), Predictor(checkpoint, device="cpu")
    own = [list(network.predict_waveform(noise).probabilities.values()) for noise in noises.numpy()]
    about = {"classes": list(card.classes)}
    about |= {name: getattr(card.config.audio, name) for name in AUDIO}
    with atomic_path(out) as temporary:
        run = writers[out.suffix](portable, noises, temporary, about | {"title": card.title})
        difference = float(np.abs(run(noises) - np.array(own)).max())
        if not difference < TOLERANCE:
            raise CheckpointError(f"{out} would differ from {checkpoint} by {difference:.2g}; report this")
        size = temporary.stat().st_size
    return {"file": str(out), "size": size, **about, "difference": difference}


def _noises(card: Card) -> torch.Tensor:
    """Three windows of noise at different levels."""
    audio = card.config.audio
    samples = round(audio.window_seconds * audio.sample_rate)
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, samples, generator=generator) * torch.tensor([[0.3], [0.03], [0.003]])


def _exported(portable: Portable, windows: torch.Tensor) -> torch.export.ExportedProgram:
    count = {0: torch.export.Dim("n", min=1, max=MOST)}
    with torch.no_grad():
        return torch.export.export(portable, (windows,), dynamic_shapes=(count,), strict=False)


def _write_program(portable: Portable, windows: torch.Tensor, out: Path, about: dict[str, Any]) -> Callable:
    """Write a torch.export program. Returns a function that runs it: windows -> probabilities."""
    with _quiet():
        with out.open("wb") as file:
            extra = {"about.json": json.dumps(about, ensure_ascii=False)}
            torch.export.save(_exported(portable, windows), file, extra_files=extra)
        with out.open("rb") as file:
            module = torch.export.load(file).module()

    def run(rows: torch.Tensor) -> np.ndarray:
        with torch.inference_mode():
            return module(rows)[0].numpy()

    return run


def _write_onnx(portable: Portable, windows: torch.Tensor, out: Path, about: dict[str, Any]) -> Callable:
    """Write an ONNX model. Returns a function that runs it: windows -> probabilities."""
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 - torch needs it
    except ImportError as error:
        raise CheckpointError(
            f"{out}: for ONNX {error.name} is missing; run: pip install onnx onnxscript onnxruntime"
        ) from error
    with _quiet():
        program = torch.onnx.export(
            _exported(portable, windows), input_names=["windows"], output_names=list(OUTPUTS), verbose=False
        )
    model = program.model_proto
    onnx.helper.set_model_props(model, {name: json.dumps(value) for name, value in about.items()})
    onnx.save(model, out)
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    return lambda rows: session.run(["probabilities"], {"windows": rows.numpy()})[0]


def _quiet() -> warnings.catch_warnings:
    """Hide the exporter's warnings about deprecated code inside torch."""
    return warnings.catch_warnings(action="ignore")
