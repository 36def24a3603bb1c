"""Links to pages. Choices are kept in the address, so that a link opens the same view.

Each write to the address makes an entry in the browser's history. So a page writes all choices at once, and
only after its visitor chose something: the back button leaves a page that was only looked at.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import streamlit as st

from pages._ui.shell.style import plain

__all__ = ["arrive", "chosen", "page_file", "remember", "write_address"]

PAGES_FOLDER = Path(__file__).parents[2]


def arrive(page: str) -> None:
    """Call it before the first choice of a page. It notes whether the visitor was on this page before."""
    state = st.session_state
    state["stayed"] = state.get("at page") == page
    state["at page"], state["choices"] = page, {}
    if not state["stayed"]:
        state["chose"] = False


def write_address() -> None:
    """Write all choices to the address, if the visitor changed one. Call it at the end of a page."""
    state = st.session_state
    choices = state.get("choices", {})
    if not state.get("chose"):
        return
    state["chose"] = False
    changed = {key: values for key, values in choices.items() if st.query_params.get_all(key) != values}
    if changed:
        st.query_params.update(changed)
    for key, values in choices.items():
        state[f"link {key}"], state[f"unknown {key}"] = values, []


def chosen(
    key: str,
    options: Sequence[str],
    *,
    default: Sequence[str] = (),
    many: int = 0,
    what: str = "",
    called: Callable[[str], str] = str,
) -> None:
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
    what
        What the options are, such as "run". If given, a message says when the address names one that is not
        there.
    called
        Returns the name of an option, for that message.
    """
    link, state = st.query_params.get_all(key), st.session_state
    last = state.get(f"last {key}") or []
    in_use = key in state and link == state.get(f"link {key}", link)
    if in_use:
        wanted = state[key] if many else [state[key]]
        if wanted != [_match(value, options) for value in last]:
            state["chose"], state[f"unknown {key}"] = True, []
    else:
        went_back = key in state and not st.query_params and state.get("stayed")
        wanted = [_match(value, options) for value in link or (not went_back and last) or default]
        state[f"unknown {key}"] = [value for value in link if not _match(value, options)]
    found = [value for value in dict.fromkeys(wanted) if value in options]
    if not found and not (in_use and many and not wanted):
        found = [value for value in default if value in options]
    if many:
        state[key] = found[:many]
    elif options:
        state[key] = found[0] if found else options[0]
    if what and (unknown := state.get(f"unknown {key}")):
        _say_unknown(what, unknown, [called(value) for value in (state[key] if many else [state[key]])])


def _match(value: str, options: Sequence[str]) -> str | None:
    found = [option for option in options if option == value] or [
        option for option in options if value and option.startswith(value)
    ]
    return found[0] if found else None


def _say_unknown(what: str, unknown: Sequence[str], shown: Sequence[str]) -> None:
    """Say which values of the address are not there, and what is shown in their place."""
    names = " or ".join(f"'{plain(value[:20])}'" for value in unknown[:3])
    st.info(
        f"No {what} {names} here; it may have been deleted. "
        f"Showing {plain(', '.join(shown)) if shown else 'none'}.",
        icon=":material/link_off:",
    )


def remember(key: str, value: str | Sequence[str] | None) -> None:
    """Note a choice, for `write_address` and for later visits of the page."""
    state, values = st.session_state, [value] if isinstance(value, str) else list(value or ())
    state[f"last {key}"], state[f"link {key}"] = values, st.query_params.get_all(key)
    state.setdefault("choices", {})[key] = values


def page_file(name: str) -> str:
    """Path of a page's script, as `st.page_link` needs it."""
    return str(PAGES_FOLDER / f"{name}.py")
