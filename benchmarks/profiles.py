"""Profile the first pass over clips, and training of a whole network.

    python -m benchmarks.profiles

prints, for each, the share of its steps (cProfile, generated clips, one process).
"""

import cProfile
import pstats
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.sample import generate
from mer.audio.mel import Standardizer
from mer.audio.transforms import TrainTransform
from mer.config.presets import preset
from mer.data.cache.store import FeatureStore
from mer.data.windows import WindowSet
from mer.models.build import configured_classifier
from mer.models.forward import choose_device
from mer.training.loop import fit
from mer.utils.parallel import one_thread

__all__ = ["shares"]

Steps = dict[str, list[tuple[str, str]]]

CLIPS, STEPS = 120, 12
# Name of a step -> its functions, as (end of the file's path, function).
FIRST_PASS: Steps = {
    "reading the file": [("pathlib.py", "read_bytes")],
    "hash of its bytes": [("~", "<built-in method _hashlib.openssl_sha256>")],
    "decoding, mixing to mono, checking": [("mer/audio/decode.py", "decode")],
    "hash of what is heard": [("mer/audio/decode.py", "content_hash")],
    "resampling to 16 kHz": [("mer/audio/resampling.py", "resample")],
    "log-mel and resizing": [("mer/audio/mel.py", "images")],
    "writing with checksums": [
        ("mer/data/cache/arrays.py", "write_array"),
        ("mer/data/cache/store.py", "_write_facts"),
    ],
}
FINE_TUNE: Steps = {
    "forward": [("mer/models/classifier.py", "embed"), ("mer/models/classifier.py", "answer")],
    "backward": [("torch/_tensor.py", "backward")],
    "optimizer": [("torch/optim/adam.py", "step")],
    "reading and augmenting": [("mer/training/feed.py", "stream")],
}


def shares(
    work: Callable[[], object], steps: dict[str, list[tuple[str, str]]]
) -> tuple[float, dict[str, float]]:
    """Profile some work; returns its seconds and the share of each step, the remainder as "the rest"."""
    profile = cProfile.Profile()
    profile.runcall(work)
    stats = pstats.Stats(profile)
    found = {
        title: sum(
            row[3] for key, row in stats.stats.items() for file, name in functions
            if key[0].endswith(file) and key[2] == name
        ) / stats.total_tt
        for title, functions in steps.items()
    }  # fmt: skip
    return stats.total_tt, found | {"the rest": 1 - sum(found.values())}


def first_pass(folder: Path) -> str:
    """Features of new clips by preset `paper`, one process of one thread."""
    paths, config = generate(folder / "clips", CLIPS + 10).paths, preset("paper")
    store, choice = FeatureStore(folder / "store"), {"audio": config.audio, "mel": config.mel}
    with one_thread():
        store.prepare(paths[:10], workers=1, **choice)
        taken, found = shares(lambda: store.prepare(paths[10:], workers=1, **choice), FIRST_PASS)
    return words(f"first pass, {1000 * taken / CLIPS:.1f} ms a clip", found)


def fine_tune(folder: Path) -> str:
    """Steps of preset `full` on EfficientNet-Lite0, batches of 16, all threads."""
    config = preset("full")
    train = config.train.replace(backbone="efficientnet_lite0", weights="none", epochs=1, device="cpu")
    store = FeatureStore(folder / "store")
    paths = sorted((folder / "clips").rglob("*.wav"))
    choice = {"audio": config.audio, "mel": config.mel}
    images = [store.load(facts, **choice)[:] for facts in store.prepare(paths, **choice)]
    count = STEPS * train.batch_size
    clips = [images[number % len(images)] for number in range(count)]
    windows = WindowSet(clips, [number % 5 for number in range(count)], classes=5)
    transform = TrainTransform(Standardizer.fit(windows.batches()), config.augment)
    model = configured_classifier(train, classes=5).to(memory_format=torch.channels_last)

    def work() -> None:
        fit(model, windows, None, transform=transform, config=train)

    work()
    taken, found = shares(work, FINE_TUNE)
    return words(f"full fine-tune, {1000 * taken / STEPS:.0f} ms a step of {train.batch_size}", found)


def words(title: str, found: dict[str, float]) -> str:
    """One line of text, the largest share first."""
    parts = sorted(found.items(), key=lambda item: -item[1])
    return f"{title}: " + ", ".join(f"{name} {share:.0%}" for name, share in parts)


def main() -> None:
    """Print both profiles."""
    choose_device("cpu")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "clips").mkdir()
        for part in (first_pass, fine_tune):
            sys.stdout.write(part(Path(folder)) + "\n")


if __name__ == "__main__":
    main()
