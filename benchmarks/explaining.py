"""Measure how often explanations of a checkpoint pass the deletion check, on many clips.

Clips are drawn from the test part of the checkpoint's split if `--data` is the data it was trained on,
otherwise from all clips. A clip passes if the area under its map's deletion curve is smaller than the mean
area for randomly shifted copies of the map (`mer.inference.deletion`).
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.stats import binomtest

from mer.data.clips import Clip
from mer.data.load import load_dataset
from mer.data.splits import split_clips
from mer.inference.explain import explain
from mer.inference.predictor import Predictor
from mer.models.card import Card


def say(text: str) -> None:
    """Print one line of the report at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def unheard(clips: Sequence[Clip], card: Card) -> list[Clip]:
    """The test clips of a checkpoint, or all clips if it was trained on other data."""
    split = split_clips(clips, card.config.split)
    if split.to_hash(clips) == card.split.get("test_hash"):
        return [clips[index] for index in split.test]
    return list(clips)


def main() -> None:
    """Explain, check, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", type=Path, required=True, metavar="PATH")
    parser.add_argument("--label-column", default="label", metavar="NAME")
    parser.add_argument("--song-column", default="song", metavar="NAME")
    parser.add_argument("--clips", type=int, default=50, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the choice (default: 0)")
    options = parser.parse_args()
    predictor = Predictor(options.checkpoint)
    data = load_dataset(options.data, label_column=options.label_column, song_column=options.song_column)
    clips = unheard(data.clips, predictor.card)
    rng = np.random.default_rng(options.seed)
    chosen = [clips[i] for i in rng.permutation(len(clips))[: options.clips]]
    found = [explain(predictor, clip.path).deletion for clip in chosen]
    checked = [each for each in found if each]
    won = sum(each.auc < each.random_auc for each in checked)
    low, high = binomtest(won, len(found)).proportion_ci(method="wilson")
    say(f"{predictor.card.title}: {len(found)} of {len(clips)} clips, of {len(data.clips)}")
    say(f"  won {won} of {len(found)} ({low:.0%} to {high:.0%}), {len(found) - len(checked)} maps were empty")
    for name in ("auc", "random_auc"):
        say(f"  mean {name}: {np.mean([getattr(each, name) for each in checked]):.3f}")


if __name__ == "__main__":
    main()
