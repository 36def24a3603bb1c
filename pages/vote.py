"""Class vote: a class hears clips without their names, votes, and sees where it and the networks differ."""

import streamlit as st

from mer.data.listening import find, known
from pages._ui.frame import page
from pages._ui.parts.ballot import ballot
from pages._ui.parts.confirm import confirm
from pages._ui.parts.new_session import open_form
from pages._ui.parts.session_link import show_link
from pages._ui.parts.session_results import show_results
from pages._ui.shell.changes import remove_session
from pages._ui.shell.errors import guarded
from pages._ui.shell.links import chosen, remember
from pages._ui.shell.permission import refusal
from pages._ui.shell.style import plain

with page("Class vote"):
    if key := st.query_params.get("session"):
        ballot(find(key))
        st.stop()
    st.title("Class vote")
    sessions = {session.key: session for session in known()}
    st.write(
        "Pick some clips. Everyone opens a link, hears each clip without its name, and chooses the emotion "
        "that it induces. Then compare what people hear with the labels and with the networks."
    )
    if why := refusal():
        st.info(why, icon=":material/lock:")
    else:
        with st.expander("Open a new vote", expanded=not sessions, icon=":material/add:"), guarded():
            if opened := open_form():
                st.query_params["vote"] = opened.key
                st.rerun()
    if sessions:
        titles = {key: session.title for key, session in sessions.items()}
        chosen("vote", list(sessions), what="vote", called=titles.__getitem__)
        shown = st.selectbox("Vote", list(sessions), format_func=titles.__getitem__, key="vote")
        remember("vote", shown)
        show_link(sessions[shown])
        show_results(sessions[shown])
        if not refusal():
            confirm(
                f"delete {shown}",
                f"Delete **{plain(titles[shown])}** with its copies of the clips and all votes? This cannot "
                "be undone.",
                "Delete it", remove_session, shown, opener="Delete this vote",
            )  # fmt: skip
