"""Tags of a clip, on demand, by networks that were trained to tag music."""

import streamlit as st

from pages._ui.shell.errors import guarded
from pages._ui.shell.permission import spend
from pages._ui.shell.style import percent, plain
from pages._ui.shell.turns import in_turn

__all__ = ["offer_tags"]

SHOWN = 6  # tags of each network


@st.cache_data(max_entries=64, show_spinner="Computing tags …")
def _tags(content: bytes, name: str) -> dict[str, dict[str, float]]:
    from mer.audio.decode import load
    from mer.inference.tags import INPUT, NETWORKS, tags_of
    from pages._ui.parts.clip import LONGEST

    spend("predictions")
    with in_turn():
        samples = load(content, INPUT.audio, name=name, max_seconds=LONGEST)
        return {corpus: tags_of(samples, network) for network, corpus in NETWORKS.items()}


@st.fragment  # so that a clip goes on playing
def offer_tags(content: bytes, name: str) -> None:
    """A switch for the most probable tags of a clip."""
    if not st.toggle(
        "Tags",
        key="tags",
        help="Two networks that were trained to tag music describe the clip in other words.",
    ):
        return
    with guarded():
        for corpus, tags in _tags(content, name).items():
            first = list(tags.items())[:SHOWN]
            words = " · ".join(f"**{plain(tag)}** {percent(probability)}" for tag, probability in first)
            st.markdown(f"{corpus}: {words}")
        st.caption(
            "Tags that listeners and editors of these collections gave to music. They do not exclude each "
            "other, and they do not change the prediction above."
        )
