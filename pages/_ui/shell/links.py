"""Links to pages. Choices are kept in the address, so that a link opens the same view."""

from collections.abc import Sequence
from pathlib import Path

import streamlit as st

__all__ = ["chosen", "page_file", "remember"]

PAGES_FOLDER = Path(__file__).parents[2]


def chosen(key: str, options: Sequence[str], *, default: Sequence[str] = (), many: int = 0) -> None:
    """Set the widget `key` to its value in the address, or to the last choice of this session.

    Call it right before the widget, and `remember` right after. Values that are not options are dropped; the
    beginning of an option stands for the option.

    Parameters
    ----------
    key
        The widget's key and the name in the address.
    options
        The possible values.
    default
        Values if nothing was chosen; the first option if none is given.
    many
        The most values that the widget takes; 0 for a widget with a single value. If above 0, the choice may
        also be empty.
    """
    link, state = st.query_params.get_all(key), st.session_state
    in_use = key in state and link == state.get(f"link {key}", link)
    if in_use:
        wanted = state[key] if many else [state[key]]
    else:
        before = link or state.get(f"last {key}", list(default))
        wanted = [_match(value, options) for value in before]
    found = [value for value in dict.fromkeys(wanted) if value in options]
    if not found and not (in_use and many and not wanted):
        found = [value for value in default if value in options]
    if many:
        state[key] = found[:many]
    elif options:
        state[key] = found[0] if found else options[0]


def _match(value: str, options: Sequence[str]) -> str | None:
    found = [option for option in options if option == value] or [
        option for option in options if value and option.startswith(value)
    ]
    return found[0] if found else None


def remember(key: str, value: str | Sequence[str] | None) -> None:
    """Write a choice to the address."""
    values = [value] if isinstance(value, str) else list(value or ())
    st.session_state[f"last {key}"] = st.session_state[f"link {key}"] = values
    if st.query_params.get_all(key) != values:
        st.query_params[key] = values


def page_file(name: str) -> str:
    """Path of a page's script, as `st.page_link` needs it."""
    return str(PAGES_FOLDER / f"{name}.py")
