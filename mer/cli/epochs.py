"""The progress of a training on a terminal."""

import sys

from tqdm import tqdm

from mer.training.loop import Callback, State, Step

__all__ = ["EpochBar"]


class EpochBar(Callback):
    """A bar for each run and a line for each epoch, on standard error."""

    def __init__(self) -> None:
        self.bar: tqdm | None = None
        self.done = 0

    def on_step(self, step: Step) -> None:
        """Move the bar."""
        if self.bar is None or step.done <= self.done:
            self.bar = tqdm(desc="training", total=step.total, unit="step", file=sys.stderr, disable=None)
            self.done = 0
        self.bar.update(step.done - self.done)
        self.done = step.done
        if step.done == step.total:
            self.bar.close()

    def on_epoch(self, state: State) -> None:
        """Print the epoch's metrics."""
        row, parts = state.history[-1], []
        if "inner_loss" in row:
            found = f"inner loss {row['inner_loss']:.3f}, accuracy {row['inner_accuracy']:.0%}"
            parts.append(f"strength {row['strength']:g}: {found}")
        if "train_loss" in row:
            solved = "best_strength" in row
            name = f"chosen strength {row['best_strength']:g}" if solved else f"epoch {row['epoch']}"
            parts.append(f"{name}: loss {row['train_loss']:.3f}, accuracy {row['train_accuracy']:.0%}")
        if "validation_loss" in row:
            parts.append(
                f"validation loss {row['validation_loss']:.3f}, accuracy {row['validation_accuracy']:.0%}"
            )
        tqdm.write("; ".join([*parts, f"{row['seconds']:.1f} s"]), file=sys.stderr)
