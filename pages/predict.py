"""Predict: upload or record a clip, or take an example, and see what the models predict."""

from urllib.parse import urlsplit

import streamlit as st

from mer.audio.formats import AUDIO_NAMES, AUDIO_SUFFIXES
from mer.data.clips import MER500_CLASSES
from pages._ui.cached.models import Model
from pages._ui.frame import page
from pages._ui.parts.given import given
from pages._ui.parts.pick_models import pick_models
from pages._ui.shell.links import chosen, remember
from pages._ui.shell.style import bilingual, plain

SOURCES = {"Example": ":material/auto_awesome:", "Upload": ":material/upload:", "Record": ":material/mic:"}
UPLOAD_MB, UPLOAD_FILES, RECORD_SECONDS = 50, 20, 60


def uploaded() -> list[tuple[str, bytes]]:
    """Uploaded files."""
    files = given(
        st.file_uploader, f"Audio files: {AUDIO_NAMES}, up to {UPLOAD_MB} MB each, {UPLOAD_FILES} at once",
        type=sorted(suffix[1:] for suffix in AUDIO_SUFFIXES),
        accept_multiple_files=True, max_upload_size=UPLOAD_MB, key="uploads",
    )  # fmt: skip
    if len(files) > UPLOAD_FILES:
        st.warning(
            f"{len(files)} files; only the first {UPLOAD_FILES} are used. See also `mer predict --help`."
        )
    return files[:UPLOAD_FILES]


def recorded() -> list[tuple[str, bytes]]:
    """A recording from the microphone, cut to a minute on the server."""
    from mer.audio.decode import beginning

    address = urlsplit(st.context.url or "")
    if address.scheme == "http" and address.hostname not in ("localhost", "127.0.0.1", "::1"):
        st.warning("Browsers allow the microphone only on https or localhost. Upload a file instead.")
    files = given(st.audio_input, f"Record up to {RECORD_SECONDS} s", sample_rate=48_000, key="recording")
    st.caption("Browsers filter recordings for speech, which distorts music. Upload a file if you have one.")
    return [("recording.wav", beginning(content, RECORD_SECONDS)) for _, content in files]


def example() -> list[tuple[str, bytes]]:
    """A generated clip of a chosen emotion."""
    from mer.data.demo import example_clip

    chosen("example", MER500_CLASSES)
    label = st.pills(
        "Synthetic clip, generated as", MER500_CLASSES, format_func=bilingual, key="example", required=True
    )
    remember("example", label)
    st.badge("synthetic music", icon=":material/science:", color="gray")
    return [(f"example_{label}.wav", example_clip(label))]


def judge(clips: list[tuple[str, bytes]], picked: list[Model]) -> None:
    """Predict all clips with all models; show the chosen clip and offer all results as files."""
    from pages._ui.parts.clip import listen, show_analysis, show_model
    from pages._ui.parts.downloads import offer_predictions
    from pages._ui.parts.explanation import offer_explanation
    from pages._ui.parts.tags import offer_tags

    found = [
        (name, content, model, analysis)
        for name, content in clips
        for model, analysis in listen(content, name, picked)
    ]
    if not found:
        return
    names = list(dict.fromkeys(name for name, *_ in found))
    shown = names[0] if len(names) == 1 else st.selectbox("Clip", names, key="clip")
    for number, (name, content, model, analysis) in enumerate(found):
        if name == shown:
            st.divider()
            st.markdown(f"**{plain(name)}** · {plain(model.title)}")
            show_model(model)
            window = show_analysis(content, name, analysis, key=f"{number} {model.key}")
            offer_explanation(content, name, model, key=f"{number} {model.key}", window=window)
    offer_tags(next(content for name, content, *_ in found if name == shown), shown)
    st.divider()
    offer_predictions([(name, model.title, analysis.prediction) for name, _, model, analysis in found])


with page("Predict"):
    st.title("Predict")
    st.write("Give a clip: see its spectrogram and the emotion that the models predict.")
    with st.container(horizontal=True):
        chosen("source", list(SOURCES))
        source = st.segmented_control(
            "Sound", list(SOURCES), format_func=lambda name: f"{SOURCES[name]} {name}", key="source",
            required=True,
        )  # fmt: skip
        remember("source", source)
        picked = pick_models(source)
    clips = {"Example": example, "Upload": uploaded, "Record": recorded}[source]()
    if picked and clips:
        judge(clips, picked)
    elif picked:
        st.info("No clip yet. Upload a file, record, or choose an example above.")
