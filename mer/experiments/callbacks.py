"""Callbacks of a run's training: log its metrics, report progress, save its state, and stop on request."""

import time
from collections.abc import Callable
from pathlib import Path

from mer.runs.heartbeat import Heartbeat
from mer.runs.store import RunStore
from mer.training.loop import Callback, State, Step
from mer.training.state import load_state, save_state
from mer.utils.errors import Stop
from mer.utils.progress import Notify, ProgressMeter

__all__ = ["LogMetrics", "Reporter", "SaveState", "SendState", "newest_state"]


class Reporter(Callback):
    """Reports the progress of one run, sends its heartbeat, and stops it on request.

    It is a `Notify` for work outside the training loop, and a callback inside it.

    Parameters
    ----------
    store, run_id
        The run, and where it is recorded.
    heartbeat
        Writes a heartbeat with a report, if one is due.
    notify
        Also called with every report, for a terminal.
    every
        Minimum time in s between two writes to the store, and between two checks for a request to stop.
    """

    def __init__(
        self,
        store: RunStore,
        run_id: str,
        *,
        heartbeat: Heartbeat | None = None,
        notify: Notify | None = None,
        every: float = 1.0,
    ) -> None:
        self.store, self.run_id, self.every = store, run_id, every
        self.beat: Callable[[], None] = heartbeat.beat if heartbeat else lambda: None
        self.notify, self.meter, self.last = notify, ProgressMeter(), float("-inf")

    def __call__(self, title: str, done: int, total: int) -> None:
        """Report that `done` of `total` are done.

        Raises Stop if the run is to stop, TakenError if another process has taken it over.
        """
        report, due = self.meter(title, done, total), self._due()
        if due:
            self.store.tag(self.run_id, {"mer.stage": report.to_json()})
        if self.notify:
            self.notify(title, done, total)
        if due:
            self._stop_if_requested(f"stopped on request ({title})")

    def on_embed(self, done: int, total: int) -> None:
        """Report the embeddings of a frozen network, in windows."""
        self("computing features", done, total)

    def on_solve(self, done: int, total: int) -> None:
        """Report the fits of a solved head."""
        self("fitting the head", done, total)

    def on_step(self, step: Step) -> None:
        """Check for a request to stop."""
        if self._due():
            self._stop_if_requested(f"stopped on request in epoch {step.epoch}")

    def _due(self) -> bool:
        self.beat()
        due = time.monotonic() - self.last >= self.every
        if due:
            self.last = time.monotonic()
        return due

    def _stop_if_requested(self, reason: str) -> None:
        if self.store.stop_requested(self.run_id):
            raise Stop(reason)


class LogMetrics(Callback):
    """Logs the metrics of steps and epochs. It writes at most once in `every` s, so that runs stay fast.

    Rows for epochs have the number of the epoch as step. A solved run has no epochs: its rows are for
    strengths of regularisation, and its metric `epochs` is the number of strengths.
    """

    def __init__(self, store: RunStore, run_id: str, *, every: float = 0.5) -> None:
        self.store, self.run_id, self.every = store, run_id, every
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.flushed = time.monotonic()
        self.first: tuple[float, int] | None = None  # time and number of the first step, for the time left

    def on_step(self, step: Step) -> None:
        """Note loss and accuracy of the batch, the share that is done, and the time left in s."""
        if self.first is None:
            self.first = (time.monotonic(), step.done)
            self.store.tag(self.run_id, {"mer.stage": "", "mer.steps": str(step.total)})
        metrics = {
            "step_loss": step.loss,
            "step_accuracy": step.accuracy,
            "progress": step.done / step.total,
        }
        seconds, steps = time.monotonic() - self.first[0], step.done - self.first[1]
        if steps:
            metrics["seconds_left"] = seconds / steps * (step.total - step.done)
        self.rows.append((step.done, metrics))
        self._flush_if_due()

    def log_missing(self, state: State) -> None:
        """Note the epochs of a saved state that its process did not log before it was killed."""
        metrics = ("train_loss", "inner_loss")  # of a head trained by steps, and of a solved one
        logged = {step for name in metrics for step, _ in self.store.history(self.run_id, name)}
        missing = [row for row in state.history if row["epoch"] not in logged]
        self.rows += [(row["epoch"], _epoch_metrics(row)) for row in missing]
        if missing and state.best_epoch:
            self.rows.append((state.epoch, {"best_epoch": float(state.best_epoch)}))

    def on_epoch(self, state: State) -> None:
        """Note the epoch's metrics and which epoch is the best so far."""
        best = {"best_epoch": float(state.best_epoch)} if state.best_epoch else {}
        self.rows.append((state.epoch, _epoch_metrics(state.history[-1]) | best))
        self._flush_if_due()

    def _flush_if_due(self) -> None:
        if time.monotonic() - self.flushed >= self.every:
            self.flush()

    def flush(self) -> None:
        """Write the noted rows to the store."""
        rows, self.rows = self.rows, []
        self.store.log(self.run_id, rows)
        self.flushed = time.monotonic()


def _epoch_metrics(row: dict[str, float]) -> dict[str, float]:
    """The metrics that are logged for an epoch, from its row of the history."""
    metrics = {key: value for key, value in row.items() if key not in ("epoch", "seconds")}
    return metrics | {"epoch_seconds": row["seconds"]}


class SaveState(Callback):
    """Saves the state to resume from after each epoch. Raises StorageError if the store's home was moved."""

    def __init__(self, path: Path, store: RunStore | None = None) -> None:
        self.path, self.store = path, store

    def on_epoch(self, state: State) -> None:
        """Replace the state on disk. Raises StorageError."""
        if self.store:
            self.store.require_home()
        save_state(self.path, state)


class SendState(Callback):
    """Sends the saved state to the server, for other machines to resume from. It comes after SaveState.

    It sends at most once in `every` s. After a transfer it waits ten times the duration of the transfer, so
    that transfers take at most a tenth of the run's time.
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
        """Send the newest state unless it was sent already."""
        if self.epoch == self.sent:
            return
        began = time.monotonic()
        self.store.send_state(self.run_id, self.path, self.epoch)
        self.sent, ended = self.epoch, time.monotonic()
        self.due = ended + max(self.every, 10 * (ended - began))


def newest_state(store: RunStore, run_id: str, path: Path) -> State | None:
    """The state to resume from: the one on this machine, or a newer one that another machine sent.

    Parameters
    ----------
    store, run_id
        The run, and where it is recorded.
    path
        File of the state on this machine. A newer state replaces it.

    Returns
    -------
    State or None
        None if the run never finished an epoch.

    Raises
    ------
    RunError, StorageError
        If the state is damaged.
    """
    saved = load_state(path)
    fetched = store.fetch_state(run_id, path, saved.epoch if saved else 0)
    return load_state(path) if fetched else saved
