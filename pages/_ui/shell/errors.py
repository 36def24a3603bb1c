"""Errors on a page: one line with the remedy; technical details in the log and on demand."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from mer.utils.errors import MerError
from pages._ui.shell.permission import shown
from pages._ui.shell.style import plain

__all__ = ["guarded"]


@contextmanager
def guarded(said: set[str] | None = None) -> Iterator[None]:
    """Show an error and its remedy; an unexpected exception also goes to the log.

    Parts of a page that may raise the same error share `said`, so that it is shown once.
    """
    try:
        yield
    except MerError as error:
        if said is None or str(error) not in said:
            st.error(plain(shown(str(error))), icon=":material/error:")
        if said is not None:
            said.add(str(error))
    except Exception as error:  # a page must not end in a traceback
        logging.getLogger("mer.pages").exception("a page failed")
        st.error("Something went wrong here. Reload the page. If the error stays, see the server's log.")
        with st.expander("Technical details"):
            st.code(shown(f"{type(error).__name__}: {error}"), language=None)
