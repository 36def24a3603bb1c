"""Which format a file is in: an older one is brought up to date, a newer one refused.

A format's number is raised when an older mer would misread what this one writes, and then only together with
a step in `STEPS` that reads the former. Files from before there were numbers count as format 1.
"""

import reprlib
from collections.abc import Callable
from typing import Any

from mer.utils.errors import MerError

__all__ = ["CURRENT", "STEPS", "upgraded"]

CURRENT = {"card": 2, "run": 2, "state": 1, "library": 2}
# Settings that cards and runs of format 1 lack, and what they meant: section -> name -> value.
FIRST_SETTINGS: dict[str, dict[str, Any]] = {
    "audio": {"resampler": "sinc"},
    "split": {"validation_from": "rest"},
}


def _with_first_settings(data: Any) -> Any:
    """A card or a run's spec with the settings that format 1 lacked; anything else stays as it is."""
    config = data.get("config") if isinstance(data, dict) else None
    if not isinstance(config, dict):
        return data
    filled = dict(config)
    for section, values in FIRST_SETTINGS.items():
        if isinstance(own := config.get(section, {}), dict):
            filled[section] = values | own
    return data | {"config": filled}


# (kind, format) -> what makes the next format of it
STEPS: dict[tuple[str, int], Callable[[Any], Any]] = {
    ("card", 1): _with_first_settings,
    ("run", 1): _with_first_settings,
    ("library", 1): lambda rows: {"entries": rows},
}


def upgraded(kind: str, data: Any, number: object, *, where: str, error: type[MerError]) -> Any:
    """`data`, which `where` has in the format `number` (None: it has none), in the present format.

    Raises `error` if it was written by a newer mer, or the number is none.
    """
    current = CURRENT[kind]
    number = 1 if number is None else number
    if type(number) is not int or number < 1:
        raise error(f"{where}: format {reprlib.repr(number)} is no format; it should be 1 to {current}")
    if number > current:
        newer = f"format {reprlib.repr(number)}; this one reads up to {current}"
        raise error(f"{where} was made by a newer mer ({newer}); update mer")
    for step in range(number, current):
        data = STEPS[kind, step](data)
    return data
