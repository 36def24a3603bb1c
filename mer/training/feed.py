"""Batches of input for a network. The next batch is read while the network works on the current one."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

import torch

from mer.audio.transforms import EvalTransform
from mer.data.windows import Windows
from mer.models.classifier import Classifier

__all__ = ["Feed", "OnDisk"]

RESIDENT = 0.3  # largest share of a GPU's free memory for images that stay there


class OnDisk(Protocol):
    """An array on disk from which rows can be read with a tensor of indices."""

    device: torch.device

    def __getitem__(self, indices: torch.Tensor) -> torch.Tensor: ...


@dataclass(slots=True)
class Feed:
    """Input for a network, or for its head alone if `embeddings` (windows, ...) are given."""

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
        """The input for each batch of window numbers, in order.

        Only reading is done ahead. Random changes are drawn when a batch is yielded, so always in the same
        order.
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
        """Images of some windows, float16 (windows, size, size), on the device."""
        if self._resident is not None:
            return self._resident[indices.to(self.device)]
        images = torch.from_numpy(self.windows.images(indices.numpy()))
        if self.device.type == "cuda":
            images = images.pin_memory()  # allows an asynchronous copy
        return images.to(self.device, non_blocking=True)

    def answer(self, model: Classifier, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (n, outputs) and pooling scores (n,) of a batch, by the whole network or only its head."""
        return model.answer(model.embed(inputs) if self.embeddings is None else inputs)
