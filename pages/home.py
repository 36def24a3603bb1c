"""Home: try a clip, see what exists, and where to go next.

Imports are late, so that the heading appears first; torch is loaded only when a clip is tried.
"""

import streamlit as st

from pages._ui.frame import page
from pages._ui.shell.errors import guarded
from pages._ui.shell.links import page_file
from pages._ui.shell.style import EMOTIONS, bilingual

TRYING = "demo_mobilenet_v3_small"


def try_a_clip() -> None:
    """Predict a synthetic clip with the shipped model; each click takes another clip."""
    state = st.session_state
    if st.button("Try a clip", type="primary", icon=":material/play_arrow:", key="try"):
        state["tried"] = state.get("tried", -1) + 1
    if "tried" not in state:
        return
    from mer.data.demo import example_clip  # a second
    from pages._ui.cached.models import models
    from pages._ui.parts.clip import analyse, show_analysis  # torch, a few seconds

    number, labels = state["tried"], tuple(EMOTIONS)
    label = labels[(number * 2 + 1) % len(labels)]
    model = next((model for model in models() if model.key == TRYING), None)
    if model is None:
        st.info("The shipped model is missing from `checkpoints/`. Download the project again to restore it.")
        return
    content = example_clip(label, number=number // len(labels))
    st.badge("synthetic music", icon=":material/science:", color="gray")
    name = f"example {number + 1}"
    show_analysis(content, name, analyse(content, name, model), key="try", autoplay=True)
    st.caption(
        f"Synthetic clip, generated as {bilingual(label)}. The model was trained on clips from the same "
        "generator, so this shows how the program works. Your own clips go to a model that was trained on "
        "real music."
    )
    st.page_link(
        page_file("predict"), label="Try your own clip", icon=":material/graphic_eq:",
        query_params={"source": "Upload"},
    )  # fmt: skip


def show_counts() -> None:
    """Counts of data sets, runs and models, each with a link."""
    from mer.data.library import known
    from pages._ui.cached.models import models
    from pages._ui.cached.runs import all_runs

    runs, found, sets = [run for run in all_runs() if not run.parent], models(), known()
    active = sum(run.status in ("queued", "running", "stopping") for run in runs)
    done = sum(run.status == "finished" for run in runs)
    own = sum(model.own for model in found)
    rows = (
        (
            "Data",
            str(len(sets)),
            ("data set" if len(sets) == 1 else "data sets") if sets else "none yet: add one",
            "data",
        ),
        ("Runs", str(len(runs)), f"{active} active, {done} finished" if runs else "none yet", "live"),
        ("Models", str(len(found)), f"{len(found) - own} shipped, {own} trained here", "predict"),
    )
    for column, (name, value, words, target) in zip(st.columns(3), rows, strict=True):
        with column.container(border=True):
            st.metric(name, value)
            st.page_link(page_file(target), label=words, icon=":material/arrow_forward:")


def next_steps() -> None:
    """Three cards."""
    from pages._ui.charts import pictures

    st.subheader("Start here")
    cards = (
        ("1 · Look at the data", "data", pictures.sound(), "Hear the clips and see the input of a network."),
        (
            "2 · Train a network",
            "train",
            pictures.curves(),
            "Choose settings, launch, and watch the learning curves.",
        ),
        (
            "3 · See what it confuses",
            "confusion",
            pictures.matrix(),
            "Click a mistake and hear its clips.",
        ),
    )
    for column, (label, target, picture, words) in zip(st.columns(3), cards, strict=True):
        with column.container(border=True, height="stretch"):
            st.image(picture, alt="")  # decoration
            st.page_link(page_file(target), label=f"**{label}**", icon=":material/arrow_forward:")
            st.caption(words)


with page("Home"):
    st.title("Which emotion does this music induce?")
    st.write(
        "**mer** trains networks that were pretrained on images or on music. From the mel-spectrogram of a "
        "clip of Hindi film music, they predict the emotion that it induces: "
        f"{', '.join(bilingual(name) for name in EMOTIONS)}. Try a model, train one on your own clips, and "
        "check how far its scores can be trusted."
    )
    for section in (try_a_clip, show_counts, next_steps):
        with guarded():
            section()
