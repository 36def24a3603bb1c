"""The link to a listening session, also as a code that phones read."""

from urllib.parse import urlsplit

import segno
import streamlit as st

from mer.data.listening import Session
from pages._ui.shell.links import page_file

__all__ = ["show_link"]

LOCAL = ("localhost", "127.0.0.1", "::1")


def show_link(session: Session) -> None:
    """Show the address, its QR code, and a button that opens it here."""
    address = urlsplit(st.context.url or "http://localhost:8501")
    link = f"{address.scheme}://{address.netloc}/vote?session={session.key}"
    left, right = st.columns([1, 4], vertical_alignment="center")
    with left:
        code = segno.make(link).svg_inline(scale=4, border=2, dark="#000", light="#fff")
        st.image(code, width=160)
    with right:
        st.write("Open this link on each phone or laptop:")
        st.code(link, language=None)
        if address.hostname in LOCAL:
            st.warning(
                "Only this computer can open an address with localhost. Start the dashboard with "
                "`--server.address 0.0.0.0`, and open it by the computer's address in your network."
            )
        st.page_link(page_file("vote"), label="Vote here", icon=":material/how_to_vote:",
                     query_params={"session": session.key})  # fmt: skip
