"""The form that opens a listening session with clips of a data set."""

import random

import streamlit as st

from mer.data.check import Report
from mer.data.clips import Clip
from mer.data.listening import MOST_CLIPS, Session
from pages._ui.cached.datasets import pick_data, report
from pages._ui.shell.changes import open_session

__all__ = ["drawn", "open_form"]


def open_form() -> Session | None:
    """The form; returns the session when it was opened."""
    entry = pick_data()
    if entry is None:
        return None
    found = report(entry)
    clips = found.dataset.clips
    title = st.text_input("Title", f"{found.dataset.name or entry.name}: what do we hear?", max_chars=200)
    picked = st.radio("Clips", ["drawn by chance", "chosen by hand"], horizontal=True, key="vote clips")
    if picked == "chosen by hand":
        names = st.multiselect(
            "Choose the clips", [clip.id for clip in clips], key="vote names", max_selections=MOST_CLIPS
        )
        wanted = [clip for clip in clips if clip.id in names]
    else:
        most = min(MOST_CLIPS, len(clips))
        count = st.slider("How many", 1, most, min(10, most), help="Ten clips of 10 s take about 4 minutes.")
        wanted = drawn(found, count)
        st.caption("From as many songs as possible, with the classes in equal parts.")
    if st.button("Open the vote", type="primary", disabled=not wanted):
        data = found.dataset
        about = {"synthetic": data.synthetic, "licence": data.licence}
        return open_session(title, wanted, data.classes, about=about)
    return None


def drawn(found: Report, count: int, seed: int | None = None) -> list[Clip]:
    """Draw clips by chance: the classes in turn, and a song again only after all songs of its class.

    Parameters
    ----------
    found
        The data set.
    count
        Number of clips; fewer are returned if there are fewer.
    seed
        Seed of the draw; by default, each draw is another one.
    """
    chance = random.Random(seed)
    songs: dict[str, dict[str, list[Clip]]] = {name: {} for name in found.dataset.classes}
    for clip in found.dataset.clips:
        songs[clip.label].setdefault(clip.song or clip.id, []).append(clip)
    queues = [_by_turns(chance, list(of_class.values())) for of_class in songs.values()]
    chance.shuffle(queues)
    picked = _by_turns(None, queues)[:count]
    chance.shuffle(picked)
    return picked


def _by_turns(chance: random.Random | None, groups: list[list[Clip]]) -> list[Clip]:
    """One clip of each group, then a second one of each, and so on; by chance in which order."""
    if chance:
        groups = [chance.sample(group, len(group)) for group in chance.sample(groups, len(groups))]
    longest = max(map(len, groups), default=0)
    return [group[turn] for turn in range(longest) for group in groups if turn < len(group)]
