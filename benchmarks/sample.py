"""The clips of a benchmark: given, or generated reproducibly."""

import wave
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mer.data.clips import MER500_CLASSES

__all__ = ["LIMIT", "RATE", "Sample", "choose", "generate", "spread"]

LIMIT = 490  # clips, about as many as the study had
RATE, SECONDS = 44_100, 10.0


@dataclass(frozen=True, slots=True)
class Sample:
    """Clips in a folder per class, and a description."""

    folder: Path
    paths: tuple[Path, ...]
    labels: tuple[int, ...]
    words: str

    @classmethod
    def of(cls, folder: Path, words: str) -> "Sample":
        """The clips in `folder`; labels count the class folders in the order of their names."""
        names = sorted(path.name for path in folder.iterdir())
        paths = tuple(path for name in names for path in sorted((folder / name).iterdir()))
        return cls(folder, paths, tuple(names.index(path.parent.name) for path in paths), words)


def sound(label: int, number: int) -> np.ndarray:
    """Five tones over noise, int16 (samples, 2); each label and number gives another sound."""
    rng = np.random.default_rng([label, number])
    time = np.arange(round(SECONDS * RATE), dtype=np.float32) / RATE
    pitches = 110.0 * 2 ** (label / 5 + rng.uniform(0, 3, 5))
    tones = sum(
        np.sin(np.float32(2 * np.pi * hertz) * time + np.float32(phase))
        for hertz, phase in zip(pitches, rng.uniform(0, 6, 5), strict=True)
    )
    tones *= 3000 * (1 + np.float32(0.5) * np.sin(np.float32(rng.uniform(2, 20)) * time))
    noise = rng.integers(-1500, 1500, (len(time), 2), dtype=np.int16)
    return (tones[:, None] * np.float32([1, 0.7]) + noise).astype(np.int16)


def generate(folder: Path, total: int = LIMIT) -> Sample:
    """Write `total` WAV files into an empty folder, evenly over the study's five classes."""
    for number in range(total):
        label = number % len(MER500_CLASSES)
        path = folder / MER500_CLASSES[label] / f"{number:04d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        with wave.open(str(path), "wb") as file:
            file.setnchannels(2)
            file.setsampwidth(2)
            file.setframerate(RATE)
            file.writeframes(sound(label, number).tobytes())
    words = f"{total} generated clips (tones and noise) of {SECONDS:.0f} s, WAV, 44.1 kHz, stereo, 16 bit"
    return Sample.of(folder, words)


def spread(names: Iterable[str], limit: int) -> dict[str, int]:
    """Number of clips to take from each class: `limit` in all, as even as the classes allow."""
    left: dict[str, int] = {}
    for name in names:
        left[name] = left.get(name, 0) + 1
    taken = dict.fromkeys(left, 0)
    while limit and left:
        for name in sorted(left)[:limit]:
            taken[name] += 1
            left[name] -= 1
            limit -= 1
        left = {name: count for name, count in left.items() if count}
    return taken


def choose(root: Path, folder: Path, limit: int = LIMIT) -> Sample:
    """Link up to `limit` clips of a folder per class into `folder`, the first of each class by name.

    Files whose header cannot be read are passed over. Raises MerError if `root` holds no such folder.
    """
    import soundfile

    from mer.data.load import load_dataset

    found, seconds, skipped = [], 0.0, 0
    for clip in load_dataset(root).require_trainable().clips:
        try:
            length = soundfile.info(clip.path).duration
        except (soundfile.LibsndfileError, RuntimeError):
            length = 0.0
        if length < 1:
            skipped += 1
        else:
            found.append((clip, length))
    taken, used = spread((clip.label for clip, _ in found), limit), dict[str, int]()
    for clip, length in found:
        number = used.get(clip.label, 0)
        if number < taken[clip.label]:
            used[clip.label] = number + 1
            link = folder / clip.label / f"{number:04d}{clip.path.suffix}"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(clip.path.absolute())
            seconds += length
    total = sum(used.values())
    words = f"{total} of {len(found) + skipped} clips of {root.name}, {seconds / total:.1f} s on average"
    return Sample.of(folder, words)
