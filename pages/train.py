"""Train: choose data set, networks and settings, see the time needed, and launch."""

from collections.abc import Sequence

import streamlit as st

from mer.config.inputs import PRETRAINED, required_input
from mer.config.presets import PRESETS, preset
from mer.config.sections import Config
from mer.utils.progress import duration
from pages._ui.cached.datasets import pick_data
from pages._ui.frame import page
from pages._ui.parts.launch import (
    launch_and_watch,
    offer_checks,
    require_learnable,
    sizes_of,
    spec_of,
    time_needed,
)
from pages._ui.parts.pick_networks import pick_networks, preset_in_address
from pages._ui.parts.settings import NAMES, ask_settings
from pages._ui.shell.links import chosen, remember
from pages._ui.shell.permission import button, confined, refusal, shown
from pages._ui.shell.style import plain

TITLES = {"default": "best on real music (default)"}  # in brackets the name on the command line
WORDS = {
    "default": "For music networks and for image networks. A minute or two.",
    "full": "Trains the whole network. Minutes to hours.",
    "quick": "The network's own pooling and a new output layer. For a first look.",
    "paper": "The study of 2022: binary cross-entropy, Adam, batch 64, 5 epochs, 80-20.",
    "as-released": "The settings of that study's released code. See Ladder.",
}


def pick_configs(names: Sequence[str]) -> tuple[str, list[Config]]:
    """Choose a preset and change its settings: the preset's name, and a config for each network.

    Raises ConfigError for invalid combinations.
    """
    chosen("preset", list(PRESETS), default=[preset_in_address()])
    name = st.radio(
        "Preset", list(PRESETS), key="preset", horizontal=True, captions=[WORDS[name] for name in PRESETS],
        format_func=lambda name: TITLES.get(name, name),
    )  # fmt: skip
    remember("preset", name)
    with st.expander("Settings", icon=":material/tune:"):
        st.caption(
            "The question mark explains each setting. Settings that you do not change keep the preset's "
            "value. The address holds your changes."
        )
        changes = ask_settings(
            preset(name, backbone=names[0]), f"{name} {'music' if required_input(names[0]) else 'images'}"
        )
        if changes.get("weights", "none") not in ("none", *PRETRAINED):
            changes["weights"] = confined(changes["weights"])
    if changes:
        st.caption(
            plain("Changed: " + ", ".join(f"{NAMES[key]} = {value}" for key, value in changes.items()))
        )
    return name, [preset(name, backbone=backbone, **changes) for backbone in names]


def main() -> None:
    """The form, the time needed, and the button."""
    entry = pick_data()
    if entry is None:
        return
    names = pick_networks()
    if not names:
        st.info("Choose at least one network.")
        return
    preset_name, configs = pick_configs(names)
    require_learnable(configs)
    specs = [spec_of(entry, config, preset_name) for config in configs]
    with st.container(border=True):
        left, right = st.columns([3, 1], vertical_alignment="center")
        with left:
            seconds = time_needed(entry, specs)
            runs = f"{len(specs)} runs, one after another" if len(specs) > 1 else "1 run"
            st.markdown(f"**About {duration(seconds)} on this machine**: {runs}")
            st.caption("  \n".join(sizes_of(entry, specs)))
        with right:
            if button("Launch", type="primary", icon=":material/rocket_launch:", width="stretch"):
                launch_and_watch(specs)
        st.caption(f"The same as {'this command' if len(specs) == 1 else 'these commands'}:")
        st.code("\n".join(shown(spec.command) for spec in specs), language=None, wrap_lines=True)
    if not refusal():
        offer_checks(entry, configs, preset_name)


with page("Train"):
    st.title("Train")
    st.write("A run is a separate process. It continues when you close this page.")
    if why := refusal():
        st.info(why, icon=":material/lock:")
    main()
