"""The records of a finished run besides its weights: the card, the evaluation, and the metrics."""

import json
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mer
from mer.audio.mel import Standardizer
from mer.data.splits import Split
from mer.experiments.prepared import PreparedData, Spec
from mer.experiments.testing import Judged
from mer.models.card import Card
from mer.runs.store import RunStore

__all__ = ["headline", "make_card", "save_evaluation", "versions"]

WITH_INTERVAL = ("accuracy", "window_accuracy", "macro_f1", "song_accuracy")


def headline(scores: dict[str, Any]) -> dict[str, float]:
    """The test scores that are logged as metrics of a run."""
    found = {name: (scores[name], *scores["intervals"][name]) for name in WITH_INTERVAL}
    if "agreement" in scores:
        votes = scores["agreement"]
        found |= {name: (votes[name], *votes["intervals"][name]) for name in ("overlap", "votes_won")}
    figures = {
        f"test_{name}{end}": value
        for name, triple in found.items()
        for end, value in zip(("", "_low", "_high"), triple, strict=True)
    }
    if svm := scores.get("svm"):
        low, high = svm["intervals"]["song_accuracy"]
        figures |= {"svm_song_accuracy": svm["song_accuracy"], "svm_accuracy": svm["accuracy"]}
        figures |= {"svm_song_accuracy_low": low, "svm_song_accuracy_high": high}
        figures |= {f"songs_{key}": float(svm[key]) for key in ("only_network", "only_svm")}
    figures |= {"test_kappa": scores["kappa"], "test_calibration_error": scores["calibration"]["error"]}
    return figures | {key: float(scores[key]) for key in ("majority", "chance", "n_clips", "n_songs")}


def make_card(
    spec: Spec, data: PreparedData, split: Split, standardizer: Standardizer, judged: Judged
) -> Card:
    """Make the card of the network that a run trained.

    Parameters
    ----------
    spec, data, split
        The request, its data, and the split.
    standardizer
        Standardisation of the images.
    judged
        Result of the test.
    """
    return Card(
        classes=data.classes,
        config=spec.config,
        normalization=standardizer.to_dict(),
        data=data.about,
        split={
            "test_hash": data.test_hash(split),
            "leak": data.leak(split),
            "clips": {name: len(getattr(split, name)) for name in ("train", "validation", "test")},
        },
        metrics=judged.scores,
        calibration=judged.calibration,
        command=spec.command,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=versions(),
        notes=data.notes,
    )


def save_evaluation(runs: RunStore, run_id: str, parts: dict[str, Any]) -> None:
    """Save the evaluation of a run, which `mer.runs.results` reads.

    Parameters
    ----------
    runs, run_id
        The run, and where it is recorded.
    parts
        Plain data by name, such as "scores"; each is saved as <name>.json.
    """

    def write(folder: Path) -> None:
        """Write each part into a file."""
        for name, content in parts.items():
            (folder / f"{name}.json").write_text(json.dumps(content, ensure_ascii=False), "utf-8")

    runs.save_folder(run_id, "evaluation", write)


def versions() -> dict[str, str]:
    """Versions of the packages that the result depends on."""
    names = ("torch", "torchvision", "torchaudio", "timm", "numpy", "soundfile")
    return {"mer": mer.__version__} | {name: version(name) for name in names}
