"""Named tensors in safetensors files, which need no unpickling."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from mer.utils.errors import StorageError

__all__ = ["load_tensors", "save_tensors"]

MAX_HEADER = 16 * 2**20  # bytes; the largest network of the zoo has 120 KB


def save_tensors(path: Path, tensors: dict[str, torch.Tensor], note: dict[str, Any] | None = None) -> None:
    """Write named tensors to a safetensors file.

    Parameters
    ----------
    path
        The file.
    tensors
        Tensors by name.
    note
        Plain data for JSON, kept in the file's metadata.

    Raises
    ------
    StorageError
        If the disk is full or read-only.
    """
    metadata = {"note": json.dumps(note)} if note is not None else None
    dense = {name: tensor.contiguous() for name, tensor in tensors.items()}  # channels-last tensors are not
    try:
        save_file(dense, path, metadata=metadata)
        path.chmod(0o644)  # safetensors lets only the owner read
    except SafetensorError as error:
        raise StorageError(
            f"cannot write {path} ({error}); free some space or choose a writable place (MER_HOME, --out)"
        ) from error


def load_tensors(path: Path, *, most: int | None = None) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read the tensors and the note of a file.

    Parameters
    ----------
    path
        A safetensors file.
    most
        Largest size of all tensors in bytes. Default: no limit.

    Raises
    ------
    ValueError
        If the file is damaged, its header is over 16 MB, or it has more than `most` bytes. Sizes are checked
        before reading.
    """
    try:
        _require_small(path, most)
        with safe_open(path, framework="pt") as file:
            note = json.loads((file.metadata() or {}).get("note", "{}"))
            if not isinstance(note, dict):
                raise ValueError("its note is not an object")
            return {key: file.get_tensor(key) for key in file.keys()}, note  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({str(error)[:200]})") from error


def _require_small(path: Path, most: int | None) -> None:
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")  # length of the header (JSON) that follows
    if header > MAX_HEADER:
        raise ValueError(f"its header has {header} bytes, more than {MAX_HEADER}")
    size = path.stat().st_size - 8 - header
    if most is not None and size > most:
        raise ValueError(f"it has {size} bytes of tensors, more than {most}")
