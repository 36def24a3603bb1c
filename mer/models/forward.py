"""Devices, and how many windows pass through a network at once."""

import torch

from mer.utils.machine import keep_memory

__all__ = ["choose_device", "in_batches", "pass_size"]


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
