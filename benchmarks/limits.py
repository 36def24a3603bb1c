"""Times of single steps on one thread, without any overhead around them."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import soundfile
import torch
from threadpoolctl import threadpool_limits
from torch import nn

from benchmarks import baseline
from benchmarks.timing import in_ms, seconds
from mer.audio.decode import decode
from mer.audio.mel import images
from mer.audio.resampling import resample
from mer.config.sections import Config
from mer.utils.parallel import one_thread

__all__ = ["baseline_steps", "batch_forward", "forward", "network", "steps", "words"]


@contextmanager
def _alone() -> Iterator[None]:
    """Limit torch and NumPy to one thread."""
    with one_thread(), threadpool_limits(1):
        yield


@lru_cache(maxsize=4)
def steps(path: Path, config: Config) -> dict[str, float]:
    """Milliseconds per clip for reading with libsndfile, our resampling and our mel images."""
    clip = decode(path)
    heard = resample(clip.waveform, rate=clip.rate, audio=config.audio)
    with _alone():
        return {
            "decode": in_ms(lambda: soundfile.read(path, dtype="int16")),
            "resample": in_ms(lambda: resample(clip.waveform, rate=clip.rate, audio=config.audio)),
            "mel": in_ms(lambda: images(heard, audio=config.audio, mel=config.mel)),
        }


@lru_cache(maxsize=4)
def baseline_steps(path: Path) -> dict[str, float]:
    """Milliseconds per clip of the baseline: librosa's decoding of 5.2 s and its mel-spectrogram."""
    heard = baseline.load(path)
    with _alone():
        return {
            "decode and resample": in_ms(lambda: baseline.load(path)),
            "mel": in_ms(lambda: baseline.picture(heard)),
        }


def network(name: str) -> nn.Module:
    """A torchvision network in evaluation mode, with random weights."""
    return baseline.network(name).eval()


def forward(net: nn.Module) -> float:
    """Milliseconds of a forward pass for one image."""
    image = torch.zeros(1, 3, 224, 224)
    with _alone(), torch.inference_mode():
        return in_ms(lambda: net(image))


def batch_forward(name: str, size: int = 16) -> float:
    """Seconds per image of a forward pass in a batch, on all threads."""
    net = network(name).to(memory_format=torch.channels_last)
    images_ = torch.zeros(size, 3, 224, 224).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        net(images_)
        return min(seconds(lambda: net(images_)) for _ in range(3)) / size


def words(who: str, found: dict[str, float]) -> str:
    """Milliseconds of each step in a sentence."""
    return f"{who}, a clip on one thread: " + ", ".join(f"{name} {ms:.1f} ms" for name, ms in found.items())
