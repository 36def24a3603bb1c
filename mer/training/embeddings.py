"""Embeddings, the outputs of a frozen body, computed once and kept in the store.

There is one entry per clip. Its key covers everything that the embeddings depend on: the settings of the
images, their standardisation, and the structure and weights of the body. Runs on the same clips therefore
share them, even if epochs, batch size, loss or learning rate differ. If each window is standardised on its
own, runs on different folds and splits share them too.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from typing import Self

import numpy as np
import torch

from mer.audio.transforms import EvalTransform, TrainTransform
from mer.config.sections import AudioConfig, MelConfig
from mer.data.cache.arrays import Shelf, read_array, write_array
from mer.data.cache.store import VERSION, FeatureStore
from mer.data.windows import Windows
from mer.models.classifier import Classifier
from mer.models.forward import pass_size
from mer.models.joined import JoinedBody, Part
from mer.training.feed import Feed, OnDisk
from mer.utils.parallel import Progress, part_progress

__all__ = ["Embed", "JoinedEmbeddings", "KeptEmbeddings", "embed", "embedded", "trains_head_alone"]

Embed = Callable[[Classifier, Feed, Progress], torch.Tensor | OnDisk]
Network = Classifier | Part


def trains_head_alone(model: Classifier, transform: TrainTransform) -> bool:
    """True if the body gets the same images and gives the same embeddings in every epoch."""
    return not (model.body_changes or transform.is_random or transform.config.mixup)


def embed(model: Network, feed: Feed, progress: Progress) -> torch.Tensor:
    """Compute the embeddings of all windows.

    Parameters
    ----------
    model
        The network. It is put into evaluation mode.
    feed
        The windows, as images.
    progress
        Called as `progress(done, total)` after each forward pass, with windows.

    Returns
    -------
    torch.Tensor
        float32 (windows, features) or (windows, features, time or rows), on the feed's device.
    """
    rows = Rows(len(feed.windows))
    for indices, found in _passes(model, feed, torch.arange(len(feed.windows))):
        rows.put(indices, found)
        progress(int(indices[-1]) + 1, len(feed.windows))
    return rows.all.to(feed.device)


def embedded(model: Classifier, feed: Feed, embed: Embed, progress: Progress) -> Feed:
    """Replace the images of a feed by embeddings.

    Parameters
    ----------
    model
        The network.
    feed
        The windows, as images.
    embed
        Computes embeddings, or reads them from the store.
    progress
        Called as `progress(done, total)`, with windows.

    Returns
    -------
    Feed
        The same windows, as embeddings.
    """
    return Feed(feed.windows, feed.transform, feed.device, embed(model, feed, progress))


def _passes(model: Network, feed: Feed, order: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Window numbers and their embeddings on the CPU, one forward pass at a time.

    All passes have the same size; the last one is padded. With another size, convolutions may add in another
    order, and the stored embeddings of a clip would depend, in their last bits, on which other clips were
    missing.
    """
    model.eval()
    size = pass_size(feed.device)
    parts = order.split(size)
    filled = [torch.cat([part, part[-1:].expand(size - len(part))]) for part in parts]
    for indices, images in zip(parts, feed.stream(filled), strict=True):
        with torch.inference_mode():
            found = model.embed(images)[: len(indices)].float().cpu()
        yield indices, found  # outside inference_mode, so that the caller can train on its tensors


class Rows:
    """A tensor filled row by row. The first rows determine its shape."""

    def __init__(self, count: int) -> None:
        self.count, self.all = count, torch.empty(0)

    def put(self, indices: torch.Tensor, rows: torch.Tensor) -> None:
        """Set some rows."""
        if not len(self.all):
            self.all = torch.empty(self.count, *rows.shape[1:])
        self.all[indices] = rows


