"""The head of a solved run: linear, or a sum of radial kernels, on standardised features.

`mer.training.fitting` computes its weights in closed form or as the minimum of a convex function, and `fill`
puts them in.
"""

import numpy as np
import torch
from torch import nn

from mer.models.heads import BANDS, HEADS, Head, seven_bands

__all__ = ["MOST_CENTRES", "SolvedHead"]

MOST_CENTRES = 4000  # of a kernel; a checkpoint with more is refused


class SolvedHead(Head):
    """Input of the head `avg` or `bands` -> logits (n, classes).

    Features are standardised by the buffers `mean` and `scale` (features,): (x - mean) * scale. The linear
    layer reads them directly or, with a kernel, reads exp(-gamma * mean((x - c)**2)) for each centre c. The
    buffer `centres` is of shape (centres, features). A new head has `MOST_CENTRES` of them; `fill` and
    `resize` change that.

    Parameters
    ----------
    head
        The head whose input it takes: "avg" or "bands".
    features
        Features of the network's embedding, or channels of its feature map.
    classes
        Number of classes.
    kernel
        True for radial kernels, False for a linear head.
    """

    def __init__(self, head: str, features: int, classes: int, *, kernel: bool) -> None:
        super().__init__()
        self.sees, self.kernel = HEADS[head].sees, kernel
        width = features * BANDS if self.sees == "bands" else features
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        if kernel:
            self.register_buffer("centres", torch.zeros(MOST_CENTRES, width))
            self.register_buffer("gamma", torch.ones(()))
        self.linear = nn.Linear(MOST_CENTRES if kernel else width, classes)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def features(self, seen: torch.Tensor) -> torch.Tensor:
        """The features before standardisation, (n, features)."""
        return seven_bands(seen) if self.sees == "bands" else seen

    def vector(self, seen: torch.Tensor) -> torch.Tensor:
        """The standardised features, (n, features)."""
        return (self.features(seen) - self.mean) * self.scale

    def answer(self, vector: torch.Tensor) -> torch.Tensor:
        """Logits (n, classes) of standardised features, always in float32."""
        if vector.is_cuda and torch.is_autocast_enabled("cuda"):  # bfloat16 is too coarse for distances
            with torch.autocast("cuda", enabled=False):
                return self._logits(vector.float())
        return self._logits(vector)

    def _logits(self, vector: torch.Tensor) -> torch.Tensor:
        if not self.kernel:
            return self.linear(vector)
        squares = vector.square().sum(1, keepdim=True) + self.centres.square().sum(1)
        distances = (squares - 2 * vector @ self.centres.T).clamp_min(0)
        return self.linear(torch.exp(-self.gamma / vector.shape[1] * distances))

    def resize(self, count: int) -> None:
        """Give a kernel `count` centres. A number outside 1 to `MOST_CENTRES` changes nothing."""
        if not self.kernel or not 1 <= count <= MOST_CENTRES:
            return
        old = self.linear.weight.detach()
        self.centres = self.centres.new_zeros(count, self.centres.shape[1])
        self.linear.weight = nn.Parameter(old.new_zeros(len(old), count))
        self.linear.in_features = count

    def fill(
        self,
        *,
        mean: np.ndarray,
        scale: np.ndarray,
        weights: np.ndarray,
        bias: np.ndarray,
        centres: np.ndarray | None = None,
        gamma: float | None = None,
    ) -> None:
        """Set all values of the head.

        Parameters
        ----------
        mean, scale
            Standardisation of the features, shape (features,).
        weights
            Shape (features, classes), or (centres, classes) with a kernel.
        bias
            Shape (classes,).
        centres
            Centres of the kernels, shape (centres, features).
        gamma
            Inverse width of the kernels, above 0.
        """
        values = {"mean": mean, "scale": scale, "linear.weight": weights.T, "linear.bias": bias}
        if centres is not None:
            self.resize(len(centres))
            values |= {"centres": centres, "gamma": gamma}
        self.load_state_dict({name: torch.as_tensor(np.array(value)) for name, value in values.items()})
