"""What is kept of a finished run besides its weights: the card, headline figures, a row per test clip."""

from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
from torch import nn

import mer
from mer.cards import Card
from mer.features import Standardizer
from mer.material import Material, Spec
from mer.splits import Split

__all__ = ["clip_rows", "headline", "make_card", "parameters", "versions"]


def clip_rows(material: Material, split: Split, probabilities: np.ndarray) -> list[dict[str, Any]]:
    """One row of plain data per test clip."""
    clips, names = material.report.dataset.clips, material.classes
    return [
        {
            "clip": clips[index].id,
            "song": clips[index].song,
            "label": clips[index].label,
            "predicted": names[int(row.argmax())],
            "probabilities": dict(zip(names, map(float, row), strict=True)),
        }
        for index, row in zip(split.test, probabilities, strict=True)
    ]


def headline(scores: dict[str, Any]) -> dict[str, float]:
    """The figures of a run that are logged as metrics."""
    figures = {}
    for name in ("accuracy", "macro_f1", "song_accuracy"):
        low, high = scores["intervals"][name]
        figures |= {f"test_{name}": scores[name], f"test_{name}_low": low, f"test_{name}_high": high}
    return figures | {key: float(scores[key]) for key in ("majority", "chance", "n_clips", "n_songs")}


def parameters(model: nn.Module) -> int:
    """Number of parameters of a network, frozen ones too."""
    return sum(parameter.numel() for parameter in model.parameters())


def make_card(
    spec: Spec, material: Material, split: Split, standardizer: Standardizer, scores: dict[str, Any]
) -> Card:
    """The card of the network that a run trained."""
    report = material.report
    return Card(
        classes=material.classes,
        config=spec.config,
        normalization=standardizer.to_dict(),
        data={
            "name": report.dataset.name,
            "hash": report.content_hash(),
            "synthetic": report.dataset.synthetic,
            "licence": report.dataset.licence,
            "clips": len(report.facts),
            "songs": report.songs(),
            "grouping": report.grouping.source,
        },
        split={
            "test_hash": split.to_hash(report.dataset.clips),
            "clips": {name: len(getattr(split, name)) for name in ("train", "validation", "test")},
        },
        metrics=scores,
        command=spec.command,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=versions(),
        notes=report.dataset.notes,
    )


def versions() -> dict[str, str]:
    """Versions of what the result depends on."""
    names = ("torch", "torchvision", "torchaudio", "timm", "numpy", "soundfile")
    return {"mer": mer.__version__} | {name: version(name) for name in names}
