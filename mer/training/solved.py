"""Trains a run whose head is solved: computes embeddings, fits the head at once, and reports the figures.

Such a run has no epochs. Its history has one row for each strength of regularisation that was tried, where
other runs have one for each epoch. So everything that counts epochs, such as the run metric `epochs`, counts
strengths for a solved run.
"""

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from mer.audio.transforms import EvalTransform, TrainTransform
from mer.config.sections import TrainConfig
from mer.data.windows import Windows
from mer.models.classifier import Classifier
from mer.training.distributed import ALONE, Ranks
from mer.training.embeddings import Embed, embed, embedded
from mer.training.feed import Feed
from mer.training.loop import Callback, State, report, tested
from mer.training.losses import loss_function
from mer.training.solve import solve
from mer.utils.errors import RunError, Stop

__all__ = ["MOST_VALUES", "fit_solved"]

MOST_VALUES = 2**27  # features of all windows together: 1 GiB as float64
BATCH = 4096  # windows read at once


def fit_solved(
    model: Classifier,
    train: Windows,
    validation: Windows | None,
    *,
    transform: TrainTransform,
    config: TrainConfig,
    songs: Sequence[str],
    callbacks: Sequence[Callback] = (),
    resume: State | None = None,
    embed: Embed = embed,
    ranks: Ranks = ALONE,
) -> State:
    """Fit the head of a model at once, in place.

    Parameters
    ----------
    songs
        Song of each training clip; inner folds keep songs whole.
    model, train, validation, transform, config, callbacks, resume, embed, ranks
        See `mer.training.loop.fit`. A run that was stopped before it had a solution is solved again. With
        several processes the first solves, and the others receive its weights.

    Returns
    -------
    State
        `history` has a row for each strength: epoch (its number), strength, seconds, inner_loss and
        inner_accuracy where there were inner folds, and gamma for a kernel. The last row also has the figures
        of the chosen strength: best_strength, best_gamma, train_loss, train_accuracy, and validation_loss
        and validation_accuracy where there is a validation part. `best_epoch` is the number of the chosen
        strength.

    Raises
    ------
    RunError
        If there are more than 2^27 features, or if one of them is not finite.
    """
    if resume and resume.model:
        model.resize_as(resume.model)
        model.load_state_dict(resume.model, strict=False)
        return resume
    device, started = next(model.parameters()).device, time.perf_counter()
    progress = partial(report, callbacks, "on_embed")
    feed = embedded(model, Feed(train, transform, device), embed, progress)
    found = _solve_and_share(model, ranks, feed, config, songs, callbacks)
    parts = {"train": feed}
    if validation:
        held_out = Feed(validation, EvalTransform(transform.standardizer), device)
        parts["validation"] = embedded(model, held_out, embed, progress)
    figures = {f"best_{name}": found["rows"][found["best"]][name] for name in found["names"]}
    loss = loss_function(config, torch.ones(model.outputs))
    for name, part in parts.items():
        figures[f"{name}_loss"], figures[f"{name}_accuracy"] = tested(model, part, config, loss, ranks)
    seconds = (time.perf_counter() - started) / len(found["rows"])
    rows = [{"epoch": n + 1} | row | {"seconds": seconds} for n, row in enumerate(found["rows"])]
    rows[-1] |= figures
    return _report_rows(model, rows, found["best"] + 1, callbacks)


def _solve_and_share(
    model: Classifier,
    ranks: Ranks,
    feed: Feed,
    config: TrainConfig,
    songs: Sequence[str],
    callbacks: Sequence[Callback],
) -> dict[str, Any]:
    """Solve in the first process and copy the head to the others; returns the rows and the best index."""
    head, stop, found = model.head, None, {}
    if ranks.first:
        try:
            solution = solve(
                _features(model, feed, config.solver), feed.windows.targets, feed.windows.clip, songs,
                solver=config.solver, seed=config.seed, progress=partial(report, callbacks, "on_solve"),
            )  # fmt: skip
            head.fill(**solution.tensors)
            names = [name for name in ("strength", "gamma") if name in solution.rows[0]]
            found = {"rows": solution.rows, "best": solution.best, "names": names}
            found |= {"size": head.linear.in_features}
        except Stop as request:
            stop = request
        ranks.send(found)
    else:
        found = ranks.receive()
    if not found:
        raise stop or Stop("the first process was asked to stop")
    if not ranks.first:
        head.resize(found["size"])
    with torch.no_grad():
        for tensor in head.state_dict().values():
            tensor.copy_(ranks.sum(tensor.clone() if ranks.first else torch.zeros_like(tensor)))
    return found


def _features(model: Classifier, feed: Feed, solver: str) -> np.ndarray:
    """Features of all windows before standardisation, float32 (windows, features)."""
    count, width = len(feed.windows), len(model.head.mean)
    if count * width > MOST_VALUES:
        raise RunError(
            f"{count} windows of {width} features are more than solver={solver!r} can hold "
            f"({MOST_VALUES} values); use solver='steps'"
        )
    found = np.empty((count, width), np.float32)
    for indices in torch.arange(count).split(BATCH):
        rows = feed.embeddings[indices.to(feed.embeddings.device)]
        found[indices.numpy()] = model.head.features(rows).detach().cpu().numpy()
    return found


def _report_rows(model: Classifier, rows: list[dict], best: int, callbacks: Sequence[Callback]) -> State:
    """Report each row to the callbacks, like an epoch. Only the last state has weights to resume from."""
    state = State(optimizer={"state": {}, "param_groups": []})
    for number, row in enumerate(rows, 1):
        state.epoch, state.history = number, [*state.history, row]
        if number == len(rows):
            state.model, state.best_epoch = model.trainable_state(), best
            state.best = state.model
        for callback in callbacks:
            callback.on_epoch(state)
    return state
