"""Who may do what in a dashboard that others can reach. The rules alone; the pages ask for them.

    MER_READ_ONLY=1                       look and predict, and nothing else
    MER_DATA_ROOTS=/srv/music:/srv/more   the only folders in which a typed path may lie
    MER_EDITORS=teacher@school.in,@lab.in who of those signed in may change things; without it, all of them
    MER_MAX_QUEUE=100                     runs that may wait at once

Set for the process of the server. The command line is for those who have the machine, and asks nobody.
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
WORKING_DAY = 12 * 3600.0  # s after which one signs in anew
MOST_WAITING = 100
# From a slash that does not stand within a word, an address or a fraction, to the last slash.
PATH = re.compile(r"(?<![\w:/.])~?/(?:[^\s/:;,'\"<>|]+/)+")


def read_only() -> bool:
    """True if the dashboard is for looking and predicting alone; a value that is not understood means yes."""
    return os.environ.get("MER_READ_ONLY", "").strip().lower() not in OFF


def data_roots() -> tuple[Path, ...]:
    """The folders in which a typed path may lie, links followed; none where that was not said.

    Raises ConfigError for one that is not absolute.
    """
    named = [part.strip() for part in os.environ.get("MER_DATA_ROOTS", "").split(os.pathsep) if part.strip()]
    for name in named:
        if not Path(name).is_absolute():
            raise ConfigError(f"MER_DATA_ROOTS={name!r} is not absolute; give whole paths")
    return tuple(Path(name).resolve() for name in named)


def confined(typed: str, *, shared: bool) -> Path:
    """A typed path that may be read, absolute, links followed.

    Where there are data roots it lies in one of them; where there are none, any path will do unless the
    dashboard is `shared` with others. Raises AccessError, which says nothing of what is there.
    """
    roots = data_roots()
    if not roots and shared:
        raise AccessError(
            f"{typed!r}: this dashboard takes no paths; upload the clips, or have MER_DATA_ROOTS name folders"
        )
    try:
        path = Path(typed).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a circle of links, no such user, a NUL
        raise AccessError(f"{typed!r} is not a path; give that of a folder, a zip or a CSV file") from error
    if roots and not any(path.is_relative_to(root) for root in roots):
        allowed = ", ".join(map(str, roots))
        raise AccessError(f"{typed!r} lies outside the data folders; use a path in {allowed}")
    return path


def is_editor(claims: Mapping[str, Any]) -> bool:
    """True if MER_EDITORS names whom these OpenID Connect claims belong to, or names nobody.

    It lists addresses, domains as `@school.in`, and subjects (`sub`). An address counts only where the
    provider says that it verified it (OpenID Connect Core 1.0, 5.1): others can be made up.
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
    """True if the sign-in that these claims are of (`iat`, Unix time) is less than 12 hours old."""
    issued = claims.get("iat")
    now = time.time() if now is None else now
    return isinstance(issued, int | float) and now - issued < WORKING_DAY


def most_waiting() -> int:
    """How many runs may wait at once. Raises ConfigError."""
    text = os.environ.get("MER_MAX_QUEUE", "").strip() or str(MOST_WAITING)
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"MER_MAX_QUEUE={text!r} should be a whole number of runs, 1 or more")
    return int(text)


def require_room(waiting: int, more: int = 1) -> None:
    """Raise AccessError if `more` runs would make the queue, of `waiting` runs, too long."""
    if waiting + more > (most := most_waiting()):
        raise AccessError(f"{waiting} runs are waiting, and at most {most} may; wait, or stop some on Live")


class Allowance:
    """At most `most` of something in any `seconds`, for one visitor."""

    def __init__(self, what: str, most: int, seconds: float) -> None:
        self.what, self.most, self.seconds = what, most, seconds
        self.spent: deque[float] = deque()

    def take(self) -> None:
        """Use one. Raises AccessError, with the time to wait, where none is left."""
        now = time.monotonic()
        while self.spent and now - self.spent[0] >= self.seconds:
            self.spent.popleft()
        if len(self.spent) >= self.most:
            wait = self.seconds - (now - self.spent[0])
            raise AccessError(
                f"{self.most} {self.what} in {self.seconds / 60:.0f} minutes are allowed; wait {wait:.0f} s, "
                "or use the command line"
            )
        self.spent.append(now)


def without_paths(text: str) -> str:
    """`text` with only the last part of each path, for those who need not know this machine."""
    for place in sorted({str(home()), str(Path.cwd()), str(Path.home())}, key=len, reverse=True):
        if place != os.sep:
            text = text.replace(f"{place}{os.sep}", f"{os.sep}…{os.sep}")
    return PATH.sub("", text)
