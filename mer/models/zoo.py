"""The zoo: one registry of pretrained networks. Most were trained on ImageNet, some on music or AudioSet.

To add a network, register an entry: how to build it, where its weights come from, which linear layer the
new head replaces, how to compute its feature map, and which parameters are its last stage.

torchvision and timm take two seconds to import, so only the functions that need them do so.
"""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from mer.models.music_vgg import MusicVGG, averaged_output
from mer.models.musicnn import MusicNN
from mer.models.panns import cnn14, mobilenet
from mer.models.panns_weights import AudioSetWeights, panns_tensors
from mer.models.weights import LITE0, MusicWeights, Source, StateDict, TorchvisionWeights, load_weights_file
from mer.utils.errors import BackboneError

__all__ = ["ZOO", "Backbone", "get_backbone", "register"]

FeatureMap = Callable[[nn.Module, torch.Tensor], torch.Tensor]

MUSIC_EXAMPLE = (96, 626)  # 10 s
PANNS_EXAMPLE = (64, 1001)  # 10 s

# These give several outputs in training, or (RegNet) cannot be built on the meta device.
UNSUITABLE = ("googlenet", "inception", "regnet")


@dataclass(frozen=True, slots=True)
class Backbone:
    """One entry of the zoo.

    Parameters
    ----------
    name
        Name on the command line and in cards.
    build
        Makes the network with random weights.
    source
        Where the pretrained weights come from.
    output
        Path of the linear layer that the new head replaces.
    last
        Prefixes of the parameters of the last stage, which train with `freeze="last"`.
    cam
        Path of the module whose output is the feature map. None if it is unknown.
    feature_map
        Computes the feature map (n, channels, rows, columns) of images. None if it is unknown.
    example
        Rows and columns of an image that the network takes.
    read
        Reads a file of weights for this network.
    """

    name: str
    build: Callable[[], nn.Module]
    source: Source
    output: str
    last: tuple[str, ...]
    cam: str | None = None
    feature_map: FeatureMap | None = None
    example: tuple[int, int] = (224, 224)
    read: Callable[[Path, torch.device], StateDict] = load_weights_file


ZOO: dict[str, Backbone] = {}


def register(backbone: Backbone) -> None:
    """Add an entry; raises BackboneError if the name is taken."""
    if backbone.name in ZOO:
        raise BackboneError(f"backbone {backbone.name!r} is already registered; choose another name")
    ZOO[backbone.name] = backbone


