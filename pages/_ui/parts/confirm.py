"""One part for every action that takes something away: a button that asks first."""

from collections.abc import Callable
from typing import Any

import streamlit as st

__all__ = ["confirm"]


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
        Called with `arguments` after this answer, before the page is drawn again.
    opener
        The text of the button that opens the question.
    icon
        The icon of that button.
    hint
        Its help.
    """
    with st.popover(opener, icon=icon, help=hint, key=f"ask {key}", on_change="rerun"):
        st.write(question)
        st.button(label, icon=icon, key=key, on_click=_answer, args=(f"ask {key}", action, *arguments))


def _answer(popover: str, action: Callable[..., None], *arguments: Any) -> None:
    """Close the question and act."""
    st.session_state[popover] = False
    action(*arguments)
