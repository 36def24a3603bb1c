"""Grad-CAM (Selvaraju et al., 2017): which places of a network's last feature map speak for a class.

A hook of our own and not captum's LayerGradCam: a dashboard's networks are shared by threads, and captum's
hooks would catch what other threads compute at the same time.
"""

from threading import get_ident

import torch

from mer.models.heads import GRUHead
from mer.models.zoo import ZOO, Classifier
from mer.utils.errors import BackboneError

__all__ = ["grad_cam"]


def grad_cam(model: Classifier, inputs: torch.Tensor, target: int) -> torch.Tensor:
    """Evidence for class number `target`: inputs (n, 3, height, width) -> float32 (n, rows, columns), >= 0.

    Rows are bands and columns moments, as many as the feature map has. Each of its channels is weighted by
    the mean slope of the class's logit over it, or for a head that tells bands apart over each row (as in
    HiResCAM, Draelos and Carin, 2020); where the sum is negative, maybe everywhere, it becomes 0.
    The model should be in evaluation mode. Raises BackboneError if it is not known where its feature map is.
    """
    backbone, thread, seen = model.backbone, get_ident(), []
    if backbone.cam is None:
        known = ", ".join(name for name, entry in ZOO.items() if entry.cam)
        raise BackboneError(f"backbone {backbone.name!r} cannot be explained; these can: {known}")

    def catch(_module: object, _inputs: object, output: torch.Tensor) -> torch.Tensor | None:
        if get_ident() != thread:
            return None
        seen.append(output.detach().requires_grad_())
        return seen[0].clone()  # what comes next may write into it

    if isinstance(model.head, GRUHead):
        model.head.gru.train()  # else cuDNN gives no slopes; without dropout nothing else changes
    hook = model.body.get_submodule(backbone.cam).register_forward_hook(catch)
    try:
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(model(inputs)[:, target].sum(), seen)
    finally:
        hook.remove()
    alike = 3 if model.head.sees == "bands" else (2, 3)  # the places that the head weighs alike
    weights = slope.mean(dim=alike, keepdim=True)
    return (weights * seen[0].detach()).sum(dim=1).clamp_min(0).float()
