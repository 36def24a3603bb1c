"""Launching runs from a page: the spec with its command, the time needed, the launch."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import streamlit as st

from mer.cli.specs import command_for
from mer.config.sections import Config
from mer.data.cache.controls import CONTROLS
from mer.data.cache.descriptors import undescribed
from mer.data.cache.store import FeatureStore
from mer.data.library import Entry
from mer.experiments.prepared import Spec
from mer.runs.store import RunStore
from mer.utils.errors import ConfigError
from pages._ui.cached.datasets import report
from pages._ui.shell.changes import launch
from pages._ui.shell.links import page_file
from pages._ui.shell.permission import button
from pages._ui.shell.style import amount
from pages._ui.shell.turns import in_turn

if TYPE_CHECKING:
    from mer.experiments.estimate import Estimate
    from mer.models.size import Size

__all__ = [
    "launch_all",
    "launch_and_watch",
    "offer_checks",
    "require_learnable",
    "sizes_of",
    "spec_of",
    "time_needed",
]

CONTROL, LEAK = "Launch the three controls", "Launch with and without keeping songs apart"
# Checks of the whole pipeline: the settings that change from run to run, and how to read the result.
CHECKS = {
    CONTROL: [{"control": control} for control in CONTROLS],
    LEAK: [{"group_by_song": True}, {"group_by_song": False}],
}
LOOK = {
    CONTROL: "The same run with shuffled labels, silence and noise. Nothing can be learned from these: "
    "an interval wholly above chance and the largest class shows that something is wrong.",
    LEAK: "The same run twice. If the second scores higher by clip, the gain comes from clips of one song on "
    "both sides of the split, not from better recognition.",
}
AGAIN = 5.0  # s within which the same launch counts as a second click


def spec_of(entry: Entry, config: Config, preset_name: str) -> Spec:
    """The spec of a run, with the command line that would launch the same run.

    Parameters
    ----------
    entry
        The data set.
    config
        All settings.
    preset_name
        The preset that the command line starts from.
    """
    spec = Spec(entry.path, config, **entry.reading, drop_conflicts=entry.drop_conflicts)
    return replace(spec, command=command_for(spec, preset_name=preset_name))


def require_learnable(configs: Sequence[Config]) -> None:
    """Raise ConfigError if only a head would be trained, on a network with random weights."""
    if random := [config.train.backbone for config in configs if config.train.frozen_at_random]:
        raise ConfigError(
            f"with random weights, and frozen except for its head, {', '.join(random)} would learn nothing "
            "and score like chance; train the whole network (preset full), or start from the weights that "
            "come with a network"
        )


@st.cache_data(max_entries=50, show_spinner="Measuring the speed of this machine …")
def _estimate(config_text: str, *lengths: tuple[float, ...]) -> "Estimate":
    from mer.experiments.estimate import estimate

    clips, unprepared, undescribed = lengths
    config = Config.from_json(config_text)
    with in_turn():
        return estimate(config, clips, unprepared=unprepared, undescribed=undescribed)


def time_needed(entry: Entry, specs: list[Spec]) -> float:
    """Seconds that the specs take one after another, from measurements on this machine.

    Clips that are already prepared in the store are not counted. The first run prepares the clips for all.
    """
    facts, store, config = report(entry).facts, FeatureStore.default(), specs[0].config
    hashes, control = [fact.file_hash for fact in facts], config.split.control
    unprepared = store.unprepared(hashes, audio=config.audio, mel=config.mel, control=control)
    no_descriptors = undescribed(store, hashes, audio=config.audio, control=control)
    missing = [[True] * len(facts), unprepared, no_descriptors]
    lengths = [tuple(fact.seconds for fact, new in zip(facts, part, strict=True) if new) for part in missing]
    found = [_estimate(spec.config.to_json(), *lengths) for spec in specs]
    return found[0].preparing + found[0].baseline + sum(one.training for one in found)


def sizes_of(entry: Entry, specs: Sequence[Spec]) -> list[str]:
    """A sentence on the size of each spec's network."""
    classes = len(report(entry).dataset.classes)
    found = [(spec.config.train.backbone, _size(spec.config.to_json(), classes)) for spec in specs]
    return [
        f"{name}: {amount(size.total)} parameters in body and head, {amount(size.trained)} of them trained"
        for name, size in found
    ]


@st.cache_data(max_entries=50, show_spinner=False)
def _size(config_text: str, classes: int) -> "Size":
    from mer.models.size import planned_size

    return planned_size(Config.from_json(config_text).train, classes=classes)


def launch_and_watch(specs: list[Spec]) -> None:
    """Launch each spec and open Live."""
    started = launch_all(specs)
    st.switch_page(page_file("live"), query_params={"run": [run_id[:8] for run_id in started]})


def offer_checks(entry: Entry, configs: Sequence[Config], preset_name: str) -> None:
    """A button for each check; it launches the runs of the check.

    Parameters
    ----------
    entry
        The data set.
    configs
        Settings of the runs to check.
    preset_name
        The preset that their command lines start from.
    """
    with st.expander("Can the scores be believed?", icon=":material/rule:"):
        for title, changes in CHECKS.items():
            st.caption(LOOK[title])
            if button(title, icon=":material/rule:"):
                changed = [config.updated(**change) for config in configs for change in changes]
                launch_and_watch([spec_of(entry, config, preset_name) for config in changed])


def launch_all(specs: list[Spec]) -> list[str]:
    """Launch each spec; returns the run ids. A second click within 5 s returns the runs of the first."""
    launched = st.session_state.setdefault("launched", {})
    for spec in specs:
        _, at = launched.get(spec.command, ("", -math.inf))
        if time.monotonic() - at >= AGAIN:
            launched[spec.command] = (launch(RunStore.open(), spec), time.monotonic())
    return [launched[spec.command][0] for spec in specs]
