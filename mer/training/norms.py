"""Batch-norm over the batches of several processes that train one network together.

Torch's own, SyncBatchNorm, needs a GPU. Each process measures its batch with torch's kernels, and the means
and variances of all are made one (Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for
Computing Sample Variances", 1979); the gradient is that of Ioffe and Szegedy, "Batch Normalization", ICML
2015, its two sums taken over all.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import nn

__all__ = ["joined_norms"]

_BatchNorm = nn.modules.batchnorm._BatchNorm


def gathered(values: torch.Tensor) -> torch.Tensor:
    """The `values` (k,) of every process -> (processes, k), the same rows in each."""
    rows = [torch.empty_like(values) for _ in range(dist.get_world_size())]
    dist.all_gather(rows, values.contiguous())
    return torch.stack(rows)


def _measured(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mean and variance (channels,) and values a channel, over the `x` (n, channels, ...) of all."""
    # It measures in the precision of what it is to update: single at least, also where x has half of that.
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
    """x (n, channels, ...), weight and bias (channels,) -> normalised x, mean, variance, number of values."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: Any, bias: Any, eps: float) -> tuple[torch.Tensor, ...]:
        mean, variance, total = _measured(x)
        out = torch.native_batch_norm(x, weight, bias, mean, variance, False, 0.0, eps)[0]
        ctx.save_for_backward(x, weight, mean, variance, total)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, variance, total)
        return out, mean, variance, total

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor, *_: Any) -> tuple[torch.Tensor | None, ...]:
        x, weight, mean, variance, total = ctx.saved_tensors
        scale = (variance + ctx.eps).rsqrt()
        # As if mean and variance were given; what they owe to x, a line in x for each channel, is taken off.
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
    """Batch-norm over the batches of all processes, each weighed by how many values it has, on any device."""

    def _check_input_dim(self, x: torch.Tensor) -> None:
        """Any."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As batch-norm; all processes must call it alike."""
        if not (self.training or self.running_mean is None):
            return super().forward(x)
        out, mean, variance, total = _Joined.apply(x, self.weight, self.bias, self.eps)
        if self.track_running_stats and self.running_mean is not None:
            with torch.no_grad():
                self.num_batches_tracked += 1
                part = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
                self.running_mean.lerp_(mean, part)
                self.running_var.lerp_(variance * total / (total - 1).clamp_min(1), part)
        return out


def joined_norms(model: nn.Module) -> nn.Module:
    """The same network whose batch-norms see the batches of all processes; names and values stay."""
    for name, child in model.named_children():
        if isinstance(child, _BatchNorm):
            joined = JoinedNorm(
                child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats
            )
            joined.load_state_dict(child.state_dict(), strict=False)
            joined.train(child.training)
            for own, other in zip(joined.parameters(), child.parameters(), strict=True):
                own.requires_grad = other.requires_grad
            setattr(model, name, joined.to(next(iter(child.state_dict().values()), torch.empty(0)).device))
        else:
            joined_norms(child)
    return model
