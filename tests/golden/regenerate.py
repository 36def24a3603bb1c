"""Write golden files anew: `python -m tests.golden.regenerate` from the repository root.

Only for a change that is meant to give other splits or other scores; say so in the changelog, since
results of old and new runs are then no longer judged on the same clips, or in the same way.
"""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from mer.config.sections import Config, SplitConfig
from mer.data.clips import MER500_CLASSES, Clip
from mer.data.splits import split_clips
from mer.metrics.scores import evaluate

SETTINGS = Path(__file__).with_name("settings.json")
SPLITS = Path(__file__).with_name("splits.json")
METRICS = Path(__file__).with_name("metrics.json")
CASES = {
    "hold-out": SplitConfig(),
    "hold-out, seed 1": SplitConfig(seed=1),
    "hold-out, largest seed": SplitConfig(seed=2**32 - 1),
    "no validation": SplitConfig(test=0.3, validation=0.0),
    "songs parted": SplitConfig(group_by_song=False),
    "fold 0 of 3": SplitConfig(folds=3, fold=0),
    "fold 2 of 3": SplitConfig(folds=3, fold=2),
}


def golden_clips() -> list[Clip]:
    """Sixty clips of five classes; songs of up to four clips and several classes; every fifth has none."""
    clips = []
    for number in range(60):
        label = MER500_CLASSES[number * 7 % 5]
        song = None if number % 5 == 4 else f"गीत {number * number % 37}"
        name = f"{label}/{number:02}.wav"
        clips.append(Clip(name, Path(name), label, song))
    return clips


def letters(case: str) -> str:
    """One letter for each clip: t(rain), v(alidation) or x, the test part."""
    clips = golden_clips()
    split = split_clips(clips, CASES[case])
    part = {
        i: letter
        for letter, name in zip("tvx", ("train", "validation", "test"), strict=True)
        for i in getattr(split, name)
    }
    return "".join(part[i] for i in range(len(clips)))


# clips, classes, clips per song, and how often the right class is the likeliest: 1 in so many times not
SCORED = {
    "five classes, songs of three clips": (60, 5, 3, 4),
    "songs unknown": (40, 5, 1, 3),
    "two classes": (30, 2, 4, 2),
    "never wrong": (24, 3, 2, 1000),
    "always wrong": (24, 3, 2, 1),
    "a class that never occurs": (12, 20, 2, 3),
}


def scores(case: str) -> dict[str, Any]:
    """What `evaluate` says of made-up answers; nothing random but its own bootstrap."""
    clips, classes, per_song, errs = SCORED[case]
    truth = np.array([(number // per_song) * 7 % classes for number in range(clips)])
    weights = np.array([[1 + (n * 37 + k * 11) % 23 for k in range(classes)] for n in range(clips)], float)
    for number in range(clips):
        likeliest = truth[number] + (number % errs == errs - 1)
        weights[number, likeliest % classes] = 24
    songs = [f"song {number // per_song}" for number in range(clips)]
    names = [f"class {k}" for k in range(classes)]
    return evaluate(truth, weights / weights.sum(axis=1, keepdims=True), groups=songs, classes=names)


def golden_settings() -> dict[str, list]:
    """Default, lowest and highest value of every setting."""
    return {
        f"{part.name}.{field.name}": [field.default, field.metadata["low"], field.metadata["high"]]
        for part in fields(Config)
        for field in fields(part.default)
    }


if __name__ == "__main__":
    rows = (f"{json.dumps(name)}: {json.dumps(row)}" for name, row in golden_settings().items())
    SETTINGS.write_text("{\n" + ",\n".join(rows) + "\n}\n")
    SPLITS.write_text(json.dumps({case: letters(case) for case in CASES}, indent=1) + "\n")
    METRICS.write_text(json.dumps({case: scores(case) for case in SCORED}, indent=1) + "\n")
