"""Devices, and the number of windows per forward pass."""

import torch

from mer.utils.machine import keep_memory

__all__ = ["choose_device", "in_batches", "pass_size"]


def choose_device(name: str) -> torch.device:
    """The torch device for a setting; "auto" takes CUDA, else Apple's MPS, else the CPU.

    It also configures this process: CUDA may use TF32 and benchmarks its kernels, and on a CPU freed memory
    is kept for reuse.
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
    """Windows per forward pass without training; few on a CPU, so that they fit its cache."""
    return 16 if device.type == "cpu" else 64


def in_batches(order: torch.Tensor, size: int) -> list[torch.Tensor]:
    """Split an order into batches. A last batch of one window joins the one before it, for batch-norm."""
    parts = list(order.split(size))
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts
