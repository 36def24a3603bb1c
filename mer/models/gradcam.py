"""Grad-CAM: which positions of a network's last feature map support a class.

This has its own hook instead of captum's LayerGradCam. The dashboard shares a network between threads, and
captum's hooks would also record what other threads compute at the same time.
"""

from threading import get_ident

import torch
from torch import nn

from mer.models.classifier import Classifier
from mer.models.heads import GRUHead
from mer.models.zoo import ZOO, get_network
from mer.utils.errors import BackboneError

__all__ = ["grad_cam"]


def grad_cam(model: Classifier, inputs: torch.Tensor, target: int) -> torch.Tensor:
    """Evidence for a class at each position of the feature map.

    Each channel of the feature map is weighted by the mean gradient of the class's logit: over the whole map,
    or over each row for a head that reads frequency bands (as in HiResCAM). Negative sums become 0.

    Joined networks have a map each. The result is their sum, with the most rows and columns of any. Each map
    is enlarged to that size so that its sum over all positions stays the same.

    Parameters
    ----------
    model
        A network in evaluation mode.
    inputs
        Images, float32 of shape (n, 3, height, width).
    target
        Index of the class.

    Returns
    -------
    torch.Tensor
        float32 of shape (n, rows, columns), at least 0. Rows are frequency bands, columns are time steps.

    Raises
    ------
    BackboneError
        If the zoo does not know the network's feature map, or joined networks see different spectrograms.

    References
    ----------
    Selvaraju et al., "Grad-CAM", ICCV 2017. Draelos and Carin, "Use HiResCAM instead of Grad-CAM", 2020.
    """
    thread, seen, layers = get_ident(), [], _layers(model)

    def record(_module: object, _inputs: object, output: torch.Tensor) -> torch.Tensor | None:
        """Forward hook that keeps a feature map, if this thread computed it."""
        if get_ident() != thread:
            return None
        seen.append(output.detach().requires_grad_())
        return seen[-1].clone()  # the next layer may write into it

    if isinstance(model.head, GRUHead):
        model.head.gru.train()  # cuDNN has no gradients in evaluation mode; a GRU without dropout is the same
    hooks = [model.body.get_submodule(layer).register_forward_hook(record) for layer in layers]
    try:
        with torch.enable_grad():
            gradients = torch.autograd.grad(model(inputs)[:, target].sum(), seen)
    finally:
        for hook in hooks:
            hook.remove()
    places = 3 if model.head.sees == "bands" else (2, 3)  # dimensions over which gradients are averaged
    maps = [
        (gradient.mean(dim=places, keepdim=True) * features.detach()).sum(dim=1).float()
        for gradient, features in zip(gradients, seen, strict=True)
    ]
    return _sum(maps).clamp_min(0)


def _layers(model: Classifier) -> list[str]:
    """Paths of the modules whose outputs are feature maps. Raises BackboneError if one is unknown."""
    if getattr(model.body, "front_ends", None):
        raise BackboneError(
            f"backbone {model.backbone.name!r} cannot be explained: its networks see different spectrograms; "
            "explain a model of one of them"
        )
    parts = [(f"parts.{name}.", get_network(name)) for name in getattr(model.body, "parts", ())]
    parts = parts or [("", model.backbone)]
    for _, entry in parts:
        if entry.cam is None:
            known = ", ".join(name for name, entry in ZOO.items() if entry.cam)
            raise BackboneError(f"backbone {entry.name!r} cannot be explained; choose one of: {known}")
    return [prefix + entry.cam for prefix, entry in parts]


def _sum(maps: list[torch.Tensor]) -> torch.Tensor:
    """The sum of maps (n, rows, columns) of several sizes, on the finest grid."""
    size = [max(found.shape[side] for found in maps) for side in (1, 2)]
    whole = size[0] * size[1]
    return sum(
        nn.functional.interpolate(found[:, None], size, mode="nearest-exact")[:, 0]
        * (found[0].numel() / whole)
        for found in maps
    )
