"""The algorithm of the released code of the study of 2022, rewritten as the baseline of the benchmarks.

    python -m benchmarks.baseline --data DIR --backbones alexnet,vgg16 --batch-sizes 64 --epochs 5

trains each network on a folder per class of audio files and prints one JSON object: test score and seconds
of each. Audio is decoded again in every epoch, by two processes, and every epoch steps through the whole
network, of which only the classifier trains. The 1000-way head stays, and so does the training mode, even
for the test. Weights are random, which takes as long as pretrained ones. Where the study's code leaves a
choice, the faster way is taken: only the used part of each file is read, each worker uses one thread (more
slow each other down), and nothing is kept on disk.
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import librosa
import numpy as np
import torch
import torch.nn.functional as F
import torchvision.models
from threadpoolctl import threadpool_limits
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset

__all__ = [
    "BATCH",
    "RATE",
    "WORKERS",
    "Clips",
    "batches",
    "head",
    "image",
    "load",
    "network",
    "picture",
    "split",
]

RATE, SIZE, HOP, N_FFT, F_MAX = 22_050, 224, 512, 2048, 8000
SAMPLES = SIZE * HOP  # 5.2 s; the rest of a clip is not used
BATCH, WORKERS, EPOCHS, SEED = 64, 2, 5, 42


def load(path: Path) -> np.ndarray:
    """The beginning of a clip, mono at 22.05 kHz."""
    return librosa.load(path, sr=RATE, duration=SAMPLES / RATE)[0]


def picture(wave: np.ndarray) -> torch.Tensor:
    """Mono samples at 22.05 kHz -> log-mel in dB below the loudest point, float32 (3, 224, 224)."""
    wave = librosa.util.fix_length(wave[:SAMPLES], size=SAMPLES)
    mel = librosa.feature.melspectrogram(
        y=wave, sr=RATE, n_mels=SIZE, n_fft=N_FFT, hop_length=HOP, fmax=F_MAX
    )
    level = torch.from_numpy(librosa.power_to_db(mel, ref=np.max))
    resized = F.interpolate(level[None, None], size=(SIZE, SIZE), mode="bilinear")
    return resized[0].expand(3, -1, -1)


def image(path: Path) -> torch.Tensor:
    """A clip as input of the network, float32 (3, 224, 224)."""
    return picture(load(path))


class Clips(Dataset):
    """Images and labels of audio files; each access decodes the file again."""

    def __init__(self, paths: Sequence[Path], labels: Sequence[int]) -> None:
        self.paths, self.labels = list(paths), list(labels)
        image(self.paths[0])  # librosa loads much of itself at the first clip: once here, not in every worker

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return image(self.paths[index]), self.labels[index]


def _start_worker(_: int) -> None:
    threadpool_limits(1)


def batches(
    clips: Dataset, *, size: int = BATCH, shuffle: bool = False, workers: int = WORKERS
) -> DataLoader:
    """The clips in batches, made by worker processes that start again for each pass."""
    return DataLoader(
        clips, batch_size=size, shuffle=shuffle, num_workers=workers, worker_init_fn=_start_worker
    )


def split(total: int) -> tuple[list[int], list[int]]:
    """Training and test indices, 80 to 20, by one shuffle."""
    order = list(range(total))
    random.Random(SEED).shuffle(order)
    cut = round(0.8 * total)
    return order[:cut], order[cut:]


def head(net: nn.Module) -> nn.Module:
    """The part that trains: `classifier` or `fc`, whichever the network has."""
    return net.classifier if hasattr(net, "classifier") else net.fc


def network(name: str) -> nn.Module:
    """A torchvision network with its 1000 outputs, frozen except for the head."""
    net = torchvision.models.get_model(name, weights=None).requires_grad_(False)
    head(net).requires_grad_(True)
    return net


def train(net: nn.Module, clips: Dataset, *, size: int, epochs: int, workers: int = WORKERS) -> None:
    """Train the head with Adam at its default rate; every step goes through the whole network."""
    optimizer = torch.optim.Adam(head(net).parameters())
    net.train()
    for _ in range(epochs):
        for images, labels in batches(clips, size=size, shuffle=True, workers=workers):
            loss = F.cross_entropy(net(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def score(net: nn.Module, clips: Dataset, *, size: int, workers: int = WORKERS) -> float:
    """Share of clips whose class is the first of the 1000 outputs; the network stays in training mode."""
    right = 0
    with torch.no_grad():
        for images, labels in batches(clips, size=size, workers=workers):
            right += int((net(images).argmax(1) == labels).sum())
    return right / len(clips)


def run(clips: Dataset, name: str, *, size: int, epochs: int) -> dict[str, object]:
    """Train and test one network; its score and how long that took."""
    started = time.perf_counter()
    torch.manual_seed(SEED)
    net = network(name)
    training, test = (Subset(clips, part) for part in split(len(clips)))
    train(net, training, size=size, epochs=epochs)
    result = score(net, test, size=size)
    taken = time.perf_counter() - started
    return {"backbone": name, "batch_size": size, "score": result, "seconds": round(taken, 2)}


def read(folder: Path) -> Clips:
    """All files of a folder per class; the label is the class folder's place in the alphabet."""
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    paths = [path for name in names for path in sorted((folder / name).rglob("*")) if path.is_file()]
    return Clips(paths, [names.index(path.relative_to(folder).parts[0]) for path in paths])


def main(words: Sequence[str] | None = None) -> None:
    """Train each network with each batch size, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="a folder per class")
    parser.add_argument("--backbones", required=True, metavar="A,B", help="torchvision's names")
    parser.add_argument("--batch-sizes", default=str(BATCH), metavar="N,N")
    parser.add_argument("--epochs", type=int, default=EPOCHS, metavar="N")
    options = parser.parse_args(words)
    clips = read(options.data)
    runs = [
        run(clips, name, size=int(size), epochs=options.epochs)
        for name in options.backbones.split(",")
        for size in options.batch_sizes.split(",")
    ]
    sys.stdout.write(json.dumps({"clips": len(clips), "runs": runs}) + "\n")


if __name__ == "__main__":
    main()
