"""Write golden files anew: `python -m tests.golden.regenerate` from the repository root.

Only for a change that is meant to give other splits; say so in the changelog, since results of old
and new runs are then no longer judged on the same clips.
"""

import json
from pathlib import Path

from mer.config import SplitConfig
from mer.datasets import MER500_CLASSES, Clip
from mer.splits import split_clips

SPLITS = Path(__file__).with_name("splits.json")
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
    """Sixty clips: five classes, songs of up to four clips, some of two classes, every fifth clip of an unknown song."""
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


if __name__ == "__main__":
    SPLITS.write_text(json.dumps({case: letters(case) for case in CASES}, indent=1) + "\n")
