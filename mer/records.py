"""What is kept of a finished run besides its weights: the card and the headline figures."""

from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from torch import nn

import mer
from mer.cards import Card
from mer.features import Standardizer
from mer.judging import Judged
from mer.material import Material, Spec
from mer.splits import Split

__all__ = ["headline", "make_card", "parameters", "versions"]


def headline(scores: dict[str, Any]) -> dict[str, float]:
    """The figures of a run that are logged as metrics."""
    figures = {}
    for name in ("accuracy", "window_accuracy", "macro_f1", "song_accuracy"):
        low, high = scores["intervals"][name]
        figures |= {f"test_{name}": scores[name], f"test_{name}_low": low, f"test_{name}_high": high}
    if "svm" in scores:
        svm = scores["svm"]
        low, high = svm["intervals"]["song_accuracy"]
        figures |= {"svm_song_accuracy": svm["song_accuracy"], "svm_accuracy": svm["accuracy"]}
        figures |= {"svm_song_accuracy_low": low, "svm_song_accuracy_high": high}
    figures |= {"test_kappa": scores["kappa"], "test_calibration_error": scores["calibration"]["error"]}
    return figures | {key: float(scores[key]) for key in ("majority", "chance", "n_clips", "n_songs")}


def parameters(model: nn.Module) -> int:
    """Number of parameters of a network, frozen ones too."""
    return sum(parameter.numel() for parameter in model.parameters())


def make_card(
    spec: Spec, material: Material, split: Split, standardizer: Standardizer, judged: Judged
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
        metrics=judged.scores,
        calibration=judged.calibration,
        command=spec.command,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=versions(),
        notes=report.dataset.notes,
    )


def versions() -> dict[str, str]:
    """Versions of what the result depends on."""
    names = ("torch", "torchvision", "torchaudio", "timm", "numpy", "soundfile")
    return {"mer": mer.__version__} | {name: version(name) for name in names}
