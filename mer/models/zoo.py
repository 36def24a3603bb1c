"""The zoo: one registry of networks pretrained on ImageNet, and the classifier made of one.

An entry says how to build the network, where its weights come from, which linear layer the new head
replaces, how to reach its feature map, and which parameters count as its last stage.
"""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
import torchvision.models
from torch import nn

from mer.config.sections import TrainConfig
from mer.models.heads import HEADS, KeptHead, WindowAttention, make_head, take_output
from mer.models.weights import LITE0, PackagedWeights, TorchvisionWeights, fill, load_weights_file
from mer.utils.errors import BackboneError

__all__ = [
    "ZOO", "Backbone", "Classifier", "build_classifier", "configured_classifier", "get_backbone",
    "require_classifier",
]  # fmt: skip

FeatureMap = Callable[[nn.Module, torch.Tensor], torch.Tensor]

# Some networks (MobileNetV3, MNASNet) renew 1% or less of their batch-norm statistics per step: after the few
# hundred steps of a fine-tuning, evaluation would still use those of ImageNet. All renew this share.
BATCH_NORM_MOMENTUM = 0.1

# These give several outputs in training, or (RegNet) cannot be built on the meta device.
UNSUITABLE = ("googlenet", "inception", "regnet")


@dataclass(frozen=True, slots=True)
class Backbone:
    """One entry of the zoo.

    `output` is the path of the linear layer that the new head replaces; `last` are the prefixes of
    parameters that train with freeze="last"; `cam` is the module whose output is the feature map.
    """

    name: str
    build: Callable[[], nn.Module]
    source: TorchvisionWeights | PackagedWeights
    output: str
    last: tuple[str, ...]
    cam: str | None = None
    feature_map: FeatureMap | None = None


ZOO: dict[str, Backbone] = {}


def register(backbone: Backbone) -> None:
    """Add an entry; raises BackboneError if the name is taken."""
    if backbone.name in ZOO:
        raise BackboneError(f"backbone {backbone.name!r} is registered already; choose another name")
    ZOO[backbone.name] = backbone


