"""Ways to add a data set: the demo corpus, a folder, an upload, Kaggle."""

import streamlit as st

from mer.audio.formats import AUDIO_SUFFIXES
from mer.data.clips import MER500_CLASSES
from mer.data.library import Entry, demo_folder
from mer.utils.errors import MerError
from pages._ui.shell.changes import add, add_clips, add_demo, add_kaggle, add_zip, compose
from pages._ui.shell.permission import confined
from pages._ui.shell.style import plain

__all__ = ["adding"]

DEMO_CLIPS = 40
ZIP_MB, CLIP_MB = 200, 50


def adding() -> Entry | None:
    """Four tabs that add data; returns the data set added in this rerun, if any."""
    tabs = st.tabs(
        [
            ":material/auto_awesome: Demo corpus", ":material/folder: Folder",
            ":material/upload: Upload", ":material/cloud_download: MER500 from Kaggle",
        ]
    )  # fmt: skip
    for tab, way in zip(tabs, (_demo, _folder, _upload, _kaggle), strict=True):
        with tab:
            added = way()
            if added:
                return added
    return None


def _demo() -> Entry | None:
    st.write(
        f"{5 * DEMO_CLIPS} synthetic clips of 10 s, generated on this machine. Use them to try everything "
        "without real music. Scores on them say nothing about Hindi film music."
    )
    if not st.button("Make the demo corpus", type="primary", icon=":material/auto_awesome:"):
        return None
    folder = demo_folder(DEMO_CLIPS, 0)
    if not folder.is_dir():
        try:
            compose(str(folder), DEMO_CLIPS)
        except MerError:
            if not folder.is_dir():  # otherwise another visitor has made it in the meantime
                raise
    return add_demo(DEMO_CLIPS, 0)


def _folder() -> Entry | None:
    st.write(
        "A folder on this machine with one folder per class, a zip of one, or a CSV with the columns "
        "`path,label` and, if you have them, `song` and `split`."
    )
    with st.form("folder", border=False):
        path = st.text_input("Path on the server", placeholder="/home/me/MER500")
        left, right = st.columns(2)
        label = left.text_input(
            "Label column (CSV only)",
            "label",
            help="Or several columns with listener votes: `calm,tense` or `Happy=joy,Sad=sadness`",
        )
        song = right.text_input("Song column (CSV only)", "song")
        pattern = left.text_input(
            "Songs from file names",
            "auto",
            help="`auto`: a pattern that the names clearly follow. `none`: no pattern. Or your own, such as "
            "`{song}{letter}` for song001a, song001b, or `{song} ({number})`.",
        )
        drop = right.checkbox("Leave out clips that are in two classes")
        sent = st.form_submit_button("Add", icon=":material/add:")
    if not sent:
        return None
    if not path.strip():
        st.warning("Give the path of a folder, a zip or a CSV file.")
        return None
    return add(
        confined(path.strip()), label_column=label, song_column=song,
        song_pattern=pattern.strip() or "auto", drop_conflicts=drop,
    )  # fmt: skip


def _upload() -> Entry | None:
    kind = st.segmented_control(
        "Upload", ["A zip", "Audio files"], default="A zip", required=True, key="upload kind"
    )
    return _zip() if kind == "A zip" else _files()


def _zip() -> Entry | None:
    file = st.file_uploader(
        f"A zip with one folder per class, up to {ZIP_MB} MB (for larger ones, put it on the server and use "
        "Folder)",
        type="zip", max_upload_size=ZIP_MB, key="zip",
    )  # fmt: skip
    if file is None or not st.button("Add this zip", icon=":material/add:"):
        return None
    with st.spinner("Unpacking …"):
        return add_zip(file.name, file)


def _files() -> Entry | None:
    """Collect uploaded files, one class at a time, until they are added together."""
    state = st.session_state
    collected: dict[str, list] = state.setdefault("collected", {})
    label = st.selectbox("Class of these files", MER500_CLASSES, accept_new_options=True, key="upload class")
    files = st.file_uploader(
        f"Clips of this class, up to {CLIP_MB} MB each", type=sorted(s[1:] for s in AUDIO_SUFFIXES),
        accept_multiple_files=True, max_upload_size=CLIP_MB, key=f"clips {state.get('round', 0)} {label}",
    )  # fmt: skip
    if files:
        collected[label] = [(file.name, file.getvalue()) for file in files]
    counts = ", ".join(f"{name}: {len(clips)}" for name, clips in collected.items())
    st.caption(
        plain(f"So far {counts}") if counts else "A network needs at least two classes with two clips each."
    )
    name = st.text_input("Name of the data set", "my clips", key="upload name")
    if not collected:
        return None
    with st.container(horizontal=True):
        sent = st.button("Add these clips", icon=":material/add:")
        st.button("Start over", icon=":material/restart_alt:", on_click=_start_over)
    if not sent:
        return None
    clips = [(label, file, content) for label, part in collected.items() for file, content in part]
    entry = add_clips(name, clips)
    _start_over()
    return entry


def _start_over() -> None:
    """Discard the collected files; new widget keys leave the next uploaders empty."""
    st.session_state.pop("collected", None)
    st.session_state["round"] = st.session_state.get("round", 0) + 1


def _kaggle() -> Entry | None:
    st.write(
        "MER500 (Velankar, kaggle.com/datasets/makvel/mer500): about 500 clips of Hindi film music. Needs "
        "internet access. Without it, download `archive.zip` elsewhere and add it under *Folder*."
    )
    if not st.button("Fetch MER500", icon=":material/cloud_download:"):
        return None
    with st.spinner("Downloading from Kaggle …"):
        return add_kaggle("mer500")
