"""What happens around the training loop: figures to the run store, state to disk, and stopping."""

import time
from pathlib import Path

from mer.runs.store import RunStore
from mer.training.loop import Callback, State, Step, Stop
from mer.training.state import load_state, save_state
from mer.utils.progress import Pace

__all__ = ["LogFigures", "SaveState", "SendState", "StopOnRequest", "newest_state"]


class LogFigures(Callback):
    """Logs steps and epochs, at most a few times a second so that a fast run is not held up."""

    def __init__(self, store: RunStore, run_id: str, *, every: float = 0.5) -> None:
        self.store, self.run_id, self.every = store, run_id, every
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.flushed = time.monotonic()
        self.pace = Pace()
        self.first: tuple[float, int] | None = None  # when which step was done, for the time that is left

    def on_embed(self, done: int, total: int) -> None:
        """Tell how far the features of a frozen network are."""
        self.tell("computing features", done, total)

    def tell(self, title: str, done: int, total: int) -> None:
        """Say how far work is that is no training."""
        words = self.pace(title, done, total)
        if time.monotonic() - self.flushed >= self.every:
            self.store.tag(self.run_id, {"mer.stage": words})
            self.flushed = time.monotonic()

    def on_step(self, step: Step) -> None:
        """Note loss and accuracy of the batch, how far the run is, and how long it will still take."""
        if self.first is None:
            self.first = (time.monotonic(), step.done)
            self.store.tag(self.run_id, {"mer.stage": "", "mer.steps": str(step.total)})
        figures = {
            "step_loss": step.loss,
            "step_accuracy": step.accuracy,
            "progress": step.done / step.total,
        }
        began, steps = time.monotonic() - self.first[0], step.done - self.first[1]
        if steps:
            figures["seconds_left"] = began / steps * (step.total - step.done)
        self.rows.append((step.done, figures))
        if time.monotonic() - self.flushed >= self.every:
            self.flush()

    def make_up(self, state: State) -> None:
        """Note the epochs of a saved state that a killed process had no time to log."""
        logged = {step for step, _ in self.store.history(self.run_id, "train_loss")}
        missing = [row for row in state.history if row["epoch"] not in logged]
        self.rows += [(row["epoch"], _figures(row)) for row in missing]
        if missing and state.best_epoch:
            self.rows.append((state.epoch, {"best_epoch": float(state.best_epoch)}))

    def on_epoch(self, state: State) -> None:
        """Note the epoch's figures and which epoch is the best so far."""
        best = {"best_epoch": float(state.best_epoch)} if state.best_epoch else {}
        self.rows.append((state.epoch, _figures(state.history[-1]) | best))
        if time.monotonic() - self.flushed >= self.every:
            self.flush()

    def flush(self) -> None:
        """Send what was noted."""
        rows, self.rows = self.rows, []
        self.store.log(self.run_id, rows)
        self.flushed = time.monotonic()


def _figures(row: dict[str, float]) -> dict[str, float]:
    """What is logged of an epoch."""
    figures = {key: value for key, value in row.items() if key not in ("epoch", "seconds")}
    return figures | {"epoch_seconds": row["seconds"]}


class SaveState(Callback):
    """Keeps what is needed to resume, after each epoch."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_epoch(self, state: State) -> None:
        """Replace the state on disk."""
        save_state(self.path, state)


class SendState(Callback):
    """Keeps the saved state with the server too, for other machines to go on from; after SaveState.

    At most once in `every` s, and not before ten times the time that the last took: a tenth of the run's
    time at most goes into it.
    """

    def __init__(self, store: RunStore, run_id: str, path: Path, *, every: float = 60.0) -> None:
        self.store, self.run_id, self.path, self.every = store, run_id, path, every
        self.due, self.epoch, self.sent = float("-inf"), 0, 0

    def on_epoch(self, state: State) -> None:
        """Send the state if it is time."""
        self.epoch = state.epoch
        if time.monotonic() >= self.due:
            self.send()

    def send(self) -> None:
        """Send the newest state, if it was not yet."""
        if self.epoch == self.sent:
            return
        began = time.monotonic()
        self.store.send_state(self.run_id, self.path, self.epoch)
        self.sent, ended = self.epoch, time.monotonic()
        self.due = ended + max(self.every, 10 * (ended - began))


def newest_state(store: RunStore, run_id: str, path: Path) -> State | None:
    """The state to go on from: this machine's at `path`, or a newer one that another left with the server.

    None if the run never finished an epoch. Raises RunError or StorageError if it is damaged.
    """
    saved = load_state(path)
    fetched = store.fetch_state(run_id, path, saved.epoch if saved else 0)
    return load_state(path) if fetched else saved


class StopOnRequest(Callback):
    """Raises Stop when the run store says so; asks it at most once a second.

    Raises TakenError if another process took the run on.
    """

    def __init__(self, store: RunStore, run_id: str, *, every: float = 1.0) -> None:
        self.store, self.run_id, self.every = store, run_id, every
        self.asked = 0.0

    def on_embed(self, done: int, total: int) -> None:
        """Stop here if asked to."""
        self.look(f"stopped on request after the features of {done} windows of {total}")

    def on_step(self, step: Step) -> None:
        """Stop here if asked to."""
        self.look(f"stopped on request in epoch {step.epoch}")

    def look(self, reason: str) -> None:
        """Raise Stop with this reason if asked to stop."""
        if time.monotonic() - self.asked >= self.every:
            self.asked = time.monotonic()
            if self.store.stop_requested(self.run_id):
                raise Stop(reason)
