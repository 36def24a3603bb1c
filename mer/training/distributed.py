"""Data-parallel training: several processes train one network, each on its share of every batch.

`torchrun --nproc-per-node N -m mer train ...` starts the processes and gives each its rank, the number of
processes and the address where they connect. Gradients and batch-norm statistics are combined over all
processes, so a step equals that of one process with the whole batch, up to rounding (Li et al., "PyTorch
Distributed", VLDB 2020). CPUs communicate by Gloo, GPUs by NCCL.
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

from mer.utils.errors import ConfigError, LostError, reason_of

__all__ = ["ALONE", "Ranks", "together"]

PATIENCE = timedelta(hours=2)  # how long the others wait while the first process prepares data


@dataclass(frozen=True, slots=True)
class Ranks:
    """The rank of this process, and the number of processes. Only the first writes files and prints."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """True for the process of rank 0."""
        return self.rank == 0

    def share(self, part: torch.Tensor, clips: np.ndarray | None = None) -> tuple[torch.Tensor, float]:
        """Select the part of a batch for this process.

        Parameters
        ----------
        part
            Window numbers of the batch, int64 (batch,).
        clips
            The clip of every window of the set, shape (windows,). If given, windows of a clip stay in one
            process. Default: windows are divided one by one.

        Returns
        -------
        torch.Tensor
            Window numbers for this process; never empty, since all processes must take part in each step.
        float
            Their share of the batch, 0 to 1: the weight of this process's loss. It is 0 if the batch has too
            few windows, or clips, for all processes.
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
        """Replace `values` by their sum over all processes, and return them."""
        if self.size > 1:
            with _lost_on_failure():
                dist.all_reduce(values)
        return values

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its sum over all processes, in one message, which is fastest."""
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
        """Raise LostError if another process dies during communication inside the network (batch-norm)."""
        try:
            yield
        except RuntimeError as error:
            # Gloo raises plain RuntimeErrors. Only their text, which names its source file, tells them apart.
            between = isinstance(error, dist.DistError) or "/gloo/" in str(error)
            if isinstance(error, LostError) or not between:
                raise
            with _lost_on_failure():
                raise

    def send(self, message: Any) -> None:
        """Send plain data (JSON) from the first process to the others, which call `receive`."""
        if self.size > 1:
            content = torch.tensor(list(json.dumps(message).encode()), dtype=torch.uint8)
            with _lost_on_failure():
                for part in (torch.tensor([len(content)]), content):
                    dist.broadcast(part, 0, group=_cpu_group())

    def receive(self) -> Any:
        """Receive the data that the first process sends with `send`."""
        with _lost_on_failure():
            length = torch.zeros(1, dtype=torch.int64)
            dist.broadcast(length, 0, group=_cpu_group())
            content = torch.zeros(int(length), dtype=torch.uint8)
            dist.broadcast(content, 0, group=_cpu_group())
        return json.loads(bytes(content.tolist()))


ALONE = Ranks()
_groups: list[Any] = []


@contextmanager
def _lost_on_failure() -> Iterator[None]:
    """Raise LostError for a failed communication: it means that another process has died."""
    try:
        yield
    except RuntimeError as error:
        raise LostError(
            f"another process of this training has ended ({reason_of(error, 100)}); "
            "read its error message, then continue with: mer runs resume"
        ) from error


def _cpu_group() -> Any:
    """The process group for CPU tensors: a Gloo group of its own beside NCCL, else the default group."""
    return _groups[-1] if _groups else None


@contextmanager
def together() -> Iterator[Ranks]:
    """Connect the processes that torchrun started. Without torchrun, this process is the only one.

    Raises ConfigError if there are more processes than GPUs on this machine, if torchrun's environment
    variables are incomplete, or if the processes cannot connect.
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
                f"there is no GPU for rank {local}; use --nproc-per-node with at most the number of GPUs"
            )
        torch.cuda.set_device(local)
    try:
        dist.init_process_group("nccl" if on_gpus else "gloo", timeout=PATIENCE)
        if on_gpus:
            _groups.append(dist.new_group(backend="gloo", timeout=PATIENCE))
    except (ValueError, RuntimeError) as error:  # a missing or wrong variable; no connection
        raise ConfigError(
            f"the {size} processes of this training cannot connect ({reason_of(error)}); start them with "
            "torchrun, and check MASTER_ADDR and MASTER_PORT"
        ) from error
    try:
        yield Ranks(dist.get_rank(), size)
    finally:
        _groups.clear()
        dist.destroy_process_group()
