"""The choice of models on Predict."""

import streamlit as st

from pages._ui.cached.models import Model, damaged_models, models
from pages._ui.shell.links import chosen, page_file, remember
from pages._ui.shell.permission import shown
from pages._ui.shell.style import plain

__all__ = ["pick_models"]

MODELS = 4  # at most
SYNTHETIC, REAL = "demo_mobilenet_v3_small", "emotify_music"  # the shipped models for either kind of sound


def pick_models(source: str) -> list[Model]:
    """One or several models, named in the address. First the one that suits the sound is chosen."""
    found = {model.key: model for model in models()}
    if not found:
        st.info("No models yet. Train a network to use it here.", icon=":material/model_training:")
        st.page_link(page_file("train"), label="Train a network", icon=":material/fitness_center:")
        return []
    suited, state = [SYNTHETIC if source == "Example" else REAL], st.session_state
    before = state.get("suited model")
    if before and state.get("model") == before and set(suited) <= set(found):
        state["model"] = suited  # nobody chose another model, and the sound is of another kind now
    state["suited model"] = suited
    names = {key: model.title for key, model in found.items()}
    chosen("model", list(found), default=suited, many=MODELS, what="model", called=names.__getitem__)
    picked = st.multiselect(
        "Models", list(found), format_func=names.__getitem__, key="model", max_selections=MODELS,
        help="Results of several models are shown one below the other.",
    )  # fmt: skip
    remember("model", picked)
    for problem in damaged_models():
        st.warning(plain(shown(f"A model is left out: {problem}")), icon=":material/broken_image:")
    if not picked:
        st.info("Choose a model.")
    return [found[key] for key in picked]
