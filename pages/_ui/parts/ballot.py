"""What a listener sees: a nickname is asked once, then clip after clip without its name."""

import random

import streamlit as st

from mer.data.listening import SURE, Session, Vote
from pages._ui.parts.player import player
from pages._ui.shell.changes import join_session, vote
from pages._ui.shell.errors import guarded
from pages._ui.shell.links import page_file
from pages._ui.shell.style import bilingual, plain

__all__ = ["ballot"]


def ballot(session: Session) -> None:
    """Ask for a nickname, then for a choice for each clip. The address knows the listener after a reload."""
    st.title(plain(session.title))
    token = st.query_params.get("me", "")
    name = session.listener(token) if token else None
    if name is None:
        _join(session)
        return
    mine = {choice.clip: choice for choice in session.votes(token)}
    order = random.Random(token).sample(range(len(session.pieces)), len(session.pieces))
    place = _place(order, mine)
    st.progress(len(mine) / len(order), text=f"{plain(name)}: {len(mine)} of {len(order)} clips")
    if place is None:
        _done(session, order)
        return
    with guarded():
        _ask(session, token, order[place], mine.get(order[place]), place)
    if place > 0 and st.button("Back to the clip before", icon=":material/arrow_back:"):
        st.session_state["ballot place"] = place - 1
        st.rerun()


def _place(order: list[int], mine: dict[int, Vote]) -> int | None:
    """The place in the order to show: the one asked for, or the first without a vote; None at the end."""
    asked = st.session_state.get("ballot place")
    if asked is not None and asked < len(order):
        return asked
    return next((place for place, clip in enumerate(order) if clip not in mine), None)


def _join(session: Session) -> None:
    st.write(
        f"You will hear {len(session.pieces)} clips without their names. Choose the emotion that each one "
        "induces in you. There is no wrong answer, and only your nickname is kept."
    )
    with guarded(), st.form("join"):
        nickname = st.text_input("Nickname", max_chars=30)
        if st.form_submit_button("Begin", type="primary"):
            st.query_params["me"] = join_session(session, nickname)
            st.rerun()


def _ask(session: Session, token: str, clip: int, before: Vote | None, place: int) -> None:
    """Play one clip and take the choice."""
    st.subheader(f"Clip {place + 1}")
    player(session.path(clip).read_bytes(), f"Clip {place + 1}")
    emotion = st.pills(
        "Which emotion does it induce in you?", session.classes, key=f"emotion {clip}",
        default=before.emotion if before else None, format_func=lambda name: plain(bilingual(name)),
    )  # fmt: skip
    sure = st.segmented_control(
        "How sure are you?", range(len(SURE)), key=f"sure {clip}", default=before.sure if before else 1,
        format_func=SURE.__getitem__, required=True,
    )  # fmt: skip
    if st.button("Save and go on", type="primary", disabled=emotion is None, key=f"save {clip}"):
        vote(session, token, clip, emotion, sure)
        st.session_state["ballot place"] = place + 1 if before else None
        st.rerun()


def _done(session: Session, order: list[int]) -> None:
    st.success("Thank you. All your choices are saved.")
    st.page_link(page_file("vote"), label="See what the others heard", icon=":material/how_to_vote:",
                 query_params={"vote": session.key})  # fmt: skip
    if st.button("Change a choice", icon=":material/edit:"):
        st.session_state["ballot place"] = 0
        st.rerun()
