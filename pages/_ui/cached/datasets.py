"""The data sets of the library. Each is checked once, and the report is cached."""

from pathlib import Path

import streamlit as st

from mer.data.cache.store import FeatureStore
from mer.data.check import Report, check
from mer.data.library import Entry, find, known
from mer.data.load import load_dataset
from mer.utils.files import home as mer_home
from pages._ui.shell.commands import run_mer
from pages._ui.shell.links import chosen, page_file, remember
from pages._ui.shell.turns import alone

__all__ = ["pick_data", "report", "title"]


def title(entry: Entry) -> str:
    """The name of a data set, with a mark if it is synthetic."""
    return f"{entry.name} (synthetic)" if entry.synthetic else entry.name


def report(entry: Entry, *, again: bool = False) -> Report:
    """The report of a data set. The first time, its clips are decoded, with progress; then it is cached.

    Raises DataError if no clip can be used.
    """
    place, checked = str(mer_home()), _checked()
    if again or (place, entry.key) not in checked:
        with alone(f"Checking {entry.name}"):
            if again or (place, entry.key) not in checked:  # another visitor may have done so in the meantime
                words = [f"--{name.replace('_', '-')}={value}" for name, value in entry.reading.items()]
                words += ["--drop-conflicts"] if entry.drop_conflicts else []
                run_mer("data", "check", entry.path, *words, title=f"Checking {entry.name}")
                _report.clear()
                checked.add((place, entry.key))
    return _report(place, entry.key)


@st.cache_resource
def _checked() -> set[tuple[str, str]]:
    """The data sets that this server has checked; entries are small."""
    return set()


@st.cache_resource(max_entries=6, show_spinner="Reading the report …")
def _report(home: str, key: str) -> Report:
    entry = find(key)
    data = load_dataset(Path(entry.path), **entry.reading)
    conflicts = "drop" if entry.drop_conflicts else "refuse"
    return check(data, FeatureStore.default(), conflicts=conflicts, workers=1)


def pick_data() -> Entry | None:
    """Select one of the data sets whose files exist; without any, a link to Data."""
    sets = {entry.key: entry for entry in known() if entry.exists}
    if not sets:
        st.info("No data sets yet. The demo corpus takes one click.", icon=":material/library_music:")
        st.page_link(page_file("data"), label="Add a data set", icon=":material/library_music:")
        return None
    names = {key: title(entry) for key, entry in sets.items()}
    chosen("data", list(sets), what="data set", called=names.__getitem__)
    key = st.selectbox("Data set", list(sets), format_func=names.__getitem__, key="data")
    remember("data", key)
    return sets[key]
