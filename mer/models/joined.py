"""Several frozen networks side by side. Their embeddings are one vector, on which one head is trained."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from mer.config.inputs import DESCRIPTORS, networks_of, required_input
from mer.data.cache.descriptors import SIZE
from mer.models.front_end import Descriptors, FrontEnd
from mer.models.heads import take_output
from mer.models.zoo import Backbone, get_network

__all__ = ["JoinedBody", "Part", "get_backbone"]


class JoinedBody(nn.Module):
    """Images -> the embeddings of all networks in order, (n, features).

    Parameters
    ----------
    entries
        The networks' entries in the zoo. If they require different inputs, the images are waveforms
        (n, 3, 1, samples), and `front_ends` makes the input of each network.
    """

    def __init__(self, entries: Sequence[Backbone]) -> None:
        super().__init__()
        self.entries = entries
        self.parts, self.front_ends, width = nn.ModuleDict(), nn.ModuleDict(), 0
        waveforms = required_input("+".join(entry.name for entry in entries)).get("shape") == "waveform"
        for entry in entries:
            self.parts[entry.name], output = _without_output(entry)
            width += output.in_features
            if waveforms and entry is not CLASSICAL:
                self.front_ends[entry.name] = FrontEnd(entry.name)
        self.output = nn.Linear(width, 1)  # the head takes its place

    def networks(self) -> "list[Part]":
        """The networks, each as a model without a head."""
        return [Part(entry, self._body(entry.name)) for entry in self.entries]

    def _body(self, name: str) -> nn.Module:
        """One network, with its front end if it has one."""
        if name in self.front_ends:
            return nn.Sequential(self.front_ends[name], self.parts[name])
        return self.parts[name]

    def as_input(self, images: torch.Tensor) -> torch.Tensor:
        """The images, if each network takes them or has a front end. Raises as the networks do."""
        for name, part in self.parts.items():
            if name not in self.front_ends:
                getattr(part, "as_input", part)(images)
        return images

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The embeddings, side by side."""
        found = [self._body(entry.name)(images) for entry in self.entries]
        return self.output(torch.cat(found, dim=1))


class Part(nn.Module):
    """One of the joined networks, with the attributes of a classifier that `mer.training.embeddings` uses."""

    sees = "embeddings"

    def __init__(self, backbone: Backbone, body: nn.Module) -> None:
        super().__init__()
        self.backbone, self.body = backbone, body

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Embeddings (n, features)."""
        return self.body(images)


@dataclass(frozen=True, slots=True)
class JoinedWeights:
    """The pretrained weights of several networks."""

    entries: tuple[Backbone, ...]

    @property
    def title(self) -> str:
        """The sources of the weights, each named once."""
        return ", ".join(dict.fromkeys(entry.source.title for entry in self.entries))

    @property
    def parameters(self) -> int:
        """Number of parameters of all networks."""
        return sum(entry.source.parameters for entry in self.entries)

    def path(self) -> Path:
        """The file of the first network whose weights are not on this machine, else of the first."""
        missing = [entry for entry in self.entries if not entry.source.available()]
        return (missing or self.entries)[0].source.path()

    def available(self) -> bool:
        """True if the weights of all networks are on this machine."""
        return all(entry.source.available() for entry in self.entries)

    def into(self, body: JoinedBody) -> None:
        """Copy the weights into the networks. Raises WeightsError if any are missing."""
        for entry in self.entries:
            with next(body.parameters()).device:
                whole, _ = _without_output(entry, pretrained=True)
            body.parts[entry.name].load_state_dict(whole.state_dict(), assign=True)

    def verify(self) -> None:
        """Raise WeightsError if the file of a network is damaged."""
        for entry in self.entries:
            entry.source.verify()


def _without_output(entry: Backbone, *, pretrained: bool = False) -> tuple[nn.Module, nn.Linear]:
    """A network, and the output layer that was taken from it."""
    body = entry.build()
    if pretrained:
        entry.source.into(body)
    output, _ = take_output(body, entry.output)
    return body, output


def _descriptors() -> nn.Module:
    return nn.Sequential(Descriptors(), nn.Linear(SIZE, 1))


CLASSICAL = Backbone(DESCRIPTORS, _descriptors, JoinedWeights(()), "1", ())


def get_backbone(name: str) -> Backbone:
    """The entry of a network, or of several whose names are joined by "+".

    "classical" among joined names stands for descriptors of the sound. Raises BackboneError for an unknown
    name.
    """
    first, *others = names = networks_of(name)
    if not others:
        return get_network(first)
    entries = tuple(CLASSICAL if part == DESCRIPTORS else get_network(part) for part in names)
    networks = tuple(entry for entry in entries if entry is not CLASSICAL)
    example = (1, 16_000) if required_input(name).get("shape") == "waveform" else entries[0].example
    return Backbone(
        name, partial(JoinedBody, entries), JoinedWeights(networks), "output", (), example=example
    )
