"""Access rules of a dashboard that others can reach. `permission` applies them to a visitor.

    MER_READ_ONLY=1                       visitors can view and predict, nothing else
    MER_DATA_ROOTS=/srv/music:/srv/more   typed paths must lie in one of these folders
    MER_EDITORS=teacher@school.in,@lab.in signed-in visitors who may make changes; without it, all of them
    MER_MAX_QUEUE=100                     runs that may wait at once

These are environment variables of the server. They do not restrict the command line.
"""

import os
import re
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mer.utils.errors import AccessError, ConfigError
from mer.utils.files import home

__all__ = [
    "Allowance",
    "confined",
    "data_roots",
    "is_editor",
    "is_fresh",
    "most_waiting",
    "read_only",
    "require_room",
    "without_paths",
]

OFF = ("", "0", "false", "no", "off")
WORKING_DAY = 12 * 3600.0  # s; after that, visitors must sign in again
MOST_WAITING = 100
# Starts at a slash that is not inside a word, an address or a fraction; ends at the last slash.
PATH = re.compile(r"(?<![\w:/.])~?/(?:[^\s/:;,'\"<>|]+/)+")


def read_only() -> bool:
    """True if visitors can only view and predict. An unknown value of MER_READ_ONLY counts as true."""
    return os.environ.get("MER_READ_ONLY", "").strip().lower() not in OFF


def data_roots() -> tuple[Path, ...]:
    """The folders in which typed paths must lie, links resolved; empty without MER_DATA_ROOTS.

    Raises ConfigError if one is not absolute.
    """
    named = [part.strip() for part in os.environ.get("MER_DATA_ROOTS", "").split(os.pathsep) if part.strip()]
    for name in named:
        if not Path(name).is_absolute():
            raise ConfigError(f"MER_DATA_ROOTS={name!r} is not absolute; give whole paths")
    return tuple(Path(name).resolve() for name in named)


def confined(typed: str, *, shared: bool) -> Path:
    """The absolute path for a typed one, links resolved, if it may be read.

    With data roots, it must lie in one of them. Without, any path is allowed unless the dashboard is `shared`
    with others. Raises AccessError, whose message does not reveal whether the path exists.
    """
    roots = data_roots()
    if not roots and shared:
        raise AccessError(
            f"{typed!r}: this dashboard accepts no paths; upload the clips, or set MER_DATA_ROOTS"
        )
    try:
        path = Path(typed).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, an unknown user, a NUL
        raise AccessError(f"{typed!r} is not a path; give that of a folder, a zip or a CSV file") from error
    if roots and not any(path.is_relative_to(root) for root in roots):
        allowed = ", ".join(map(str, roots))
        raise AccessError(f"{typed!r} lies outside the data folders; use a path in {allowed}")
    return path


def is_editor(claims: Mapping[str, Any]) -> bool:
    """True if MER_EDITORS names the person of these OpenID Connect claims, or if it is empty.

    MER_EDITORS lists addresses, domains such as `@school.in`, and subjects (`sub`). An address counts only if
    the provider verified it (OpenID Connect Core 1.0, 5.1), because others can be made up.
    """
    named = {part.strip().casefold() for part in os.environ.get("MER_EDITORS", "").split(",") if part.strip()}
    if not named:
        return True
    known = {str(claims.get("sub") or "").casefold()}
    if claims.get("email_verified") is True:
        address = str(claims.get("email") or "").casefold()
        known |= {address, f"@{address.rpartition('@')[2]}"}
    return bool(named & (known - {"", "@"}))


def is_fresh(claims: Mapping[str, Any], now: float | None = None) -> bool:
    """True if the sign-in (claim `iat`, Unix time) is less than 12 hours old."""
    issued = claims.get("iat")
    now = time.time() if now is None else now
    return isinstance(issued, int | float) and now - issued < WORKING_DAY


def most_waiting() -> int:
    """Number of runs that may wait at once. Raises ConfigError."""
    text = os.environ.get("MER_MAX_QUEUE", "").strip() or str(MOST_WAITING)
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"MER_MAX_QUEUE={text!r} should be a whole number of runs, 1 or more")
    return int(text)


def require_room(waiting: int, more: int = 1) -> None:
    """Raise AccessError if `more` runs do not fit into the queue, in which `waiting` runs are."""
    if waiting + more > (most := most_waiting()):
        raise AccessError(
            f"runs already waiting: {waiting}, allowed: {most}; try again later, or stop some on Live"
        )


class Allowance:
    """A rate limit for one visitor: at most `most` uses in any `seconds`."""

    def __init__(self, what: str, most: int, seconds: float) -> None:
        self.what, self.most, self.seconds = what, most, seconds
        self.spent: deque[float] = deque()

    def take(self) -> None:
        """Count one use. Raises AccessError with the time to wait if none is left."""
        now = time.monotonic()
        while self.spent and now - self.spent[0] >= self.seconds:
            self.spent.popleft()
        if len(self.spent) >= self.most:
            wait = self.seconds - (now - self.spent[0])
            raise AccessError(
                f"limit of {self.most} {self.what} in {self.seconds / 60:.0f} min reached; wait {wait:.0f} s "
                "or use the command line"
            )
        self.spent.append(now)


def without_paths(text: str) -> str:
    """`text` with each path reduced to its last part, so that it does not reveal folders of this machine."""
    for place in sorted({str(home()), str(Path.cwd()), str(Path.home())}, key=len, reverse=True):
        if place != os.sep:
            text = text.replace(f"{place}{os.sep}", f"{os.sep}…{os.sep}")
    return PATH.sub("", text)
