"""The training loop. Logging, saving and stopping are done by callbacks.

The random generator is seeded with (seed, epoch) at the start of every epoch. A resumed run continues at the
start of an epoch and gives the same result as one that was never stopped; on a CPU, bit for bit.
"""

import copy
import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F

from mer.audio.transforms import EvalTransform, TrainTransform, mixup
from mer.config.sections import AugmentConfig, TrainConfig
from mer.data.windows import Windows
from mer.models.classifier import Classifier
from mer.models.forward import in_batches
from mer.models.outputs import to_probabilities
from mer.models.pooling import first_rows, pool_logits
from mer.training.distributed import ALONE, Ranks
from mer.training.embeddings import Embed, embed, embedded, trains_head_alone
from mer.training.feed import Feed
from mer.training.losses import class_weights, loss_function
from mer.training.norms import joined_norms
from mer.training.predict import autocast, predict_windows
from mer.utils.errors import RunError, Stop

__all__ = ["Callback", "State", "Step", "fit", "report", "tested"]


@dataclass(slots=True)
class State:
    """The state of a run after an epoch, from which it can be resumed: plain data and tensors.

    For a solved head, `epoch` and `best_epoch` count strengths of regularisation instead of epochs.
    `history` has one row of figures per epoch. `model` and `best` are the weights that training changes, of
    the last epoch and of the one with the lowest validation loss (without validation, the last).
    """

    epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    model: dict[str, torch.Tensor] = field(default_factory=dict)
    optimizer: dict = field(default_factory=dict)
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    best_epoch: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step, the `done`th of `total` in the run, with loss and accuracy of its batch."""

    epoch: int
    done: int
    total: int
    loss: float
    accuracy: float


class Callback:
    """Base of callbacks; its methods do nothing."""

    def on_embed(self, done: int, total: int) -> None:
        """While embeddings of a frozen body are computed: `done` of `total` windows."""

    def on_solve(self, done: int, total: int) -> None:
        """While a solver fits a head: `done` of `total` fits."""

    def on_step(self, step: Step) -> None:
        """After each optimizer step."""

    def on_epoch(self, state: State) -> None:
        """After each epoch; its figures are in `state.history[-1]`."""


def report(callbacks: Sequence[Callback], method: str, done: int, total: int) -> None:
    """Report progress to callbacks.

    Parameters
    ----------
    callbacks
        Called in order.
    method
        "on_embed" or "on_solve".
    done, total
        Number of items done, and of all items.
    """
    for callback in callbacks:
        getattr(callback, method)(done, total)


def rate_factor(config: TrainConfig, done: int, total: int) -> float:
    """Factor of the learning rate: linear warm-up, then constant or cosine decay.

    Parameters
    ----------
    config
        Uses `warmup` and `schedule`.
    done, total
        Number of optimizer steps done, and of all steps.

    Returns
    -------
    float
        0 to 1.
    """
    warmup = round(config.warmup * total)
    if done < warmup:
        return (done + 1) / warmup
    if config.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (done - warmup) / max(total - warmup, 1)))


def _optimizer(model: Classifier, config: TrainConfig) -> torch.optim.Optimizer:
    groups = model.parameter_groups(lr=config.lr, backbone_lr=config.backbone_lr)
    for group in groups:
        group["base_lr"] = group["lr"]
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer]
    on_mps = next(model.parameters()).device.type == "mps"
    return kind(groups, lr=config.lr, weight_decay=config.weight_decay, fused=not on_mps)


def epoch_seed(seed: int, epoch: int) -> int:
    """A seed for each (seed, epoch), the same on every machine."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])


def _targets(windows: Windows, model: Classifier) -> torch.Tensor:
    """Target distribution of each clip (clips, outputs); 0 for outputs that are not classes."""
    return F.pad(torch.from_numpy(windows.targets), (0, model.outputs - windows.classes))


def tested(
    model: Classifier, feed: Feed, config: TrainConfig, loss: Callable[..., torch.Tensor], ranks: Ranks
) -> tuple[float, float]:
    """Test a network on windows.

    Parameters
    ----------
    model, feed
        The network and its input.
    config
        Uses `loss`, `batch_size`, `seed` and `amp`.
    loss
        Function of logits and target distributions, as `loss_function` returns it.
    ranks
        The processes that share the work.

    Returns
    -------
    tuple of float
        The loss, and the share of clips whose most probable class is their label.
    """
    logits, scores = predict_windows(model, feed, config, ranks)
    windows, targets = feed.windows, _targets(feed.windows, model)
    clips = windows.pool(to_probabilities(logits, config.loss).numpy(), scores.numpy())
    if model.weigh:
        logits = pool_logits(logits, scores, windows.clip)
    else:
        targets = targets[windows.clip]
    return float(loss(logits, targets)), float(np.mean(clips.argmax(axis=1) == windows.labels))


