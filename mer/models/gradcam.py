"""Grad-CAM: which positions of a network's last feature map support a class.

This has its own hook instead of captum's LayerGradCam. The dashboard shares a network between threads, and
captum's hooks would also record what other threads compute at the same time.
"""

from threading import get_ident

import torch

from mer.models.classifier import Classifier
from mer.models.heads import GRUHead
from mer.models.zoo import ZOO
from mer.utils.errors import BackboneError

__all__ = ["grad_cam"]


def grad_cam(model: Classifier, inputs: torch.Tensor, target: int) -> torch.Tensor:
    """Evidence for a class at each position of the feature map.

    Each channel of the feature map is weighted by the mean gradient of the class's logit: over the whole map,
    or over each row for a head that reads frequency bands (as in HiResCAM). Negative sums become 0.

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
        If the zoo does not know the network's feature map.

    References
    ----------
    Selvaraju et al., "Grad-CAM", ICCV 2017. Draelos and Carin, "Use HiResCAM instead of Grad-CAM", 2020.
    """
    backbone, thread, seen = model.backbone, get_ident(), []
    if backbone.cam is None:
        known = ", ".join(name for name, entry in ZOO.items() if entry.cam)
        raise BackboneError(f"backbone {backbone.name!r} cannot be explained; choose one of: {known}")

    def record(_module: object, _inputs: object, output: torch.Tensor) -> torch.Tensor | None:
        if get_ident() != thread:
            return None
        seen.append(output.detach().requires_grad_())
        return seen[0].clone()  # the next layer may write into it

    if isinstance(model.head, GRUHead):
        model.head.gru.train()  # cuDNN has no gradients in evaluation mode; a GRU without dropout is the same
    hook = model.body.get_submodule(backbone.cam).register_forward_hook(record)
    try:
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(model(inputs)[:, target].sum(), seen)
    finally:
        hook.remove()
    places = 3 if model.head.sees == "bands" else (2, 3)  # dimensions over which gradients are averaged
    weights = gradient.mean(dim=places, keepdim=True)
    return (weights * seen[0].detach()).sum(dim=1).clamp_min(0).float()
