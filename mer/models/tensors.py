"""Named tensors in safetensors files. Nothing here, or anywhere in mer, unpickles."""

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
    """Write tensors, and a note of plain data; raises StorageError on a full or read-only place."""
    metadata = {"note": json.dumps(note)} if note is not None else None
    dense = {name: tensor.contiguous() for name, tensor in tensors.items()}  # channels-last ones are not
    try:
        save_file(dense, path, metadata=metadata)
        path.chmod(0o644)  # safetensors writes for the owner alone
    except SafetensorError as error:
        raise StorageError(
            f"cannot write {path} ({error}); free some space or choose a writable place (MER_HOME, --out)"
        ) from error


def load_tensors(path: Path, *, most: int | None = None) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors and note of a file; raises ValueError with the reason if it is damaged.

    So is, unread, one whose header is longer than any of ours, or with more than `most` bytes of tensors.
    """
    try:
        _require_small(path, most)
        with safe_open(path, framework="pt") as file:
            note = json.loads((file.metadata() or {}).get("note", "{}"))
            if not isinstance(note, dict):
                raise ValueError("its note is no object")
            return {key: file.get_tensor(key) for key in file.keys()}, note  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({str(error)[:200]})") from error


def _require_small(path: Path, most: int | None) -> None:
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")  # then as many bytes of JSON, then the tensors
    if header > MAX_HEADER:
        raise ValueError(f"a header of {header} bytes, where at most {MAX_HEADER} are read")
    size = path.stat().st_size - 8 - header
    if most is not None and size > most:
        raise ValueError(f"{size} bytes of tensors, where {most} would do")
