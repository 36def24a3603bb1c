"""Checkpoints: folders with weights as safetensors, and a card. Nothing is unpickled."""

import json
from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path

import torch

from mer.audio.mel import Standardizer
from mer.models.build import configured_classifier
from mer.models.card import CARD, PAGE, WEIGHTS, Card, load_card, member_folders, page
from mer.models.classifier import Classifier
from mer.models.tensors import load_tensors, save_tensors
from mer.utils.errors import CheckpointError, MerError
from mer.utils.files import as_path, new_folder

__all__ = ["copy_checkpoint", "load_checkpoint", "save_checkpoint", "write_ensemble", "write_files"]


def save_checkpoint(folder: Path, model: Classifier, card: Card) -> Path:
    """Write weights and card into a new folder, which appears only when it is complete.

    Parameters
    ----------
    folder
        The folder.
    model
        The network.
    card
        Its card. Floats are saved as `card.dtype`.

    Returns
    -------
    Path
        `folder`.

    Raises
    ------
    StorageError
        If the folder is not empty or cannot be written.
    """
    with new_folder(folder) as draft:
        write_files(draft, model, card)
    return folder


def write_files(folder: Path, model: Classifier, card: Card) -> None:
    """Write the files of a checkpoint into an existing folder; for the parameters see `save_checkpoint`."""
    dtype = getattr(torch, card.dtype)
    tensors = {
        name: (t.to(dtype) if t.is_floating_point() else t).cpu() for name, t in model.state_dict().items()
    }
    save_tensors(folder / WEIGHTS, tensors)
    _write_card(folder, card)


def _write_card(folder: Path, card: Card) -> None:
    (folder / CARD).write_text(json.dumps(card.to_dict(), indent=1, ensure_ascii=False), "utf-8")
    (folder / PAGE).write_text(page(card), "utf-8")


def write_ensemble(folder: Path, members: Sequence[Path], card: Card) -> None:
    """Write the files of an ensemble into an existing folder: copies of its members in order, and its card.

    Parameters
    ----------
    folder
        The folder of the ensemble.
    members
        Folders of the members' checkpoints.
    card
        Card of the ensemble. If `card.dtype` is float16, the members are saved as float16 too.

    Raises
    ------
    CheckpointError
        If a member is damaged or does not fit the ensemble.
    """
    for source, place in zip(members, member_folders(folder, card), strict=True):
        model, _, own = load_checkpoint(source)
        place.mkdir()
        write_files(place, model, replace(own, dtype="float16") if card.dtype == "float16" else own)
    _write_card(folder, card)
    load_card(folder)


def copy_checkpoint(source: Path, out: Path, *, half: bool = False, notes: str = "") -> Card:
    """Copy a checkpoint into a new folder.

    Parameters
    ----------
    source, out
        The checkpoint, and the folder of the copy.
    half
        Save floats as float16.
    notes
        Text that is put before the card's own notes.

    Returns
    -------
    Card
        The card of the copy.

    Raises
    ------
    CheckpointError
        If the checkpoint is damaged.
    StorageError
        If `out` is not empty or cannot be written.
    """
    card = load_card(source)
    card = replace(card, notes=f"{notes}\n\n{card.notes}".strip(), dtype="float16" if half else card.dtype)
    if not card.members:
        save_checkpoint(out, load_checkpoint(source)[0], card)
        return card
    with new_folder(out) as draft:
        write_ensemble(draft, member_folders(source, card), card)
    return card


def load_checkpoint(folder: str | PathLike) -> tuple[Classifier, Standardizer, Card]:
    """Load the model of a checkpoint, in evaluation mode on the CPU, with its standardiser and its card.

    Raises CheckpointError if card and weights do not fit together, or if the checkpoint is an ensemble, which
    `mer.inference.ensemble` loads.
    """
    folder = as_path(folder, "checkpoint")
    card = load_card(folder)
    if card.members:
        raise CheckpointError(
            f"{folder} is an ensemble; give one of its networks, such as {member_folders(folder, card)[0]}"
        )
    with torch.device("meta"):
        model = _build(card, folder)
    most = 2 * sum(tensor.nbytes for tensor in model.state_dict().values())  # room for float64
    try:
        tensors, _ = load_tensors(folder / WEIGHTS, most=most)
    except ValueError as error:
        raise CheckpointError(f"{error}; export the checkpoint again") from error
    with torch.device("meta"):
        model.resize_as(tensors)
    _require_same(model.state_dict(), tensors, folder)
    _require_finite(tensors, folder)
    floats = {name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}
    model.load_state_dict(floats, assign=True)
    per_window = card.config.train.standardize == "window"
    return model.eval(), Standardizer(**card.normalization, per_window=per_window), card


def _build(card: Card, folder: Path) -> Classifier:
    try:
        model = configured_classifier(card.config.train, classes=len(card.classes), weights="none")
        model.require_input(card.config.input_shape)
        return model
    except MerError as error:
        raise CheckpointError(f"{folder / CARD}: {error}") from error


def _require_same(wanted: dict[str, torch.Tensor], found: dict[str, torch.Tensor], folder: Path) -> None:
    for name in sorted(wanted.keys() | found.keys()):
        asked, has = _describe(wanted.get(name)), _describe(found.get(name))
        if asked != has:
            raise CheckpointError(
                f"{folder}: according to the card, {name} should be {asked}, but in {WEIGHTS} it is {has}; "
                "card and weights do not belong together: export the checkpoint again"
            )


def _require_finite(tensors: dict[str, torch.Tensor], folder: Path) -> None:
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise CheckpointError(
                f"{folder}: {name} in {WEIGHTS} has values that are not finite; train again with a lower lr"
            )


def _describe(tensor: torch.Tensor | None) -> str:
    if tensor is None:
        return "absent"
    return f"{'' if tensor.is_floating_point() else 'of whole numbers '}of shape {tuple(tensor.shape)}"
