"""All actions that change something. Each first checks that this visitor may do it.

No other page module imports the wrapped functions (tests/pages/test_permission.py checks this).
"""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any

from mer.data import library, listening
from mer.jobs import queue
from mer.runs import deleted
from mer.runs.store import RunStore
from mer.utils.errors import AccessError
from pages._ui.shell import access
from pages._ui.shell.commands import run_mer
from pages._ui.shell.permission import require, spend

if TYPE_CHECKING:
    from mer.experiments.ensembling import Joined
    from mer.experiments.prepared import Spec

__all__ = [
    "add", "add_clips", "add_demo", "add_kaggle", "add_zip", "cancel", "compose", "delete", "forget", "join",
    "join_session", "launch", "open_session", "prune", "relaunch", "remove_session", "restore", "save_votes",
    "vote",
]  # fmt: skip


def _permitted(action: Callable[..., Any], *, spends: str = "") -> Callable[..., Any]:
    """Wrap an action; it raises AccessError for visitors who may change nothing."""

    @wraps(action)
    def checked(*arguments: Any, **keywords: Any) -> Any:
        """Check the permission, count the use, and call the action."""
        require()
        if spends:
            spend(spends)
        return action(*arguments, **keywords)

    return checked


cancel, delete, prune = _permitted(queue.cancel), _permitted(queue.delete), _permitted(queue.prune)
restore = _permitted(deleted.restore)
add, add_demo, forget = _permitted(library.add), _permitted(library.add_demo), _permitted(library.forget)
add_clips = _permitted(library.add_clips, spends="uploads")
add_zip = _permitted(library.add_zip, spends="uploads")
add_kaggle = _permitted(library.add_kaggle, spends="uploads")
open_session = _permitted(listening.create, spends="uploads")
remove_session = _permitted(listening.remove)


def save_votes(session: listening.Session) -> library.Entry:
    """Write the votes of a session as a data set, and add it to the library."""
    require()
    return library.add(session.export(), label_column=session.label_column)


def join_session(session: listening.Session, nickname: str) -> str:
    """`Session.join`, for everyone who has the link, unless the dashboard is read-only."""
    _require_writable()
    spend("votes")
    return session.join(nickname)


def vote(session: listening.Session, token: str, number: int, emotion: str, sure: int) -> None:
    """`Session.vote`, for everyone who has joined, unless the dashboard is read-only."""
    _require_writable()
    spend("votes")
    session.vote(token, number, emotion, sure)


def _require_writable() -> None:
    if access.read_only():
        raise AccessError("This dashboard is read-only: nobody can vote. Ask for another address.")


def launch(runs: RunStore, spec: "Spec") -> str:
    """`mer.jobs.queue.launch`. Raises AccessError if the queue is full."""
    return _if_there_is_room(runs, queue.launch, spec)


def relaunch(runs: RunStore, name: str) -> Any:
    """`mer.jobs.queue.relaunch`. Raises AccessError if the queue is full."""
    return _if_there_is_room(runs, queue.relaunch, name)


def _if_there_is_room(runs: RunStore, action: Callable[..., Any], what: Any) -> Any:
    """Call an action of the queue, unless the visitor may not or too many runs wait already."""
    require()
    access.require_room(sum(run.status == "queued" for run in runs.active()))
    spend("launches")
    return action(runs, what)


def compose(folder: str, clips_per_class: int) -> None:
    """Generate the demo corpus in a separate process."""
    require()
    run_mer("data", "demo", "--out", folder, f"--clips-per-class={clips_per_class}", title="Generating")


def join(runs: RunStore, names: Sequence[str], *, weights: str, command: str) -> "Joined":
    """`mer.experiments.ensembling.join`; see there for the parameters.

    Raises AccessError for visitors who may change nothing.
    """
    from mer.experiments.ensembling import join  # torch

    require()
    return join(runs, names, weights=weights, command=command)
