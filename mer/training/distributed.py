"""Several processes that train one network together, each on its share of every batch (data parallel).

`torchrun --nproc-per-node N -m mer train ...` starts them and tells each its rank, how many there are and
where they meet. Gradients, and what batch-norm measures, are summed over all, so a step is that of one
process with the whole batch, to rounding (Li et al., "PyTorch Distributed", VLDB 2020). Gloo joins CPUs, NCCL
GPUs.
"""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from mer.utils.errors import ConfigError, LostError

__all__ = ["ALONE", "Ranks", "together"]

PATIENCE = timedelta(hours=2)  # for the first to prepare what the others then read


@dataclass(frozen=True, slots=True)
class Ranks:
    """The number of one process among so many. Only the first writes and tells."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """True for the one that writes."""
        return self.rank == 0

    def share(self, part: torch.Tensor, clips: np.ndarray | None = None) -> tuple[torch.Tensor, float]:
        """Window numbers of a batch -> this process's own, and which share of the batch they are.

        Windows of one clip, by `clips` (windows,), stay together where that is given. Who would have none has
        one with a share of 0.
        """
        if self.size == 1:
            return part, 1.0
        units = part.numpy() if clips is None else clips[part.numpy()]
        order = np.fromiter(dict.fromkeys(units.tolist()), units.dtype)
        mine = order[self.rank :: self.size]
        share = len(mine) / len(order)
        mine = mine if len(mine) else order[:1]
        return part[torch.from_numpy(np.isin(units, mine))], share

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over all processes, in place."""
        if self.size > 1:
            with _met():
                dist.all_reduce(values)
        return values

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its sum over all processes; all at once, for one message costs as many."""
        if self.size == 1:
            return
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        for parameter in trained:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        whole = self.sum(torch.cat([parameter.grad.flatten() for parameter in trained]))
        start = 0
        for parameter in trained:
            stop = start + parameter.numel()
            parameter.grad.copy_(whole[start:stop].view_as(parameter))
            start = stop

    @contextmanager
    def training(self) -> Iterator[None]:
        """Raise LostError where another process is gone in the midst of a network's own sums (batch-norm)."""
        try:
            yield
        except RuntimeError as error:
            between = isinstance(error, dist.DistError) or "/gloo/" in str(error)
            if isinstance(error, LostError) or not between:
                raise
            with _met():
                raise

    def tell(self, message: Any) -> None:
        """Have the others `hear` what JSON can hold; from the first alone."""
        if self.size > 1:
            content = torch.tensor(list(json.dumps(message).encode()), dtype=torch.uint8)
            with _met():
                for part in (torch.tensor([len(content)]), content):
                    dist.broadcast(part, 0, group=_small_talk())

    def hear(self) -> Any:
        """What the first tells."""
        with _met():
            length = torch.zeros(1, dtype=torch.int64)
            dist.broadcast(length, 0, group=_small_talk())
            content = torch.zeros(int(length), dtype=torch.uint8)
            dist.broadcast(content, 0, group=_small_talk())
        return json.loads(bytes(content.tolist()))


ALONE = Ranks()
_groups: list[Any] = []


@contextmanager
def _met() -> Iterator[None]:
    """Say in words that another process is gone: what fails here is a message to it."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).splitlines()[0][:100]
        raise LostError(
            f"another process of this training is gone ({reason}); see its message, then: mer runs resume"
        ) from error


def _small_talk() -> Any:
    """The group for tensors on the CPU: the only one there is, unless GPUs train."""
    return _groups[-1] if _groups else None


@contextmanager
def together() -> Iterator[Ranks]:
    """The processes that torchrun started; this one alone where it did not.

    Raises ConfigError where they cannot meet.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    on_gpus = torch.cuda.is_available()
    if on_gpus:
        if local >= torch.cuda.device_count():
            raise ConfigError(
                f"rank {local} has no GPU of its own; use --nproc-per-node up to the GPUs' number"
            )
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if on_gpus else "gloo", timeout=PATIENCE)
    if on_gpus:
        _groups.append(dist.new_group(backend="gloo", timeout=PATIENCE))
    try:
        yield Ranks(dist.get_rank(), size)
    finally:
        _groups.clear()
        dist.destroy_process_group()