@dataclass(frozen=True, slots=True)
class KeptEmbeddings:
    """Like `embed`, but reads embeddings that are in the store, and adds the others clip by clip."""

    store: FeatureStore
    shelf: Shelf

    @classmethod
    def for_model(
        cls,
        store: FeatureStore,
        model: Classifier,
        transform: EvalTransform,
        *,
        audio: AudioConfig,
        mel: MelConfig,
    ) -> "Self | JoinedEmbeddings":
        """Like `of`, but also for joined networks.

        Each of the joined networks has entries of its own, which runs with that network alone share. For the
        parameters see `of`.
        """
        settings = {"audio": audio, "mel": mel}
        if isinstance(model.body, JoinedBody):
            kept = [(part, cls.of(store, part, transform, **settings)) for part in model.body.networks()]
            return JoinedEmbeddings(tuple(kept))
        return cls.of(store, model, transform, **settings)

    @classmethod
    def of(
        cls,
        store: FeatureStore,
        model: Network,
        transform: EvalTransform,
        *,
        audio: AudioConfig,
        mel: MelConfig,
    ) -> Self:
        """The stored embeddings by the body of a model.

        Parameters
        ----------
        store
            The feature store.
        model
            The network; its body must be frozen.
        transform
            From image to network input; its standardisation is part of the key.
        audio, mel
            Settings of the images.
        """
        standardizer = transform.standardizer
        settings = {
            "version": VERSION,
            "audio": audio.to_key(),
            "mel": mel.to_key(),
            "standardizer": "window" if standardizer.per_window else list(standardizer.to_dict().values()),
            "backbone": model.backbone.name,
            "body": _hash(model.body),
            "structure": structure(model.body),
            "sees": model.sees,
            "device": _device(model),  # results with TF32 differ in the fourth digit
        }
        return cls(store, Shelf.of(store.root / "embeddings", settings))

    def __call__(self, model: Network, feed: Feed, progress: Progress) -> torch.Tensor:
        """Embeddings of all windows, as from `embed`."""
        windows = feed.windows
        rows = Rows(len(windows))
        missing = self._fetch(windows, rows, range(len(windows.counts)))
        if missing:
            known = len(windows) - _count_windows(windows, missing)
            with self.store.alone(self.lock, lambda: progress(known, len(windows))):
                missing = self._fetch(windows, rows, missing)
                self._compute(model, feed, rows, missing, progress)
        self.shelf.mark_used()
        return rows.all.to(feed.device)

    @property
    def lock(self) -> str:
        """The name of the lock that a process holds while it computes embeddings for this shelf."""
        return f"embeddings-{self.shelf.folder.name}"

    def _fetch(self, windows: Windows, rows: Rows, clips: "range | list[int]") -> list[int]:
        """Read stored embeddings of clips into `rows`; returns clips whose entry is missing or damaged."""
        missing = []
        for clip in clips:
            try:
                found = read_array(self.shelf.path(windows.hashes[clip]))
            except (OSError, ValueError):
                found = None
            if found is None or len(found) != windows.counts[clip]:
                missing.append(clip)
            else:
                rows.put(_span(windows, clip), torch.from_numpy(found))
        return missing

    def _compute(
        self, model: Network, feed: Feed, rows: Rows, missing: list[int], progress: Progress
    ) -> None:
        """Compute the embeddings of some clips into `rows` and store them."""
        windows, left = feed.windows, list(missing)
        if not left:
            return
        total, done = len(windows), len(windows) - _count_windows(windows, missing)
        for indices, found in _passes(model, feed, torch.cat([_span(windows, clip) for clip in missing])):
            rows.put(indices, found)
            while left and _span(windows, left[0])[-1] <= indices[-1]:
                clip = left.pop(0)
                write_array(self.shelf.path(windows.hashes[clip]), rows.all[_span(windows, clip)].numpy())
            done += len(indices)
            progress(done, total)


@dataclass(frozen=True, slots=True)
class JoinedEmbeddings:
    """The stored embeddings of joined networks, side by side."""

    parts: tuple[tuple[Part, KeptEmbeddings], ...]

    def __call__(self, model: Classifier, feed: Feed, progress: Progress) -> "torch.Tensor | SideBySide":  # noqa: ARG002 - the parts are asked
        """Embeddings of all windows, (windows, features)."""
        total, found = len(self.parts) * len(feed.windows), []
        for number, (part, kept) in enumerate(self.parts):
            before = number * len(feed.windows)
            found.append(kept(part, feed, part_progress(progress, before, total)))
        if all(isinstance(rows, torch.Tensor) for rows in found):
            return torch.cat(found, dim=1)
        return SideBySide(tuple(found))


@dataclass(frozen=True, slots=True)
class SideBySide:
    """Arrays on disk whose rows are put side by side when they are read."""

    parts: tuple[OnDisk, ...]
    device = torch.device("cpu")

    def __getitem__(self, indices: torch.Tensor) -> torch.Tensor:
        return torch.cat([part[indices] for part in self.parts], dim=1)


def _device(model: Network) -> str:
    """The kind of device that computes; the CPU for descriptors, which have no parameters."""
    return next((parameter.device.type for parameter in model.parameters()), "cpu")


def _span(windows: Windows, clip: int) -> torch.Tensor:
    """The numbers of a clip's windows."""
    start = int(windows.starts[clip])
    return torch.arange(start, start + int(windows.counts[clip]))


def _count_windows(windows: Windows, clips: list[int]) -> int:
    return int(np.sum(windows.counts[clips]))


def structure(body: torch.nn.Module) -> str:
    """Hash of a network's modules with their settings, and of the versions of their libraries.

    Weights alone do not identify a network: without its activations, for example, it has the same tensors.
    """
    found = sha256()
    for path, module in body.named_modules():
        kind = type(module)
        library = kind.__module__.partition(".")[0]
        found.update(f"{path} {kind.__module__}.{kind.__qualname__}({module.extra_repr()}) ".encode())
        with suppress(PackageNotFoundError):  # a class of mer
            found.update(version(library).encode())
    return found.hexdigest()[:32]


def _hash(body: torch.nn.Module) -> str:
    """Hash of a network's weights and buffers."""
    found = sha256()
    for name, tensor in body.state_dict().items():
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().numpy().data)
    return found.hexdigest()[:32]
