"""What a network is given batch by batch, fetched while it works on the batch before."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

import torch

from mer.audio.transforms import EvalTransform
from mer.data.windows import Windows
from mer.models.classifier import Classifier

__all__ = ["Feed", "OnDisk"]

RESIDENT = 0.3  # share of a GPU's free memory that images may take for good


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
