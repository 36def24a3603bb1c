"""Embeddings of clips: a two-dimensional map of them, and a comparison of two networks.

The map is t-SNE (van der Maaten and Hinton, 2008). Only neighbourhoods mean something in it; distances
between groups and sizes of groups do not. Two networks are compared by linear centred kernel alignment
(Kornblith et al., 2019). It is 1 if both networks find the same similarities between clips, whatever the
rotation and scale of their embeddings, and near 0 if they share none.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from mer.audio.transforms import EvalTransform
from mer.data.cache.store import FeatureStore
from mer.data.windows import WindowSet
from mer.models.checkpoint import load_checkpoint
from mer.models.forward import choose_device
from mer.training.embeddings import KeptEmbeddings
from mer.training.feed import Feed
from mer.utils.errors import DataError
from mer.utils.parallel import Progress

__all__ = ["FEWEST", "alignment", "clip_embeddings", "on_a_map"]

FEWEST = 5  # clips on a map
PERPLEXITY = 30  # of t-SNE: about how many neighbours each clip has; fewer if there are few clips


def _nothing(_done: int, _total: int) -> None:
    pass


def clip_embeddings(checkpoint: Path, paths: Sequence[Path], *, progress: Progress = _nothing) -> np.ndarray:
    """Embeddings of clips: the input of a network's last layer, averaged over the windows of each clip.

    The feature store caches the backbone's embeddings of the windows.

    Parameters
    ----------
    checkpoint
        Folder of a checkpoint that is not an ensemble.
    paths
        Audio files.
    progress
        Called with the number of windows done, and of all windows.

    Returns
    -------
    np.ndarray
        float64 of shape (clips, width).

    Raises
    ------
    CheckpointError
        If the checkpoint cannot be loaded.
    DataError
        If a file cannot be used.
    """
    model, standardizer, card = load_checkpoint(checkpoint)
    audio, mel, store = card.config.audio, card.config.mel, FeatureStore.default()
    facts = store.prepare(paths, audio=audio, mel=mel)
    for path, fact in zip(paths, facts, strict=True):
        if fact.reason:
            raise DataError(f"{path} can no longer be used ({fact.reason}); restore the file")
    device, transform = choose_device("auto"), EvalTransform(standardizer)
    model.to(device)
    windows = WindowSet(
        [store.load(fact, audio=audio, mel=mel) for fact in facts],
        [0] * len(facts),
        classes=1,
        hashes=[fact.file_hash for fact in facts],
    )
    kept = KeptEmbeddings.for_model(store, model, transform, audio=audio, mel=mel)
    rows = kept(model, Feed(windows, transform, device), progress)
    with torch.inference_mode():
        vectors = model.head.vector(rows)
    return windows.pool(vectors.cpu().numpy())


def on_a_map(rows: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Place clips on a map by t-SNE, after standardising each feature.

    Parameters
    ----------
    rows
        Embeddings of shape (clips, features), of at least 5 clips.
    seed
        Seed of t-SNE; the same seed gives the same map.

    Returns
    -------
    np.ndarray
        Coordinates of shape (clips, 2).

    Raises
    ------
    DataError
        For fewer than 5 clips, or embeddings that are not finite or are equal for all clips.

    References
    ----------
    Van der Maaten and Hinton, "Visualizing data using t-SNE", JMLR, 2008.
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
    """Linear centred kernel alignment of two networks' embeddings.

    Parameters
    ----------
    first, second
        Embeddings of the same clips in the same order, shape (clips, features); widths may differ.

    Returns
    -------
    float
        0 (no similarity in common) to 1 (the same similarities). It is 0 if a network gives all clips the
        same embedding.

    References
    ----------
    Kornblith et al., "Similarity of neural network representations revisited", ICML 2019.
    """
    first, second = (rows - rows.mean(axis=0) for rows in (first, second))
    shared = np.linalg.norm(first.T @ second) ** 2
    own = np.linalg.norm(first.T @ first) * np.linalg.norm(second.T @ second)
    return float(shared / own) if own else 0.0
