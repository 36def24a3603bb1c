"""What a network is given batch by batch, fetched while it works on the batch before."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import torch

from mer.audio.transforms import EvalTransform
from mer.config.sections import TrainConfig
from mer.data.windows import Windows
from mer.models.zoo import Classifier
from mer.utils.machine import keep_memory

__all__ = ["Feed", "OnDisk", "choose_device", "in_batches", "looking", "pass_size", "passes"]

RESIDENT = 0.3  # share of a GPU's free memory that images may take for good


def choose_device(name: str) -> torch.device:
    """`auto` prefers CUDA, then Apple's MPS, then the CPU.

    This process is made ready for it: CUDA may use TF32 and choose its kernels by trial, a CPU keeps memory.
    """
    if name == "auto":
        kinds = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
        name = next((kind for kind, is_there in kinds.items() if is_there()), "cpu")
    device = torch.device(name)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
    elif device.type == "cpu":
        keep_memory()
    return device


def pass_size(device: torch.device) -> int:
    """Windows that pass through a network at once where nothing is learned: on a CPU few, for its cache."""
    return 16 if device.type == "cpu" else 64


def in_batches(order: torch.Tensor, size: int) -> list[torch.Tensor]:
    """Cut an order into batches; a last one of a single window joins its neighbour (batch-norm)."""
    parts = list(order.split(size))
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


def passes(model: Classifier, count: int, config: TrainConfig) -> list[torch.Tensor]:
    """Numbers of `count` windows, in order, as they pass through a network that is tested.

    Where there is no evaluation mode, what a window gives depends on its batch: then it is that of training,
    and a window that is alone comes twice, since batch-norm needs more than one value.
    """
    order = torch.arange(count)
    if not model.always_training:
        return list(order.split(pass_size(next(model.parameters()).device)))
    return in_batches(order, config.batch_size) if count > 1 else [order.repeat(2)]


@contextmanager
def looking(model: Classifier, seed: int) -> Iterator[None]:
    """The model ready to be tested: in evaluation mode or, if it has none, with dropout decided by `seed`."""
    model.eval()
    with torch.inference_mode():
        if not model.always_training:
            yield
            return
        device = next(model.parameters()).device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield


class OnDisk(Protocol):
    """What is not held in memory, but gives some rows of itself as a tensor would."""

    device: torch.device

    def __getitem__(self, indices: torch.Tensor) -> torch.Tensor: ...


@dataclass(slots=True)
class Feed:
    """Input for a network, or for its head alone where `embeddings` (windows, ...) are given."""

    windows: Windows
    transform: EvalTransform
    device: torch.device
    embeddings: torch.Tensor | OnDisk | None = None
    _resident: torch.Tensor | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if self.device.type == "cuda" and self.embeddings is None and self.windows.gathered is not None:
            images = torch.from_numpy(self.windows.gathered)
            if images.nbytes <= RESIDENT * torch.cuda.mem_get_info(self.device)[0]:
                self._resident = images.to(self.device)

    def stream(self, batches: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
        """The input for each batch of window numbers, in turn.

        Only reading happens ahead. What is random is drawn when its turn has come, in one order always.
        """
        if self.embeddings is not None:
            for indices in batches:
                yield self.embeddings[indices.to(self.embeddings.device)].to(self.device)
            return
        with ThreadPoolExecutor(1) as reader:
            coming = reader.submit(self._read, batches[0])
            for following in batches[1:]:
                images, coming = coming.result(), reader.submit(self._read, following)
                yield self.transform(images)
            yield self.transform(coming.result())

    def _read(self, indices: torch.Tensor) -> torch.Tensor:
        """Images of some windows, float16, on the device."""
        if self._resident is not None:
            return self._resident[indices.to(self.device)]
        images = torch.from_numpy(self.windows.images(indices.numpy()))
        if self.device.type == "cuda":
            images = images.pin_memory()  # so that the copy need not wait
        return images.to(self.device, non_blocking=True)

    def answer(self, model: Classifier, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and scores of windows, by the whole network or by its end alone."""
        return model.answer(model.embed(inputs) if self.embeddings is None else inputs)
