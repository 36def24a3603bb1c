"""Format numbers of files: older formats are upgraded, newer ones refused.

A number is raised only if an older mer would misread the new format, and together with a step in `STEPS` that
upgrades the previous format. Files without a number are format 1.
"""

import reprlib
from collections.abc import Callable
from typing import Any

from mer.utils.errors import MerError

__all__ = ["CURRENT", "STEPS", "upgraded"]

CURRENT = {"card": 2, "run": 2, "state": 1, "library": 2}
# Settings that cards and runs of format 1 lack, with the values they used: section -> name -> value.
FIRST_SETTINGS: dict[str, dict[str, Any]] = {
    "audio": {"resampler": "sinc"},
    "split": {"validation_from": "rest"},
}


def _with_first_settings(data: Any) -> Any:
    """Add the settings that format 1 lacks to a card or a run's spec; other data is unchanged."""
    config = data.get("config") if isinstance(data, dict) else None
    if not isinstance(config, dict):
        return data
    filled = dict(config)
    for section, values in FIRST_SETTINGS.items():
        if isinstance(own := config.get(section, {}), dict):
            filled[section] = values | own
    return data | {"config": filled}


# (kind, format) -> function that upgrades to the next format
STEPS: dict[tuple[str, int], Callable[[Any], Any]] = {
    ("card", 1): _with_first_settings,
    ("run", 1): _with_first_settings,
    ("library", 1): lambda rows: {"entries": rows},
}


def upgraded(kind: str, data: Any, number: object, *, where: str, error: type[MerError]) -> Any:
    """Upgrade data to the current format.

    Parameters
    ----------
    kind
        Kind of data: a key of `CURRENT`.
    data
        Content of the file.
    number
        Its format number; None counts as 1.
    where
        Name of the file in error messages.
    error
        Class of the error to raise.

    Raises
    ------
    MerError
        `error`, if a newer mer wrote the file or `number` is not a valid format number.
    """
    current = CURRENT[kind]
    number = 1 if number is None else number
    if type(number) is not int or number < 1:
        raise error(f"{where}: format {reprlib.repr(number)} is not valid; it should be 1 to {current}")
    if number > current:
        newer = f"format {reprlib.repr(number)}; this one reads up to {current}"
        raise error(f"{where} was made by a newer mer ({newer}); update mer")
    for step in range(number, current):
        data = STEPS[kind, step](data)
    return data
