"""Clips as a network sees them: on a map, where neighbours look alike to it, and compared between networks.

The map is t-SNE (van der Maaten and Hinton, 2008): who is near whom means something, how far apart groups
are, and how large, does not. Two networks are compared by linear centred kernel alignment (Kornblith et
al., 2019): 1 where both see the same likenesses among the clips, however their features are turned or
scaled, near 0 where they have none in common.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from mer.audio.transforms import EvalTransform
from mer.data.cache.store import FeatureStore
from mer.data.windows import WindowSet
from mer.models.checkpoint import load_checkpoint
from mer.training.embeddings import KeptEmbeddings
from mer.training.feed import Feed, choose_device
from mer.utils.errors import DataError
from mer.utils.parallel import Progress

__all__ = ["FEWEST", "alignment", "clip_embeddings", "on_a_map"]

FEWEST = 5  # clips of which a map can be made
PERPLEXITY = 30  # neighbours that count for each clip, where there are enough


def _nothing(_done: int, _total: int) -> None:
    pass


def clip_embeddings(checkpoint: Path, paths: Sequence[Path], *, progress: Progress = _nothing) -> np.ndarray:
    """What the last layer of a checkpoint is given of each clip, float32 (clips, width): its windows' mean.

    The store keeps what the body makes of each window. Raises CheckpointError, and DataError for a file that
    cannot be used.
    """
    model, standardizer, card = load_checkpoint(checkpoint)
    audio, mel, store = card.config.audio, card.config.mel, FeatureStore.default()
    facts = store.prepare(paths, audio=audio, mel=mel)
    for path, fact in zip(paths, facts, strict=True):
        if fact.reason:
            raise DataError(f"{path} can no longer be used ({fact.reason}); bring the data back as it was")
    device, transform = choose_device("auto"), EvalTransform(standardizer)
    model.to(device)
    windows = WindowSet(
        [store.load(fact, audio=audio, mel=mel) for fact in facts],
        [0] * len(facts),
        classes=1,
        hashes=[fact.file_hash for fact in facts],
    )
    kept = KeptEmbeddings.of(store, model, transform, audio=audio, mel=mel)
    rows = kept(model, Feed(windows, transform, device), progress)
    with torch.inference_mode():
        vectors = model.head.vector(rows)
    return windows.pool(vectors.cpu().numpy())


def on_a_map(rows: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Places (clips, 2) of clips with features (clips, features); the same for the same seed.

    Raises DataError for fewer than 5 clips, and for features that are not finite or the same for all.
    """
    if len(rows) < FEWEST:
        raise DataError(f"{len(rows)} clips are too few for a map; use at least {FEWEST}")
    if not np.isfinite(rows).all() or (rows == rows[0]).all():  # scikit-learn's t-SNE would crash
        raise DataError("the network sees no difference between these clips; choose one that learned more")
    from sklearn.manifold import TSNE  # takes a second to import

    spread = rows.std(axis=0)
    scaled = (rows - rows.mean(axis=0)) / np.where(spread > 0, spread, 1)
    perplexity = min(PERPLEXITY, (len(rows) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(scaled)


def alignment(first: np.ndarray, second: np.ndarray) -> float:
    """Linear centred kernel alignment, 0 to 1, of two networks' features (clips, any number each)."""
    first, second = (rows - rows.mean(axis=0) for rows in (first, second))
    shared = np.linalg.norm(first.T @ second) ** 2
    own = np.linalg.norm(first.T @ first) * np.linalg.norm(second.T @ second)
    return float(shared / own) if own else 0.0
