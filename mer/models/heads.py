"""From what a backbone sees to logits: one linear layer, or pooling over the time axis first.

Every head first makes one vector of a window, then a linear layer makes logits of it. `WindowAttention` says,
from those vectors, what each window of a clip counts for.

The feature map of a spectrogram image keeps time along its width and frequency along its height. `avg` trusts
the backbone's own pooling; `bands` averages over time alone; `attention` weighs moments by how telling they
are (Bahdanau et al., 2015, in the form of Yang et al., 2016); `gru` reads them in order (Cho et al., 2014).
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
    "KeptHead",
    "WindowAttention",
    "make_head",
    "take_output",
]


BANDS = 7  # rows of the feature map of an image of 224 pixels, in most networks


class Head(nn.Module):
    """Base of all heads.

    `sees` is what they are given: "embeddings" (n, features), or the feature map averaged over frequency,
    "time" (n, features, columns), or over time, "bands" (n, features, rows).
    """

    sees = "embeddings"

    def vector(self, seen: torch.Tensor) -> torch.Tensor:
        """What the last layer is given, (n, width)."""
        return seen

    def answer(self, vector: torch.Tensor) -> torch.Tensor:
        """Logits (n, outputs) of such vectors."""
        return self.linear(self.dropout(vector))

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        """Logits (n, outputs)."""
        return self.answer(self.vector(seen))

    def weights(self, seen: torch.Tensor) -> torch.Tensor:
        """What each moment counts for, (n, time), summing to 1; without columns where none is chosen."""
        return seen.new_zeros(len(seen), 0)


class AverageHead(Head):
    """Embedding (n, features) -> logits (n, classes)."""

    def __init__(self, features: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(features, classes)


class KeptHead(Head):
    """A network's own end, dropout and output layer: embedding (n, features) -> logits (n, outputs)."""

    def __init__(self, output: nn.Linear, dropout: float) -> None:
        super().__init__()
        self.dropout, self.linear = nn.Dropout(dropout), output


class BandsHead(Head):
    """Rows (n, features, rows) -> logits (n, classes), with weights of its own for each band of frequency.

    Averaging over the whole map, as networks for photographs do, forgets at which pitch a pattern was seen.
    Each number is standardised over the training windows. The weights start at zero, so that weight decay and
    few epochs keep them small, which so many features need.
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
        return self.norm(F.adaptive_avg_pool1d(rows, BANDS).flatten(1))


class AttentionHead(Head):
    """Sequence (n, features, time) -> logits (n, classes), by a weighted mean over time."""

    sees = "time"

    def __init__(self, features: int, classes: int, dropout: float, hidden: int = 128) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(features, hidden), nn.Tanh(), nn.Linear(hidden, 1))
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(features, classes)

    def weights(self, sequence: torch.Tensor) -> torch.Tensor:
        """Attention (n, time), non-negative, summing to 1 over time."""
        return self.score(sequence.transpose(1, 2)).squeeze(-1).softmax(dim=-1)

    def vector(self, sequence: torch.Tensor) -> torch.Tensor:
        """The weighted mean of the moments, (n, features)."""
        return torch.einsum("nft,nt->nf", sequence, self.weights(sequence))


class GRUHead(Head):
    """Sequence (n, features, time) -> logits (n, classes), by a two-way GRU averaged over time."""

    sees = "time"

    def __init__(self, features: int, classes: int, dropout: float, hidden: int = 128) -> None:
        super().__init__()
        self.gru = nn.GRU(features, hidden, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(2 * hidden, classes)

    def vector(self, sequence: torch.Tensor) -> torch.Tensor:
        """The mean of what was read at each moment, (n, 2 * hidden)."""
        states, _ = self.gru(sequence.transpose(1, 2))
        return states.mean(dim=1)


class WindowAttention(nn.Module):
    """Vectors of windows (n, width) -> scores (n,): what each counts for before the softmax over its clip.

    Gated attention for learning from bags of instances (Ilse, Tomczak and Welling, 2018).
    """

    def __init__(self, width: int, hidden: int = 128) -> None:
        super().__init__()
        self.what, self.gate = nn.Linear(width, hidden), nn.Linear(width, hidden)
        self.score = nn.Linear(hidden, 1)
        nn.init.zeros_(self.score.weight)  # at first all windows count alike
        nn.init.zeros_(self.score.bias)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Scores (n,)."""
        return self.score(self.what(vectors).tanh() * self.gate(vectors).sigmoid()).squeeze(-1)


HEADS = {"avg": AverageHead, "bands": BandsHead, "attention": AttentionHead, "gru": GRUHead}


def make_head(name: str, *, features: int, classes: int, dropout: float) -> nn.Module:
    """A new head with random weights; raises BackboneError that lists the valid names."""
    if name not in HEADS:
        raise BackboneError(f"unknown head {name!r}; there are: {', '.join(HEADS)}")
    return HEADS[name](features, classes, dropout)


def take_output(body: nn.Module, path: str) -> tuple[nn.Linear, float]:
    """Take the output layer, and a dropout right before it, out of a network.

    Returns the layer, and the share that the dropout drops.
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