def _children_map(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What torchvision calls `features`."""
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
    """An entry for a network of torchvision; without `cam` and its feature map where they are unknown."""

    def build() -> nn.Module:
        return torchvision.models.get_model(name, weights=None)

    return Backbone(name, build, TorchvisionWeights(name), output, last, cam, seen)


def _lite0() -> nn.Module:
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
):
    register(_entry)


def get_backbone(name: str) -> Backbone:
    """The entry of that name, or one made for any other torchvision classification model.

    Raises BackboneError that lists the valid names.
    """
    if name in ZOO:
        return ZOO[name]
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
    """An entry by inspection: the last linear layer is the output, the last stage what precedes it."""
    if name.startswith(UNSUITABLE):
        raise BackboneError(f"backbone {name!r} cannot be fine-tuned here; choose one of: {', '.join(ZOO)}")
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


class Classifier(nn.Module):
    """A backbone without its ImageNet output, and a new head.

    Images (n, 3, height, width) -> logits (n, classes). `embed` gives what the head sees: (n, features)
    for the head `avg`, (n, features, time) for heads over time, (n, features, rows) for `bands`. Frozen parts
    stay in evaluation mode (batch-norm statistics, dropout), so their output is the same in every epoch. With
    `depth="short"` the last stage is left out: the head reads the map before it.

    Two switches are there to show what goes wrong without them. With `outputs="imagenet"` the head is the
    network's own output layer, of 1000 logits, with the dropout before it. With `always_training` there is no
    evaluation mode: batch-norm normalises by the batch at hand, and dropout drops.
    """

    def __init__(self, backbone: Backbone, body: nn.Module, *, classes: int, config: TrainConfig) -> None:
        super().__init__()
        self.backbone, self.body, self.freeze = backbone, body, config.freeze
        self.always_training = config.always_training
        output, own_dropout = take_output(body, backbone.output)
        width, left_out = output.in_features, backbone.last if config.depth == "short" else ()
        _cut(body, left_out)
        if HEADS[config.head].sees != "embeddings":
            width = _map_width(backbone, left_out, config.head)
            setattr(body, backbone.output.partition(".")[0], nn.Identity())  # its own pooling is not used
        if config.outputs == "imagenet":
            self.head, self.outputs = KeptHead(output, own_dropout), output.out_features
        else:
            self.head = make_head(config.head, features=width, classes=classes, dropout=config.dropout)
            self.outputs = classes
        self.weigh = WindowAttention(self.head.linear.in_features) if config.pool == "attention" else None
        for name, parameter in body.named_parameters():
            parameter.requires_grad = self._trains(name)
        for module in body.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = BATCH_NORM_MOMENTUM
                module.track_running_stats = not self.always_training  # none are used: none change

    def _trains(self, name: str) -> bool:
        if self.freeze == "last":
            return any(name == prefix or name.startswith(prefix + ".") for prefix in self.backbone.last)
        if self.freeze == "classifier":
            return name.startswith(self.backbone.output.partition(".")[0] + ".")
        return self.freeze == "none"

    @property
    def body_changes(self) -> bool:
        """True unless the body makes the same of an image in every epoch."""
        return self.always_training or any(p.requires_grad for p in self.body.parameters())

    def train(self, mode: bool = True) -> "Classifier":
        """Training mode for what trains; evaluation mode for what is frozen."""
        super().train(mode or self.always_training)
        if mode and self.freeze != "none" and not self.always_training:
            self.body.eval()
            for name, module in self.body.named_modules():
                if name and self._trains(name):
                    module.train()
        return self

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """What the head sees of each image."""
        if self.head.sees == "embeddings":
            return self.body(images)
        return self.backbone.feature_map(self.body, images).mean(dim=2 if self.head.sees == "time" else 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (n, classes)."""
        return self.head(self.embed(images))

    def answer(self, seen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What the head sees -> logits (n, outputs) and scores (n,), all 0 where no window counts more."""
        vector = self.head.vector(seen)
        scores = (
            self.weigh(vector) if self.weigh else vector.new_zeros(vector.shape[:1])
        )  # `len` could not be exported
        return self.head.answer(vector), scores

    def require_input(self, size: int) -> None:
        """Raise BackboneError if the network cannot take images of `size` x `size` pixels."""
        device = next(self.parameters()).device
        image = torch.zeros(2, 3, size, size, device=device)  # two, for a batch-norm that goes by the batch
        self.eval()
        try:
            with torch.inference_mode():
                self(image)
        except (RuntimeError, AssertionError) as error:
            raise BackboneError(
                f"{self.backbone.name} does not take images of image_size={size}; use 224, as all take"
            ) from error

    def trainable_state(self) -> dict[str, torch.Tensor]:
        """Copies, on the CPU, of the tensors that training changes: what a run must keep to go on."""
        return {
            name: tensor.detach().cpu().clone()
            for name, tensor in self.state_dict().items()
            if name.startswith(("head.", "weigh.")) or self._trains(name.removeprefix("body."))
        }

    def parameter_groups(self, *, lr: float, backbone_lr: float) -> list[dict]:
        """Optimizer groups of what trains: the head at `lr`, the body at `lr * backbone_lr`."""
        body = [p for p in self.body.parameters() if p.requires_grad]
        ends = [*self.head.parameters(), *(self.weigh.parameters() if self.weigh else ())]
        groups = [{"params": ends, "lr": lr}]
        return groups + ([{"params": body, "lr": lr * backbone_lr}] if body else [])


def _cut(body: nn.Module, paths: tuple[str, ...]) -> None:
    """Take some modules out of a network: each passes on what it is given."""
    for path in paths:
        body.set_submodule(path, nn.Identity())


def _map_width(backbone: Backbone, left_out: tuple[str, ...], head: str) -> int:
    """Channels of the feature map, found without computing it; raises BackboneError if there is none."""
    if backbone.feature_map is None:
        raise BackboneError(
            f"head {head!r} needs a feature map; {backbone.name!r} has none: use --head avg --depth full"
        )
    with torch.device("meta"):
        body = backbone.build()
        _cut(body, left_out)
        return backbone.feature_map(body, torch.empty(1, 3, 224, 224)).shape[1]


def build_classifier(name: str, *, classes: int, weights: str, **settings: Any) -> Classifier:
    """A classifier of that backbone; `settings` are those of TrainConfig, whose defaults fill the rest."""
    return configured_classifier(TrainConfig(backbone=name, weights=weights, **settings), classes=classes)


def configured_classifier(config: TrainConfig, *, classes: int, weights: str | None = None) -> Classifier:
    """The classifier that a run's settings describe; `weights` overrides where they start from.

    That is ImageNet ("imagenet"), chance ("none"), or a file with the state dict of the network with its
    ImageNet output. Raises BackboneError, WeightsError.
    """
    backbone, weights = get_backbone(config.backbone), weights or config.weights
    body = backbone.build()
    if weights == "imagenet":
        backbone.source.into(body)
    elif weights != "none":
        device = next(body.parameters()).device
        fill(body, load_weights_file(Path(weights), device), weights)
    return Classifier(backbone, body, classes=classes, config=config)


def require_classifier(config: TrainConfig, *, classes: int, image_size: int) -> None:
    """Check that `configured_classifier` can make a network that takes images of that size, in pixels.

    Nothing is computed: the check runs on torch's meta device, where tensors have shapes but no values.
    ImageNet weights that are not on this machine are downloaded. Raises BackboneError, WeightsError.
    """
    with torch.device("meta"):
        configured_classifier(config, classes=classes).require_input(image_size)
