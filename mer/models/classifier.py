"""The classifier: a backbone of the zoo with a new head."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import nn

from mer.config.sections import TrainConfig
from mer.models.forward import pass_size
from mer.models.heads import HEADS, Head, WindowAttention, make_head, take_output
from mer.models.solved import SolvedHead
from mer.models.zoo import Backbone
from mer.utils.errors import BackboneError

__all__ = ["Classifier"]

# Some networks (MobileNetV3, MNASNet) update their batch-norm statistics by 1% or less per step. After the
# few hundred steps of fine-tuning, evaluation would still use those of ImageNet. So all use this momentum.
BATCH_NORM_MOMENTUM = 0.1


class Classifier(nn.Module):
    """A backbone without its ImageNet output, and a new head.

    Images (n, 3, height, width) -> logits (n, classes). Frozen parts stay in evaluation mode (batch-norm
    statistics, dropout), so their output is the same in every epoch. With `depth="short"` the last stage is
    removed and the head reads the feature map before it.

    Parameters
    ----------
    backbone
        The entry of the zoo.
    body
        The network that `backbone.build` made, with its weights. It is changed in place.
    classes
        Number of classes.
    config
        Settings of the head, of what trains, and of pooling.
    """

    answers_alone = True  # the output for a window does not depend on the rest of its batch

    def __init__(self, backbone: Backbone, body: nn.Module, *, classes: int, config: TrainConfig) -> None:
        super().__init__()
        self.backbone, self.body, self.freeze = backbone, body, config.freeze
        output, own_dropout = take_output(body, backbone.output)
        width, left_out = output.in_features, backbone.last if config.depth == "short" else ()
        _cut(body, left_out)
        if HEADS[config.head].sees != "embeddings":
            if backbone.feature_map is None:
                raise BackboneError(
                    f"head {config.head!r} needs a feature map, which is unknown for {backbone.name!r}; "
                    "use --head avg --depth full"
                )
            width = _map_width(backbone, left_out)
            setattr(body, backbone.output.partition(".")[0], nn.Identity())  # its own pooling is not used
        self.head = self._head(output, own_dropout, width, classes, config)
        self.weigh = WindowAttention(self.head.linear.in_features) if config.pool == "attention" else None
        for name, parameter in body.named_parameters():
            parameter.requires_grad = self._trains(name)
        for module in body.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = BATCH_NORM_MOMENTUM

    def _head(self, output: nn.Linear, dropout: float, width: int, classes: int, config: TrainConfig) -> Head:  # noqa: ARG002
        """Make the head. It replaces the network's own output layer and dropout."""
        if config.solver != "steps":
            return SolvedHead(config.head, width, classes, kernel=config.solver == "kernel")
        return make_head(config.head, features=width, classes=classes, dropout=config.dropout)

    def _trains(self, name: str) -> bool:
        if self.freeze == "last":
            return any(name == prefix or name.startswith(prefix + ".") for prefix in self.backbone.last)
        if self.freeze == "classifier":
            return name.startswith(self.backbone.output.partition(".")[0] + ".")
        return self.freeze == "none"

    @property
    def outputs(self) -> int:
        """Number of logits."""
        return self.head.linear.out_features

    @property
    def sees(self) -> str:
        """The kind of embeddings; see `Head`."""
        return self.head.sees

    @property
    def body_changes(self) -> bool:
        """False if the body gives the same output for an image in every epoch of training."""
        return any(parameter.requires_grad for parameter in self.body.parameters())

    def train(self, mode: bool = True) -> "Classifier":
        """Training mode for the parts that train, evaluation mode for frozen parts."""
        super().train(mode)
        if mode and self.freeze != "none":
            self.body.eval()
            for name, module in self.body.named_modules():
                if name and self._trains(name):
                    module.train()
        return self

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """The input of the head, (n, features) or (n, features, time or rows); see `Head.sees`."""
        if self.head.sees == "embeddings":
            return self.body(images)
        return self.backbone.feature_map(self.body, images).mean(dim=2 if self.head.sees == "time" else 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (n, classes)."""
        return self.head(self.embed(images))

    def answer(self, seen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Output of `embed` -> logits (n, outputs), and pooling scores (n,); 0 weights windows equally."""
        vector = self.head.vector(seen)
        scores = (
            self.weigh(vector) if self.weigh else vector.new_zeros(vector.shape[:1])
        )  # `len` cannot be exported
        return self.head.answer(vector), scores

    @contextmanager
    def testing(self, seed: int) -> Iterator[None]:  # noqa: ARG002 - for a network that draws at random
        """Context for tests: evaluation mode, without gradients."""
        self.eval()
        with torch.inference_mode():
            yield

    def test_batches(self, count: int, batch_size: int) -> list[torch.Tensor]:  # noqa: ARG002 - see above
        """The windows of each forward pass in a test: numbers from 0 to `count` - 1, in order."""
        return list(torch.arange(count).split(pass_size(next(self.parameters()).device)))

    def require_input(self, shape: tuple[int, int]) -> None:
        """Raise BackboneError if the network cannot take images of this shape (rows, columns)."""
        device = next(self.parameters()).device
        image = torch.zeros(2, 3, *shape, device=device)  # two, as batch-norm may need more than one
        self.eval()
        check = getattr(self.body, "as_input", self)  # on the meta device the whole imports torch's compiler
        try:
            with torch.inference_mode():
                check(image)
        except (RuntimeError, AssertionError) as error:
            raise BackboneError(
                f"{self.backbone.name} does not accept images of {shape[0]} x {shape[1]}; "
                "use image_size=224, which all networks for images accept, or longer windows"
            ) from error

    def resize_as(self, tensors: dict[str, torch.Tensor]) -> None:
        """Give a kernel as many centres as saved tensors have, before they are loaded."""
        centres = tensors.get("head.centres")
        if isinstance(self.head, SolvedHead) and centres is not None and centres.dim() == 2:
            self.head.resize(len(centres))

    def trainable_state(self) -> dict[str, torch.Tensor]:
        """Copies on the CPU of the tensors that training changes, which a run needs to resume."""
        return {
            name: tensor.detach().cpu().clone()
            for name, tensor in self.state_dict().items()
            if name.startswith(("head.", "weigh.")) or self._trains(name.removeprefix("body."))
        }

    def parameter_groups(self, *, lr: float, backbone_lr: float) -> list[dict]:
        """Optimizer groups: the head at `lr`, the trained part of the body at `lr * backbone_lr`."""
        body = [p for p in self.body.parameters() if p.requires_grad]
        ends = [*self.head.parameters(), *(self.weigh.parameters() if self.weigh else ())]
        groups = [{"params": ends, "lr": lr}]
        return groups + ([{"params": body, "lr": lr * backbone_lr}] if body else [])


def _cut(body: nn.Module, paths: tuple[str, ...]) -> None:
    """Replace modules of a network by ones that return their input."""
    for path in paths:
        body.set_submodule(path, nn.Identity())


@cache
def _map_width(backbone: Backbone, left_out: tuple[str, ...]) -> int:
    """Channels of the feature map, found without computing it."""
    with torch.device("meta"):
        body = backbone.build()
        _cut(body, left_out)
        return backbone.feature_map(body, torch.empty(1, 3, *backbone.example)).shape[1]
