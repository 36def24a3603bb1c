"""From what was chosen on the Train page to runs: the spec, its command, the time it takes, the launch."""

import math
import time
from dataclasses import replace

import streamlit as st

from mer.cli.specs import command_for
from mer.config import Config
from mer.jobs import launch
from mer.library import Entry
from mer.material import Spec
from mer.tracking import RunStore
from pages._ui.datasets import durations

__all__ = ["launch_all", "spec_of", "time_needed"]

AGAIN = 5.0  # s within which the same launch is taken for a second click


def spec_of(entry: Entry, config: Config, preset_name: str) -> Spec:
    """What a run is asked to do; it carries the command that would ask for the same."""
    spec = Spec(entry.path, config, entry.label_column, entry.song_column)
    return replace(spec, command=command_for(spec, preset_name=preset_name))


@st.cache_data(max_entries=50, show_spinner="Measuring how fast this machine is …")
def _seconds(config_text: str, clips: tuple[float, ...]) -> float:
    from mer.estimate import estimate

    return estimate(Config.from_json(config_text), clips).total


def time_needed(entry: Entry, specs: list[Spec]) -> float:
    """Seconds that all specs take, one after another, by what was measured on this machine."""
    return sum(_seconds(spec.config.to_json(), durations(entry)) for spec in specs)


def launch_all(specs: list[Spec]) -> list[str]:
    """Launch each spec; ids of the runs. What was launched seconds ago is found: it was a second click."""
    launched = st.session_state.setdefault("launched", {})
    for spec in specs:
        _, at = launched.get(spec.command, ("", -math.inf))
        if time.monotonic() - at >= AGAIN:
            launched[spec.command] = (launch(RunStore.open(), spec), time.monotonic())
    return [launched[spec.command][0] for spec in specs]
