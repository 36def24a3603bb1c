"""The state of an unfinished run on disk: one safetensors file, replaced atomically after each epoch."""

from pathlib import Path

import torch

from mer.models.tensors import load_tensors, save_tensors
from mer.training.loop import State
from mer.utils.errors import RunError
from mer.utils.files import atomic_path
from mer.utils.versions import CURRENT, upgraded

__all__ = ["load_state", "save_state"]


def save_state(path: Path, state: State) -> None:
    """Replace the state on disk. A crash leaves the old state intact. Raises StorageError."""
    tensors = {f"model/{name}": tensor for name, tensor in state.model.items()}
    tensors |= {f"best/{name}": tensor.clone() for name, tensor in state.best.items()}
    for index, entries in state.optimizer["state"].items():
        tensors |= {f"optimizer/{index}/{key}": value.cpu() for key, value in entries.items()}
    plain = {
        "format": CURRENT["state"],
        "epoch": state.epoch,
        "history": state.history,
        "best_epoch": state.best_epoch,
        "param_groups": state.optimizer["param_groups"],
    }
    with atomic_path(path) as temporary:
        save_tensors(temporary, tensors, plain)


def load_state(path: Path) -> State | None:
    """The state on disk; None if no epoch was finished. Raises RunError on damage or a newer format."""
    if not path.is_file():
        return None
    parts: dict[str, dict[str, torch.Tensor]] = {"model": {}, "best": {}, "optimizer": {}}
    try:
        tensors, plain = load_tensors(path)
        plain = upgraded("state", plain, plain.get("format"), where=str(path), error=RunError)
        for key, tensor in tensors.items():
            kind, _, name = key.partition("/")
            parts[kind][name] = tensor
        return State(
            epoch=plain["epoch"],
            history=plain["history"],
            model=parts["model"],
            best=parts["best"],
            best_epoch=plain["best_epoch"],
            optimizer={"state": _by_parameter(parts["optimizer"]), "param_groups": plain["param_groups"]},
        )
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} cannot be used ({error}); delete it to start the run over") from error


def _by_parameter(tensors: dict[str, torch.Tensor]) -> dict[int, dict[str, torch.Tensor]]:
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, key = name.partition("/")
        state.setdefault(int(index), {})[key] = tensor
    return state
