"""The result of a listening session: votes per clip, agreement, and where class and networks part."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import streamlit as st

from mer.data.listening import Session
from mer.metrics.agreement import alpha_score, plurality, share_score
from mer.metrics.score import Score
from mer.utils.errors import DataError
from pages._ui.cached.models import Model
from pages._ui.charts.base import draw
from pages._ui.charts.votes import shares
from pages._ui.parts.clip import listen
from pages._ui.parts.pick_models import pick_models
from pages._ui.parts.player import player
from pages._ui.shell.changes import save_votes
from pages._ui.shell.links import page_file
from pages._ui.shell.permission import button
from pages._ui.shell.style import bilingual, counted, plain

__all__ = ["show_results"]

SECONDS = 3.0  # between two looks at the votes


def show_results(session: Session) -> None:
    """How many have voted; on demand what they chose, which could sway those who still listen."""
    _progress(session)
    if not st.toggle("Show the results", key=f"show {session.key}"):
        return
    counts = np.array([list(row.values()) for row in session.counts()])
    if not counts.any():
        return
    _chart(session)
    heard = [number for number, row in enumerate(counts) if row.any()]
    _scores(session, counts, heard)
    _export(session)


@st.fragment(run_every=SECONDS)
def _progress(session: Session) -> None:
    """How many have voted."""
    votes = session.votes()
    names = {vote.listener for vote in votes}
    most = len(names) * len(session.pieces)
    if not votes:
        st.info("No votes yet. They appear here as they arrive.", icon=":material/hourglass_empty:")
        return
    st.caption(f"{counted(len(names), 'listener')}, {len(votes)} of {most} votes.")


@st.fragment(run_every=SECONDS)
def _chart(session: Session) -> None:
    """The votes of each clip."""
    titles = [f"{number}. {piece.label}" for number, piece in enumerate(session.pieces, 1)]
    draw(shares(titles, session.counts()), key=f"votes {session.key}")
    st.caption("Each bar is one clip with its label, divided by the emotions that listeners chose.")


def _scores(session: Session, counts: np.ndarray, heard: Sequence[int]) -> None:
    """Agreement, and the accuracy of listeners and networks on the clips that were heard."""
    rows, songs = counts[heard], [session.pieces[number].song for number in heard]
    st.subheader("Do we agree?")
    st.write(_agreement_text(alpha_score(rows, songs)))
    labels = [_place_of(session, number) for number in heard]
    right = [
        row[label] / row.sum() if label is not None else 0.0 for row, label in zip(rows, labels, strict=True)
    ]
    table = [("a listener", share_score(np.array(right), songs))]
    most = plurality(rows)
    hits = [best is not None and best == label for best, label in zip(most, labels, strict=True)]
    table.append(("the class by most votes", share_score(np.array(hits, float), songs)))
    st.subheader("And the networks?")
    answers = _answers(session, heard, pick_models("Upload"))
    for model, said in answers:
        hits = [said[number] == session.pieces[number].label for number in heard]
        table.append((model.title, share_score(np.array(hits, float), songs)))
    st.dataframe([{"who": who, "agrees with the label": str(score)} for who, score in table], hide_index=True)
    st.caption(
        f"On {counted(len(heard), 'clip')} of {counted(len(set(songs)), 'song')}, with 95% intervals over "
        "songs. With few clips the intervals are wide: only a large difference means something. A label is "
        "the opinion of one person or one list, not the truth."
    )
    _where_they_part(session, heard, most, rows, answers)


def _place_of(session: Session, number: int) -> int | None:
    """The place of a clip's label among the classes."""
    label = session.pieces[number].label
    return session.classes.index(label) if label in session.classes else None


def _agreement_text(found: Score) -> str:
    """Krippendorff's alpha in words; the limits 0.67 and 0.8 are his own (2004)."""
    if math.isnan(found.value):
        return (
            "Not known yet: agreement needs clips with two or more votes, and votes for different emotions."
        )
    words = (
        "Listeners agree no more than by chance" if found.low <= 0
        else "Listeners agree well" if found.value >= 0.8
        else "Listeners agree roughly" if found.value >= 0.667
        else "Listeners agree more than by chance, but not well"
    )  # fmt: skip
    return (
        f"{words}: Krippendorff's alpha is {found.value:.2f} ({found.low:.2f} to {found.high:.2f}). 1 is "
        "full agreement, 0 is chance."
    )


def _answers(
    session: Session, heard: Sequence[int], models: Sequence[Model]
) -> list[tuple[Model, dict[int, str]]]:
    """What each model says of each clip."""
    found: dict[str, tuple[Model, dict[int, str]]] = {}
    for number in heard:
        try:
            content = session.path(number).read_bytes()
        except OSError as error:
            raise DataError(f"{session.pieces[number].name}: its copy is gone; open another vote") from error
        for model, analysis in listen(content, session.pieces[number].name, models):
            found.setdefault(model.key, (model, {}))[1][number] = analysis.prediction.emotion
    return [(model, said) for model, said in found.values() if len(said) == len(heard)]


def _where_they_part(
    session: Session, heard: Sequence[int], most: Sequence[int | None], rows: np.ndarray,
    answers: Sequence[tuple[Model, dict[int, str]]],
) -> None:  # fmt: skip
    """The clips on which the class and the first network differ, to be heard."""
    if not answers:
        return
    model, said = answers[0]
    parted = [
        (number, best, row)
        for number, best, row in zip(heard, most, rows, strict=True)
        if best is None or session.classes[best] != said[number]
    ]
    st.subheader("Where class and network part")
    if not parted:
        st.write(f"Nowhere: {plain(model.title)} chose what most listeners chose, on every clip.")
    for number, best, row in parted:
        piece = session.pieces[number]
        class_said = bilingual(session.classes[best]) if best is not None else "undecided"
        st.markdown(
            f"**{number + 1}. {plain(piece.name)}**: the class says {plain(class_said)} "
            f"({row.max()} of {row.sum()}), {plain(model.title)} says {plain(bilingual(said[number]))}; "
            f"label {plain(bilingual(piece.label))}"
        )
        player(session.path(number).read_bytes(), piece.name)


def _export(session: Session) -> None:
    """Make a data set of the votes; then train on it, or take it home."""
    st.subheader("Use the votes")
    st.write("A network can learn the class's own shares of votes instead of the labels.")
    if button("Make a data set of the votes", icon=":material/library_add:", key=f"export {session.key}"):
        st.session_state[f"exported {session.key}"] = save_votes(session)
    if entry := st.session_state.get(f"exported {session.key}"):
        with st.container(horizontal=True):
            content = Path(entry.path).read_bytes()
            st.download_button("CSV", content, "votes.csv", "text/csv", icon=":material/download:")
            st.page_link(page_file("train"), label="Train on the votes", icon=":material/fitness_center:",
                         query_params={"data": entry.key})  # fmt: skip
