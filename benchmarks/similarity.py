"""Measure how well `mer.data.similarity` finds excerpts of one song; its constants come from here.

`--data` holds clips of some 10 s, `--labels` a CSV with columns `path` and `song`. Half of the songs are
for choosing thresholds, the other half for the report. Songs that are one recording under two names are
given as `--same a=b`: run once without, and the strongest wrong links show them. Declare only recordings that
match at one offset throughout; otherwise false positives are hidden.
"""

import argparse
import csv
import io
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import librosa
import numpy as np
import soundfile as sf

from mer.data.similarity import SAME_AUDIO, SOUNDS_ALIKE, Groups, fingerprint, group

RATE = 16_000


def say(text: str) -> None:
    """Print one line of the report at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def degrade(audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One of: nothing, MP3, Ogg Vorbis, resampling there and back, noise at 20 dB; then -12 to 6 dB gain."""
    kind = rng.integers(5)
    if kind in (1, 2):
        held = io.BytesIO()
        code = (("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS"))[kind - 1]
        sf.write(held, np.clip(audio, -1, 1), RATE, format=code[0], subtype=code[1])
        held.seek(0)
        audio = sf.read(held, dtype="float32")[0]
    elif kind == 3:
        other = int(rng.choice([22_050, 44_100]))
        audio = librosa.resample(audio, orig_sr=RATE, target_sr=other)
        audio = librosa.resample(audio, orig_sr=other, target_sr=RATE)
    elif kind == 4:
        audio = audio + rng.normal(0, 0.1 * np.sqrt(np.mean(audio**2)) + 1e-9, audio.size)
    return (audio * 10 ** (rng.uniform(-12, 6) / 20)).astype(np.float32)


