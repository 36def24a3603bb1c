"""A player for a clip, in a format that every browser plays."""

from typing import Any

import streamlit as st

from mer.audio.playing import playable
from pages._ui.shell.turns import in_turn

__all__ = ["player"]


@st.cache_data(max_entries=16, max_size="200 MB", show_spinner=False)
def _playable(content: bytes, name: str) -> tuple[bytes, str]:
    with in_turn():
        return playable(content, name=name)


def player(content: bytes, name: str, **options: Any) -> None:
    """Show a player.

    Parameters
    ----------
    content, name
        The audio file, and its name for errors.
    **options
        Further arguments of `st.audio`.

    Raises
    ------
    AudioError
        If the clip cannot be decoded.
    """
    sound, kind = _playable(content, name)
    st.audio(sound, format=kind, alt=name, **options)
