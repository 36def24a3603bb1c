"""The choice of networks on Train."""

from collections.abc import Sequence

import streamlit as st

from mer.config.presets import IMAGES, MUSIC, PRESETS
from pages._ui.shell.links import chosen, remember

__all__ = ["pick_networks", "preset_in_address"]


def preset_in_address() -> str:
    """The preset that the address names, or whose settings it has; else "default".

    Changed settings are in the address under the name of their preset, even before the preset itself is.
    """
    named = [st.query_params.get("preset"), *(key.partition(" ")[0] for key in st.query_params)]
    return next((name for name in named if name in PRESETS), "default")


def pick_networks() -> Sequence[str]:
    """Select networks, listed with their size and whether their weights are on this machine."""
    from mer.models.joined import get_backbone  # torch
    from mer.models.zoo import ZOO

    entries = {MUSIC: get_backbone(MUSIC), **ZOO}
    here = {name: entry.source.available() for name, entry in entries.items()}
    labels = {name: f"{name}{'' if here[name] else ' · download'}" for name in ZOO}
    labels[MUSIC] = "four music networks joined"
    selected = PRESETS[preset_in_address()]
    frozen = selected.train.freeze == "head"  # joined networks must be frozen
    chosen("backbone", list(entries), default=[MUSIC if frozen else IMAGES], many=len(entries))
    names = st.pills(
        "Networks", list(entries), format_func=labels.get, selection_mode="multi",
        key="backbone", help="Each network makes a run of its own; the runs work one after another. Networks "
        "named musicnn and vgg_ were trained on music, those named panns_ on sounds of all kinds, the others "
        "on images.",
    )  # fmt: skip
    remember("backbone", names)
    missing = [name for name in names if not here[name]]
    if missing:
        st.warning(
            f"The weights of {', '.join(missing)} are not on this machine. The run downloads them. "
            "Without internet access it fails: choose a network without *download* behind its name, or run "
            f"`python -m mer zoo fetch {missing[0]} --out DIR` on a machine that has access.",
            icon=":material/cloud_download:",
        )
    return names