def two_pieces(audio: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
    """Two pieces of 6 to 8 s (less in a short clip) that share 20 to 80 %, and the second's delay in s."""
    size, step = rng.uniform(6, 8) * RATE, 1 - rng.uniform(0.2, 0.8)
    size = int(min(size, audio.size / (1 + step)))
    delay = int(size * step)
    start = int(rng.integers(audio.size - size - delay + 1))
    first, second = audio[start : start + size], audio[start + delay : start + delay + size]
    return first, degrade(second, rng), delay / RATE


def same_audio(clips: Sequence[np.ndarray], songs: np.ndarray, rng: np.random.Generator, name: str) -> None:
    """Detection of overlapping pieces, against all pairs of pieces of different songs."""
    pieces = [two_pieces(clip, rng) for clip in clips]
    prints = [fingerprint(p[0]) for p in pieces] + [fingerprint(p[1]) for p in pieces]
    n, both = len(pieces), np.concatenate([songs, songs])
    links = group(prints, same_audio=0.2, sounds_alike=np.inf).pairs
    mixed = [p for p in links if both[p.first] != both[p.second]]
    wrong = np.array([p.similarity for p in mixed])
    right = {p.first: p for p in links if p.second == p.first + n}
    pairs = (both[:, None] != both).sum() // 2
    say(f"same audio, {name}: {n} overlaps, {pairs} of different songs up to {max(wrong, default=0):.2f}")
    for threshold in sorted({0.3, 0.35, 0.4, SAME_AUDIO, 0.5, 0.6}):
        found = [(i, p) for i, p in right.items() if p.similarity >= threshold]
        placed = sum(abs(p.offset - pieces[i][2]) <= 0.1 for i, p in found)
        say(
            f"  >= {threshold:.2f}: recall {len(found) / n:.3f}, with the right offset {placed / n:.3f}, "
            f"false positives {(wrong >= threshold).sum()} = {(wrong >= threshold).sum() / pairs:.1e}"
        )
    high = [p for p in mixed if p.similarity >= SAME_AUDIO]
    names = sorted({tuple(sorted((str(both[p.first]), str(both[p.second])))) for p in high})
    say(f"  the false positives at {SAME_AUDIO}: {', '.join(' and '.join(n) for n in names) or 'none'}")


def together(groups: Groups, songs: np.ndarray) -> tuple[float, float, float, int]:
    """Precision and recall over pairs of clips in one group, share of pure groups, size of the largest."""
    labels = np.array(groups.labels)
    upper = np.triu_indices(len(labels), 1)
    put = (labels[:, None] == labels)[upper]
    true = (songs[:, None] == songs)[upper]
    sizes = np.bincount(labels)
    pure = [len(set(songs[labels == g])) == 1 for g in np.flatnonzero(sizes > 1)]
    hits = (put & true).sum()
    return hits / max(put.sum(), 1), hits / max(true.sum(), 1), float(np.mean(pure or [1])), int(sizes.max())


def sounds_alike(prints: Sequence[np.ndarray], songs: np.ndarray, name: str) -> None:
    """Groups at several thresholds, and how often links of a given confidence are right."""
    say(f"both kinds of evidence, {name}: {len(prints)} clips of {len(set(songs))} songs")
    for threshold in sorted({2.5, 2.75, 3.0, SOUNDS_ALIKE, 3.25, 3.5, 4.0}):
        found = group(prints, sounds_alike=threshold)
        precision, recall, pure, largest = together(found, songs)
        say(
            f"  >= {threshold:.2f}: precision {precision:.3f}, recall {recall:.3f}, "
            f"pure groups {pure:.3f}, largest {largest} clips"
        )
    found = group(prints)
    labels, sizes = np.array(found.labels), np.bincount(found.labels)
    pure = np.array([len(set(songs[labels == g])) == 1 for g in range(len(sizes))])
    report = [("links", [(p.confidence, songs[p.first] == songs[p.second]) for p in found.pairs])]
    report.append(("groups", [(found.confidence[g], pure[g]) for g in np.flatnonzero(sizes > 1)]))
    for what, pairs in report:
        sure, right = np.array(pairs, float).reshape(-1, 2).T
        for low, high in ((0, 0.7), (0.7, 0.8), (0.8, 0.9), (0.9, 0.97), (0.97, 1.01)):
            part = (sure >= low) & (sure < high)
            if part.any():
                mean = f"confidence {sure[part].mean():.2f}: right {right[part].mean():.2f}"
                say(f"  {part.sum()} {what} of {mean}")


def main() -> None:
    """Read, fingerprint, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--labels", type=Path, required=True, metavar="CSV")
    parser.add_argument("--same", nargs="*", default=[], metavar="A=B", help="songs that are one recording")
    parser.add_argument("--seed", type=int, default=1, help="of the division of the songs (default: 1)")
    parser.add_argument("--by", metavar="COLUMN", help="also report each value of this column on its own")
    options = parser.parse_args()
    with options.labels.open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = {b: a for a, b in (pair.split("=") for pair in options.same)}
    songs = np.array([names.get(row["song"], row["song"]) for row in rows])
    clips = [librosa.load(options.data / row["path"], sr=RATE)[0] for row in rows]
    began = time.perf_counter()
    prints = [fingerprint(clip) for clip in clips]
    middle = time.perf_counter()
    links = group(prints).pairs
    each, rest = (middle - began) / len(rows), time.perf_counter() - middle
    say(f"{1e3 * each:.0f} ms a clip, {rest:.1f} s to group all")
    wrong = [p for p in links if p.evidence == "same audio" and songs[p.first] != songs[p.second]]
    for p in sorted(wrong, key=lambda p: -p.similarity)[:10]:
        say(
            f"  songs {songs[p.first]}, {songs[p.second]} share audio: {p.similarity:.2f} at {p.offset:.2f} s"
        )
    known = np.unique(songs)
    chosen = known[np.random.default_rng(options.seed).permutation(len(known)) % 2 == 0]
    parts = {"songs to choose by": np.isin(songs, chosen), "songs to report": ~np.isin(songs, chosen)}
    rng = np.random.default_rng(options.seed)
    for name, part in parts.items():
        same_audio([clip for clip, kept in zip(clips, part, strict=True) if kept], songs[part], rng, name)
    if options.by:
        column = np.array([row[options.by] for row in rows])
        parts |= {f"{options.by} {value}": column == value for value in np.unique(column)}
    for name, part in parts.items():
        sounds_alike([prints[i] for i in np.flatnonzero(part)], songs[part], name)


if __name__ == "__main__":
    main()
