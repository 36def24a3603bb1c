"""Heads: from the output of a backbone to logits.

Every head first computes one vector per window, then logits by a linear layer. The feature map of a
spectrogram has time along its width and frequency along its height:

- `avg` uses the backbone's own pooling.
- `bands` averages over time and keeps frequency bands apart.
- `attention` is a weighted mean over time (Bahdanau et al., 2015, in the form of Yang et al., 2016).
- `gru` reads the columns in order (Cho et al., 2014).

`WindowAttention` computes the weight of each window of a clip from these vectors.
"""

import torch
import torch.nn.functional as F
from torch import nn

from mer.utils.errors import BackboneError

__all__ = [
    "HEADS",
    "AttentionHead",
    "AverageHead",
    "BandsHead",
    "GRUHead",
    "Head",
    "WindowAttention",
    "make_head",
    "seven_bands",
    "take_output",
]


BANDS = 7  # rows of the feature map of an image of 224 pixels, in most networks


class Head(nn.Module):
    """Base of all heads.

    `sees` is the kind of input: "embeddings" (n, features); "time" (n, features, columns), the feature map
    averaged over frequency; or "bands" (n, features, rows), the feature map averaged over time.
    """

    sees = "embeddings"

    def vector(self, seen: torch.Tensor) -> torch.Tensor:
        """The input of the last layer, (n, width)."""
        return seen

    def answer(self, vector: torch.Tensor) -> torch.Tensor:
        """Logits (n, outputs) of vectors (n, width)."""
        return self.linear(self.dropout(vector))

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        """Logits (n, outputs)."""
        return self.answer(self.vector(seen))

    def weights(self, seen: torch.Tensor) -> torch.Tensor:
        """Weight of each time step, (n, time), with sum 1; (n, 0) if the head does not weight time steps."""
        return seen.new_zeros(len(seen), 0)


class AverageHead(Head):
    """Embedding (n, features) -> logits (n, classes)."""

    def __init__(self, features: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(features, classes)


class BandsHead(Head):
    """Rows (n, features, rows) -> logits (n, classes), with separate weights for each frequency band.

    Networks for photographs average over the whole map, which loses the pitch of a pattern. Each feature is
    standardised over the training windows. Weights start at zero: together with weight decay and few epochs,
    this keeps them small, which is needed with so many features.
    """

    sees = "bands"

    def __init__(self, features: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(features * BANDS, affine=False)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(features * BANDS, classes)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def vector(self, rows: torch.Tensor) -> torch.Tensor:
        """Seven bands of each feature, standardised, (n, features * 7)."""
        return self.norm(seven_bands(rows))


def seven_bands(rows: torch.Tensor) -> torch.Tensor:
    """Means of each feature in seven bands of frequency: (n, features, rows) -> (n, features * 7)."""
    return F.adaptive_avg_pool1d(rows, BANDS).flatten(1)


class AttentionHead(Head):
    """Sequence (n, features, time) -> logits (n, classes), by a weighted mean over time."""

    sees = "time"

    def __init__(self, features: int, classes: int, dropout: float, hidden: int = 128) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(features, hidden), nn.Tanh(), nn.Linear(hidden, 1))
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(features, classes)

    def weights(self, sequence: torch.Tensor) -> torch.Tensor:
        """Attention (n, time), at least 0, with sum 1 over time."""
        return self.score(sequence.transpose(1, 2)).squeeze(-1).softmax(dim=-1)

    def vector(self, sequence: torch.Tensor) -> torch.Tensor:
        """The weighted mean over time, (n, features)."""
        return torch.einsum("nft,nt->nf", sequence, self.weights(sequence))


class GRUHead(Head):
    """Sequence (n, features, time) -> logits (n, classes), by a bidirectional GRU averaged over time."""

    sees = "time"

    def __init__(self, features: int, classes: int, dropout: float, hidden: int = 128) -> None:
        super().__init__()
        self.gru = nn.GRU(features, hidden, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(2 * hidden, classes)

    def vector(self, sequence: torch.Tensor) -> torch.Tensor:
        """The mean of the GRU's states over time, (n, 2 * hidden)."""
        states, _ = self.gru(sequence.transpose(1, 2))
        return states.mean(dim=1)


class WindowAttention(nn.Module):
    """Vectors of windows (n, width) -> scores (n,). Their softmax over a clip weights its windows.

    Gated attention for multiple-instance learning (Ilse, Tomczak and Welling, 2018).
    """

    def __init__(self, width: int, hidden: int = 128) -> None:
        super().__init__()
        self.what, self.gate = nn.Linear(width, hidden), nn.Linear(width, hidden)
        self.score = nn.Linear(hidden, 1)
        nn.init.zeros_(self.score.weight)  # at first all windows count the same
        nn.init.zeros_(self.score.bias)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Scores (n,)."""
        return self.score(self.what(vectors).tanh() * self.gate(vectors).sigmoid()).squeeze(-1)


HEADS = {"avg": AverageHead, "bands": BandsHead, "attention": AttentionHead, "gru": GRUHead}


def make_head(name: str, *, features: int, classes: int, dropout: float) -> nn.Module:
    """Make a head with new weights.

    Parameters
    ----------
    name
        A key of `HEADS`.
    features
        Features of the network's embedding, or channels of its feature map.
    classes
        Number of classes.
    dropout
        Share of features dropped before the last layer, 0 to 1.

    Raises
    ------
    BackboneError
        If the name is unknown; the message lists the valid ones.
    """
    if name not in HEADS:
        raise BackboneError(f"unknown head {name!r}; choose one of: {', '.join(HEADS)}")
    return HEADS[name](features, classes, dropout)


def take_output(body: nn.Module, path: str) -> tuple[nn.Linear, float]:
    """Remove the output layer, and a dropout directly before it, from a network.

    Returns the layer and the rate of that dropout, 0 if there is none.
    """
    parent_path, _, name = path.rpartition(".")
    parent = body.get_submodule(parent_path)
    output, dropped = parent.get_submodule(name), 0.0
    setattr(parent, name, nn.Identity())
    if isinstance(parent, nn.Sequential) and name != "0":
        before = str(int(name) - 1) if name.isdigit() else None
        if before and isinstance(parent.get_submodule(before), nn.Dropout):
            dropped = parent.get_submodule(before).p
            setattr(parent, before, nn.Identity())
    return output, dropped
