"""Permissions of one visitor: the rules of `access`, and sign-in if it is configured.

Sign-in is Streamlit's own OpenID Connect, configured in .streamlit/secrets.toml ([auth]); see
docs/operations.md.
"""

from typing import Any

import streamlit as st

from mer.utils.errors import AccessError
from pages._ui.shell import access
from pages._ui.shell.style import plain

__all__ = ["button", "confined", "identity", "refusal", "require", "shown", "spend"]

LOCAL = ("localhost", "127.0.0.1", "::1")
# The most uses in one session, and in how many seconds.
ALLOWANCES = {
    "launches": (60, 3600.0),
    "uploads": (30, 3600.0),
    "predictions": (300, 600.0),
    "explanations": (60, 600.0),
    "votes": (300, 600.0),
}


def identity() -> None:
    """Show the visitor's name and *Sign out*, or *Sign in*; nothing without sign-in."""
    if access.read_only():
        st.badge("read-only", icon=":material/visibility:", color="gray")
    elif not _signs_in():
        return
    elif _signed_in():
        st.caption(plain(str(st.user.get("name") or st.user.get("email") or "signed in")))
        st.button("Sign out", icon=":material/logout:", on_click=st.logout)
    else:
        st.button("Sign in", icon=":material/login:", on_click=st.login)


def refusal() -> str:
    """The reason why this visitor may change nothing; empty if changes are allowed."""
    if access.read_only():
        return "This dashboard is read-only: you can view and predict, but not change anything."
    if not _signs_in():
        return ""
    if not _signed_in():
        return "Sign in to change anything here. Viewing and predicting need no sign-in."
    if not access.is_editor(st.user.to_dict()):
        return "You may view and predict. To make changes, ask the operator to add you as an editor."
    return ""


def require() -> None:
    """Raise AccessError if this visitor may change nothing."""
    if why := refusal():
        raise AccessError(why)


def button(label: str, **options: Any) -> bool:
    """`st.button` for an action that changes something; if disabled, its help says why."""
    why = refusal()
    return st.button(label, **options | ({"disabled": True, "help": why} if why else {}))


def spend(what: str) -> None:
    """Count one use of a limited action. Raises AccessError if the limit is reached."""
    kept = st.session_state.setdefault("allowances", {})
    if what not in kept:
        kept[what] = access.Allowance(what, *ALLOWANCES[what])
    kept[what].take()


def confined(typed: str) -> str:
    """The absolute path for a typed one. Raises AccessError if it may not be read."""
    alone = st.get_option("server.address") in LOCAL and not _signs_in()
    return str(access.confined(typed, shared=not alone))


def shown(text: str) -> str:
    """A message or a command as this visitor may see it."""
    return access.without_paths(text) if access.read_only() else text


def _signs_in() -> bool:
    """True if sign-in is configured."""
    return "is_logged_in" in st.user


def _signed_in() -> bool:
    return bool(st.user.get("is_logged_in")) and access.is_fresh(st.user.to_dict())
