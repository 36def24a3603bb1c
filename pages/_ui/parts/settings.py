"""All settings of a run as widgets, generated from the config: help, range, the preset's value."""

import dataclasses
import typing
from typing import Any, Literal

import streamlit as st

from mer.config.sections import Config

__all__ = ["ask_settings"]

TITLES = {
    "audio": "Sound", "mel": "Spectrogram", "split": "Split", "augment": "Augmentation", "train": "Training",
}  # fmt: skip
ELSEWHERE = ("backbone", "fold")  # chosen elsewhere on the page, or set by the run itself


def ask_settings(base: Config, key: str) -> dict[str, Any]:
    """Show a widget for each setting. Returns the settings that differ from `base`, by name.

    Parameters
    ----------
    base
        The preset.
    key
        Prefix of the widgets' keys, different for each preset.
    """
    changes = {}
    parts = dataclasses.fields(base)
    for tab, part in zip(st.tabs([TITLES[part.name] for part in parts]), parts, strict=True):
        section = getattr(base, part.name)
        hints = typing.get_type_hints(type(section))
        columns = tab.columns(3)
        fields = [field for field in dataclasses.fields(section) if field.name not in ELSEWHERE]
        if part.name == "train":  # one seed for split and training; it is chosen with the split
            fields = [field for field in fields if field.name != "seed"]
        for number, field in enumerate(fields):
            with columns[number % 3]:
                before = getattr(section, field.name)
                value = _ask(field, hints[field.name], before, f"{key} {part.name}.{field.name}")
                if value != before:
                    changes[field.name] = value
    return changes


def _ask(field: dataclasses.Field, hint: Any, before: Any, key: str) -> Any:
    """Show the widget of one setting, which has the value `before`; returns its value."""
    label = field.name.replace("_", " ")
    words = {"key": key, "help": f"{field.metadata['help']} The preset has {before}."}
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        return st.selectbox(label, choices, index=choices.index(before), **words)
    if hint is bool:
        return st.toggle(label, before, **words)
    if hint is str:
        return st.text_input(label, before, **words)
    low, high = field.metadata["low"], field.metadata["high"]
    bounds = {
        "min_value": None if low is None else hint(low),
        "max_value": None if high is None else hint(high),
    }
    shape = {"step": 1} if hint is int else {"format": "%g", "step": _step(before)}
    value = st.number_input(label, value=before, **bounds, **shape, **words)
    return before if value is None else value


def _step(value: float) -> float:
    """A step that fits the size of a value: about a tenth of it, to one digit; 0.05 for zero."""
    return 0.05 if not value else float(f"{abs(value) / 10:.0e}")