class _Loop:
    """One training run in progress."""

    def __init__(
        self,
        model: Classifier,
        feed: Feed,
        validation: Feed | None,
        config: TrainConfig,
        augment: AugmentConfig,
        callbacks: Sequence[Callback],
        ranks: Ranks,
    ) -> None:
        self.model, self.feed, self.validation, self.ranks = model, feed, validation, ranks
        self.stop: Stop | None = None
        self.config, self.augment, self.callbacks = config, augment, callbacks
        self.optimizer = _optimizer(model, config)
        self.targets = _targets(feed.windows, model)
        weights = torch.ones(model.outputs)
        if config.class_weights:
            classes = feed.windows.classes
            weights[:classes] = class_weights(feed.windows.window_labels, classes)
        self.loss = loss_function(config, weights)
        self.steps = len(self._parts())
        self.state = State()

    def resume(self, state: State) -> None:
        """Continue from a state, which was saved at the end of an epoch."""
        self.state = copy.deepcopy(state)
        self.model.load_state_dict(self.state.model, strict=False)
        self.optimizer.load_state_dict(self.state.optimizer)
        for parameter, values in self.optimizer.state.items():  # fused optimizers need the same memory layout
            for name, value in values.items():
                if value.shape == parameter.shape:
                    values[name] = torch.empty_like(parameter).copy_(value)

    def run(self) -> State:
        """Train the remaining epochs; then the model has the weights of the last or the best epoch."""
        while self.state.epoch < self.config.epochs and not self._out_of_patience():
            self._epoch()
        if self.config.keep == "best":
            self.model.load_state_dict(self.state.best, strict=False)
        return self.state

    def _parts(self) -> list[torch.Tensor]:
        """Window numbers of each step of an epoch. With attention over windows, clips are kept whole."""
        windows, size = self.feed.windows, self.config.batch_size
        if self.model.weigh is None:
            return in_batches(windows.order(), size)
        clips = len(windows.counts)
        order = windows.clip_order()
        return [
            torch.from_numpy(windows.of_clips(part.numpy()))
            for part in in_batches(order, max(2, round(size * clips / len(windows))))
        ]

    def _out_of_patience(self) -> bool:
        return 0 < self.config.patience <= self.state.epoch - self.state.best_epoch

    def _epoch(self) -> None:
        epoch, started = self.state.epoch, time.perf_counter()
        torch.manual_seed(epoch_seed(self.config.seed, epoch))
        clips = self.feed.windows.clip if self.model.weigh else None
        parts = [self.ranks.share(part, clips) for part in self._parts()]
        if not self.ranks.first:  # from here on, each process draws its own numbers
            torch.manual_seed(epoch_seed(self.config.seed + 1009 * self.ranks.rank, epoch))
        self.model.train()
        # For the steps alone: elsewhere the processes do not call the network equally often.
        with joined_norms(self.model) if self.ranks.size > 1 else nullcontext():
            figures = {"epoch": epoch + 1} | self._steps(parts, epoch * self.steps)
        if self.validation:
            figures |= self._validate()
        for name, value in figures.items():
            if not math.isfinite(value):
                raise RunError(f"{name} is {value} in epoch {epoch + 1}; lower lr={self.config.lr}")
        self._finish_epoch(figures | {"seconds": time.perf_counter() - started})

    def _steps(self, parts: list[tuple[torch.Tensor, float]], first: int) -> dict[str, float]:
        """One optimizer step for each part, counted from `first`; loss and accuracy over all of them."""
        total_loss = hits = count = 0.0
        stream = self.feed.stream([own for own, _ in parts])
        for number, ((indices, share), inputs) in enumerate(zip(parts, stream, strict=True)):
            loss, right, judged = self._step(indices, share, inputs, first + number)
            total_loss += loss * judged
            hits += right
            count += judged
        return {"train_loss": total_loss / count, "train_accuracy": hits / count}

    def _step(
        self, indices: torch.Tensor, share: float, inputs: torch.Tensor, done: int
    ) -> tuple[float, int, int]:
        """One optimizer step; returns the loss, and the numbers of right answers and of all answers.

        An answer is for a window or, with attention over windows, for a clip. `share` is the share of these
        windows in the whole batch.
        """
        total = self.steps * self.config.epochs
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * rate_factor(self.config, done, total)
        clips = self.feed.windows.clip[indices.numpy()]
        targets = self.targets[clips].to(self.feed.device)
        if self.augment.mixup:
            inputs, targets = mixup(inputs, targets, self.augment.mixup)
        with autocast(self.feed.device, self.config):
            logits, scores = self.feed.answer(self.model, inputs)
            if self.model.weigh:
                logits, targets = pool_logits(logits, scores, clips), first_rows(targets, clips)
            loss = self.loss(logits, targets) * share
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.ranks.sum_gradients(self.model.parameters())
        self.optimizer.step()
        hits = (logits.argmax(1) == targets.argmax(1)).sum()
        value, right, count = self._summed(loss, hits, len(logits) if share else 0)
        step = Step(done // self.steps + 1, done + 1, total, value, right / count)
        self._notify(lambda callback: callback.on_step(step))
        return value, right, count

    def _summed(self, loss: torch.Tensor, hits: torch.Tensor, count: int) -> tuple[float, int, int]:
        """Sums over all processes: loss, right answers, answers. Raises Stop if any was asked to stop."""
        if self.ranks.size == 1:
            return loss.item(), int(hits), count
        mine = [loss.detach(), hits * bool(count), count, bool(self.stop)]
        figures = torch.stack([torch.as_tensor(value, device=loss.device).double() for value in mine])
        value, right, counted, stop = self.ranks.sum(figures).tolist()
        if stop:
            raise self.stop or Stop("the first process was asked to stop")
        return value, int(right), int(counted)

    def _notify(self, tell: Callable[[Callback], None]) -> None:
        """Call each callback. With several processes, Stop is kept until all can stop at the same step."""
        try:
            for callback in self.callbacks:
                tell(callback)
        except Stop as stop:
            if self.ranks.size == 1:
                raise
            self.stop = stop

    def _validate(self) -> dict[str, float]:
        loss, right = tested(self.model, self.validation, self.config, self.loss, self.ranks)
        return {"validation_loss": loss, "validation_accuracy": right}

    def _finish_epoch(self, figures: dict[str, float]) -> None:
        state = self.state
        losses = [row.get("validation_loss", math.inf) for row in state.history]
        state.history.append(figures)
        state.epoch += 1
        state.model = self.model.trainable_state()
        state.optimizer = copy.deepcopy(self.optimizer.state_dict())
        if figures.get("validation_loss", -math.inf) < min(losses, default=math.inf):
            state.best, state.best_epoch = state.model, state.epoch
        self._notify(lambda callback: callback.on_epoch(state))


def fit(
    model: Classifier,
    train: Windows,
    validation: Windows | None,
    *,
    transform: TrainTransform,
    config: TrainConfig,
    callbacks: Sequence[Callback] = (),
    resume: State | None = None,
    embed: Embed = embed,
    ranks: Ranks = ALONE,
) -> State:
    """Train a model in place, on the device it is on.

    If the body is frozen and its input is not random, its embeddings are computed once, and every epoch
    trains the head on them. The result is the same, at a small part of the cost.

    Parameters
    ----------
    model
        The network.
    train, validation
        Windows to train on and, optionally, to validate on after each epoch.
    transform
        From image to network input, with random changes for training.
    config
        Settings of training.
    callbacks
        Called in this order after steps and epochs.
    resume
        State to continue from. Default: a new training.
    embed
        Computes embeddings, or reads them from the store.
    ranks
        The processes that train together, each on a share of every batch. All end with the same weights.

    Returns
    -------
    State
        The state after the last epoch.

    Raises
    ------
    RunError
        If a loss is not finite.
    """
    device = next(model.parameters()).device
    feed = Feed(train, transform, device)
    held_out = Feed(validation, EvalTransform(transform.standardizer), device) if validation else None
    if trains_head_alone(model, transform):
        progress = partial(report, callbacks, "on_embed")
        feed = embedded(model, feed, embed, progress)
        held_out = held_out and embedded(model, held_out, embed, progress)
    loop = _Loop(model, feed, held_out, config, transform.config, callbacks, ranks)
    if resume:
        loop.resume(resume)
    with ranks.training():
        return loop.run()
