"""Batch-norm with statistics over all processes of a data-parallel training, on any device.

Torch's SyncBatchNorm needs a GPU. Here each process computes mean and variance of its batch with torch's
kernels, and these are combined over all processes (Chan, Golub and LeVeque, "Updating Formulae and a Pairwise
Algorithm for Computing Sample Variances", 1979). The gradient is that of Ioffe and Szegedy, "Batch
Normalization", ICML 2015, with its two sums taken over all processes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from mer.utils.errors import BackboneError

__all__ = ["joined_norms"]

_BatchNorm = nn.modules.batchnorm._BatchNorm
_PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def _submodules(norm: nn.Module) -> tuple[str, ...] | None:
    """The names of the submodules that a norm applies after normalising, in order; None if unknown."""
    if type(norm) in _PLAIN:
        return ()
    from timm.layers import BatchNormAct2d  # here, as timm takes two seconds to import

    return ("drop", "act") if type(norm) is BatchNormAct2d else None


def gathered(values: torch.Tensor) -> torch.Tensor:
    """The `values` (k,) of all processes, shape (processes, k), in the order of ranks."""
    rows = [torch.empty_like(values) for _ in range(dist.get_world_size())]
    dist.all_gather(rows, values.contiguous())
    return torch.stack(rows)


def _measured(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mean and variance (channels,), and values per channel, over `x` (n, channels, ...) of all processes."""
    # torch computes in the precision of the buffers it updates: at least float32, also for 16-bit x.
    spare = x.new_zeros(x.shape[1], dtype=torch.promote_types(x.dtype, torch.float32))
    mean, variance = torch.batch_norm_update_stats(x, spare, spare, 0.0)
    count = mean.new_tensor([x.numel() / x.shape[1]])
    means, variances, counts = gathered(torch.cat([mean, variance, count])).split(
        [len(mean), len(mean), 1], dim=1
    )
    total = counts.sum()
    share = counts / total
    mean = (share * means).sum(0)
    return mean, (share * (variances + (means - mean).square())).sum(0), total


class _Joined(torch.autograd.Function):
    """x (n, channels, ...), weight, bias (channels,) -> normalised x, mean, variance, values per channel."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: Any, bias: Any, eps: float) -> tuple[torch.Tensor, ...]:
        """Normalise the batch with the statistics of all processes."""
        mean, variance, total = _measured(x)
        out = torch.native_batch_norm(x, weight, bias, mean, variance, False, 0.0, eps)[0]
        ctx.save_for_backward(x, weight, mean, variance, total)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, variance, total)
        return out, mean, variance, total

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor, *_: Any) -> tuple[torch.Tensor | None, ...]:
        """Gradients of x, weight and bias; None for eps."""
        x, weight, mean, variance, total = ctx.saved_tensors
        scale = (variance + ctx.eps).rsqrt()
        # First with mean and variance held constant. Their dependence on x adds terms, subtracted below.
        own, by_weight, by_bias = torch.ops.aten.native_batch_norm_backward(
            grad, x, torch.ones_like(mean) if weight is None else weight, mean, variance, None, None, False,
            ctx.eps, [True, True, True],
        )  # fmt: skip
        weighted, plain = gathered(torch.cat([by_weight, by_bias])).sum(0).chunk(2)
        slope = scale.square() * weighted / total
        level = scale * plain / total - slope * mean
        if weight is not None:
            slope, level = slope * weight, level * weight
        shape = (1, -1, *[1] * (x.ndim - 2))
        own = own.addcmul_(x, slope.view(shape), value=-1).sub_(level.view(shape))
        return own, *((None, None) if weight is None else (by_weight, by_bias)), None


class JoinedNorm(_BatchNorm):
    """Batch-norm over the batches of all processes, each weighted by its number of values.

    It shares parameters and buffers with the norm that it replaces, and applies the same submodules after it.
    """

    def __init__(self, norm: nn.Module) -> None:
        super().__init__(
            norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats, device="meta"
        )
        self._parameters, self._buffers = norm._parameters, norm._buffers
        self._modules = norm._modules  # same names, so that the state dict has the same keys
        self.then = _submodules(norm)
        self.training = norm.training

    def _check_input_dim(self, x: torch.Tensor) -> None:
        """Any shape is accepted."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Like the norm that it replaces. In training mode, all processes must call it equally often."""
        x = self._norm(x)
        for name in self.then:
            x = self._modules[name](x)
        return x

    def _norm(self, x: torch.Tensor) -> torch.Tensor:
        if not (self.training or self.running_mean is None):
            return super().forward(x)
        out, mean, variance, total = _Joined.apply(x, self.weight, self.bias, self.eps)
        if self.track_running_stats and self.running_mean is not None:
            with torch.no_grad():
                self.num_batches_tracked.add_(1)
                part = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
                self.running_mean.lerp_(mean, part)
                self.running_var.lerp_(variance * total / (total - 1).clamp_min(1), part)
        return out


@contextmanager
def joined_norms(model: nn.Module) -> Iterator[None]:
    """Within this context, batch-norms in training mode use the batches of all processes.

    Norms in evaluation mode are not replaced, since they do not use statistics of the batch. Afterwards the
    network has its own norms again, with the trained values.

    Raises
    ------
    BackboneError
        If a batch-norm is of an unknown kind.
    """
    found = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if isinstance(child, _BatchNorm) and child.training
    ]
    for _, _, norm in found:
        if _submodules(norm) is None:
            kind = f"{type(norm).__module__}.{type(norm).__qualname__}"
            raise BackboneError(
                f"a batch-norm of kind {kind} cannot be trained by several processes; train in one process"
            )
    for parent, name, norm in found:
        setattr(parent, name, JoinedNorm(norm))
    try:
        yield
    finally:
        for parent, name, norm in found:
            norm.train(getattr(parent, name).training)
            setattr(parent, name, norm)
