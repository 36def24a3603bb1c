"""Settings as dataclass fields with help text and range, and the base class that validates them."""

import dataclasses
import sys
import typing
from dataclasses import dataclass
from typing import Any, Literal, Self

from mer.utils.errors import ConfigError

__all__ = ["Section", "setting"]

LARGEST = sys.float_info.max  # larger ints cannot become floats
LONGEST = 1000  # characters of a text setting, such as a path


def setting(default: Any, text: str, *, low: float | None = None, high: float | None = None) -> Any:
    """Define a dataclass field that `Section` checks.

    Parameters
    ----------
    default
        Default value.
    text
        Help text, shown by the command line and on pages.
    low, high
        Inclusive bounds of a number. Default: no bound.
    """
    return dataclasses.field(default=default, metadata={"help": text, "low": low, "high": high})


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Base of all config sections; checks types, choices and ranges on creation."""

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            _check(field, hints[field.name], value)
            if hints[field.name] is float:  # 1 and 1.0, and 0.0 and -0.0, are equal but differ as JSON
                object.__setattr__(self, field.name, float(value) + 0.0)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Inverse of `to_dict`. Raises ConfigError for an unknown key or a bad value."""
        if not isinstance(data, dict):
            raise ConfigError(f"{cls.__name__}: expected an object, got {_short(data)}")
        names = [field.name for field in dataclasses.fields(cls)]
        for key in data:
            if key not in names:
                raise ConfigError(f"unknown setting {_short(key)}; {cls.__name__} has: {', '.join(names)}")
        hints = typing.get_type_hints(cls)
        values = {
            key: hints[key].from_dict(value) if _is_section(hints[key]) else value
            for key, value in data.items()
        }
        return cls(**values)

    def replace(self, **changes: Any) -> Self:
        """Copy with some settings changed."""
        return dataclasses.replace(self, **changes)


def _is_section(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Section)


def _short(value: Any) -> str:
    """`repr` of a value, shortened if long, since a card from elsewhere may hold any value."""
    text = repr(value)
    return text if len(text) <= LONGEST // 2 else f"{text[:40]}...{text[-40:]}"


def _check(field: dataclasses.Field, hint: Any, value: Any) -> None:
    """Raise ConfigError if `value` has the wrong type, is not a valid choice, or is out of range."""
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            raise ConfigError(f"{field.name}={_short(value)} is not one of: {', '.join(map(str, choices))}")
        return
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    right = is_number if hint is float else type(value) is hint
    if not right:
        raise ConfigError(f"{field.name}={_short(value)} should be of type {hint.__name__}")
    if isinstance(value, str) and len(value) > LONGEST:
        raise ConfigError(f"{field.name}={_short(value)} is longer than {LONGEST} letters")
    low, high = field.metadata.get("low"), field.metadata.get("high")
    below, above = low is not None and value < low, high is not None and value > high
    if below or above or (is_number and not -LARGEST <= value <= LARGEST):
        bounds = f"{'' if low is None else f'{low} <= '}{field.name}{'' if high is None else f' <= {high}'}"
        raise ConfigError(f"{field.name}={_short(value)} is out of range: {bounds}")
