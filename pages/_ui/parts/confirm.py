"""One part for every action that takes something away: a button that asks first."""

from collections.abc import Callable
from typing import Any

import streamlit as st

from mer.utils.errors import MerError
from pages._ui.shell.permission import shown
from pages._ui.shell.style import plain

__all__ = ["confirm"]

REFUSED = "answer that failed"


def confirm(
    key: str,
    question: str,
    label: str,
    action: Callable[..., None],
    *arguments: Any,
    opener: str = "",
    icon: str = ":material/delete:",
    hint: str = "",
) -> None:
    """A button that opens a question, with a second button that answers yes.

    The question belongs to the one thing that `key` names, and closes with the answer. Without a key of its
    own it would stay open for the next thing in the same place.

    Parameters
    ----------
    key
        Names the action and the thing, such as "delete" and the id of a run. No other part has this key.
    question
        The question in Markdown. It names the thing and says what is lost.
    label
        The answer yes. It names the action.
    action
        Called with `arguments` after this answer, before the page is drawn again. A MerError that it raises
        is shown here.
    opener
        The text of the button that opens the question.
    icon
        The icon of that button.
    hint
        Its help.
    """
    if st.session_state.get(REFUSED, ("",))[0] == key:
        _, error = st.session_state.pop(REFUSED)
        st.error(plain(shown(error)), icon=":material/error:")
    with st.popover(opener, icon=icon, help=hint, key=f"ask {key}", on_change="rerun"):
        st.write(question)
        st.button(label, icon=icon, key=key, on_click=_answer, args=(key, action, *arguments))


def _answer(key: str, action: Callable[..., None], *arguments: Any) -> None:
    """Close the question and act; an error is shown when the page is drawn again."""
    st.session_state[f"ask {key}"] = False
    try:
        action(*arguments)
    except MerError as error:
        st.session_state[REFUSED] = key, str(error)