def _children_map(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The output of the part that torchvision calls `features`."""
    return net.features(x)


def _densenet_map(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return F.relu(net.features(x))


def _resnet_map(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    x = net.maxpool(net.relu(net.bn1(net.conv1(x))))
    return net.layer4(net.layer3(net.layer2(net.layer1(x))))


def _timm_map(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return net.forward_features(x)


def _torchvision(
    name: str, output: str, last: tuple[str, ...], cam: str | None = None, seen: FeatureMap | None = None
) -> Backbone:
    """An entry for a torchvision network."""

    def build() -> nn.Module:
        import torchvision.models

        return torchvision.models.get_model(name, weights=None)

    return Backbone(name, build, TorchvisionWeights(name), output, last, cam, seen)


def _own_map(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return net.feature_map(x)


def _musicnn(corpus: str) -> Backbone:
    name = f"musicnn_{corpus}"
    source = MusicWeights(name, parameters=787_159)
    return Backbone(
        name, MusicNN, source, "back.7", ("middle", "back"), "middle", _own_map, example=MUSIC_EXAMPLE
    )


def _music_vgg(corpus: str) -> Backbone:
    name = f"vgg_{corpus}"
    source = MusicWeights(name, parameters=599_348, adapt=averaged_output)
    build = partial(MusicVGG, corpus, steps=1)
    return Backbone(
        name, build, source, "output.1", ("block5", "output"), "block5", _own_map, example=MUSIC_EXAMPLE
    )


def _panns(build: Callable[[], nn.Module], source: AudioSetWeights, last: tuple[str, ...]) -> Backbone:
    return Backbone(
        source.model,
        build,
        source,
        "back.4",
        (*last, "back"),
        "features",
        _own_map,
        PANNS_EXAMPLE,
        panns_tensors,
    )


CNN14 = AudioSetWeights(
    "panns_cnn14",
    "Cnn14_16k_mAP=0.438.pth",
    80_753_615,
    (
        ("md5", "362fc5ff18f1d6ad2f6d464b45893f2c"),
        ("sha256", "e2ee543a27919542c2ea03eabaa70b24dcd4e6c8e05621de6b67a94e4c5058e6"),
    ),
)
MOBILENET = AudioSetWeights(
    "panns_mobilenet",
    "MobileNetV1_mAP=0.389.pth",
    4_796_303,
    (("md5", "a419303e1c88aa1b9d2ac3811563d371"),),
)


def _lite0() -> nn.Module:
    import timm

    return timm.create_model("tf_efficientnet_lite0", pretrained=False)


for _entry in (
    _torchvision("alexnet", "classifier.6", ("features.10", "classifier"), "features", _children_map),
    _torchvision("vgg16", "classifier.6", ("features.28", "classifier"), "features", _children_map),
    _torchvision(
        "mobilenet_v3_small",
        "classifier.3",
        ("features.11", "features.12", "classifier"),
        "features",
        _children_map,
    ),
    _torchvision("resnet18", "fc", ("layer4",), "layer4", _resnet_map),
    _torchvision("resnet50", "fc", ("layer4",), "layer4", _resnet_map),
    _torchvision(
        "densenet121", "classifier", ("features.denseblock4", "features.norm5"), "features", _densenet_map
    ),
    _torchvision("efficientnet_b0", "classifier.1", ("features.7", "features.8"), "features", _children_map),
    Backbone(
        "efficientnet_lite0", _lite0, LITE0, "classifier", ("blocks.6", "conv_head", "bn2"), "bn2", _timm_map
    ),
    *map(_musicnn, ("msd", "mtt")),
    *map(_music_vgg, ("msd", "mtt")),
    _panns(cnn14, CNN14, ("features.5",)),
    _panns(mobilenet, MOBILENET, ("features.12", "features.13")),
):
    register(_entry)


def get_backbone(name: str) -> Backbone:
    """The entry with this name.

    For any other classification model of torchvision, an entry is derived from the model. Raises
    BackboneError, which lists the valid names, for an unknown name.
    """
    if name in ZOO:
        return ZOO[name]
    import torchvision.models

    others = torchvision.models.list_models(module=torchvision.models)
    if name in others:
        return _any_torchvision(name)
    close = difflib.get_close_matches(name, [*ZOO, *others], n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    raise BackboneError(
        f"unknown backbone {name!r}{hint}; the zoo: {', '.join(ZOO)}; "
        "also any torchvision classification model by its name there"
    )


def _any_torchvision(name: str) -> Backbone:
    """An entry derived from the model, whose output is the last linear layer."""
    if name.startswith(UNSUITABLE):
        raise BackboneError(f"backbone {name!r} cannot be fine-tuned here; choose one of: {', '.join(ZOO)}")
    import torchvision.models

    with torch.device("meta"):
        net = torchvision.models.get_model(name, weights=None)
    linear = [path for path, module in net.named_modules() if isinstance(module, nn.Linear)]
    owners = [path for path, _ in net.named_parameters()]
    if not linear or not owners[-1].startswith(linear[-1] + "."):
        raise BackboneError(
            f"backbone {name!r} does not end in a linear layer; choose one of: {', '.join(ZOO)}"
        )
    body = [path for path in owners if not path.startswith(linear[-1] + ".")]
    last = body[-1].rsplit(".", 1)[0].split(".")
    return _torchvision(name, linear[-1], (".".join(last[:2]),))
