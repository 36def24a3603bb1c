"""Two runs tested on the same clips: which is better, by class, and clip by clip."""

import plotly.graph_objects as go
import streamlit as st

from mer.metrics.comparison import Comparison, compare
from pages._ui.cached.results import Tested, clip_bytes, scores
from pages._ui.charts.base import draw, figure
from pages._ui.parts.player import player
from pages._ui.shell.links import chosen, remember
from pages._ui.shell.style import colours, percent, plain

__all__ = ["differences", "show_pair"]


def pick_two(names: dict[str, str]) -> list[str]:
    """The keys of two runs, by default of the two with the highest scores."""
    both = []
    for column, key, number in zip(st.columns(2), ("a", "b"), (0, 1), strict=True):
        with column:
            chosen(key, list(names), default=[list(names)[number]], what="run", called=names.__getitem__)
            name = st.selectbox(
                ("First", "Second")[number], list(names), format_func=names.__getitem__, key=key
            )
            remember(key, name[:8])
            both.append(name)
    return both


def show_pair(group: Tested) -> None:
    """Compare two runs: verdict, recall per class, and single clips."""
    st.subheader("Two runs, clip by clip")
    names = group.names()
    if len(names) < 2:
        st.info("Only one run was tested on these clips. Train another with the same data, seed and split.")
        return
    first, second = pick_two(names)
    if first == second:
        st.info("Choose two different runs.")
        return
    classes = scores(group.runs[0])["classes"]
    found = compare(group.answers(first), group.answers(second), classes=classes)
    st.markdown(f"**{plain(found.sentence(names[first], names[second]))}**")
    st.caption(
        f"Difference in accuracy by song (95% interval): {found.verdict.difference.points}. McNemar's exact "
        "test, and the interval that belongs to it, count songs, because clips of one song are not "
        "independent. The interval excludes 0 if p is below 0.05, and only then."
    )
    draw(differences(found), key="differences")
    outcomes = ("only first", "only second", "both wrong", "both right")
    chosen("outcome", outcomes)
    outcome = st.segmented_control("Clips classified correctly by", outcomes, key="outcome", required=True)
    remember("outcome", outcome)
    rows = [row for row in found.clips if row["outcome"] == outcome]
    if not rows:
        st.info("There are no such clips.")
        return
    table = st.dataframe(rows, hide_index=True, on_select="rerun", selection_mode="single-row", key="pairs")
    st.caption("Select a row to hear the clip.")
    for clip in [rows[number]["clip"] for number in table["selection"]["rows"] if number < len(rows)]:
        player(clip_bytes(group.runs[0], clip), clip)


def differences(found: Comparison) -> go.Figure:
    """Difference in recall of each class between the second run and the first."""
    classes = list(found.per_class)[::-1]
    tints = colours(found.per_class)
    gains = [second - first for first, second in (found.per_class[name] for name in classes)]
    words = [f"{percent(first)} → {percent(second)}" for first, second in map(found.per_class.get, classes)]
    named = [f"{name}, {change}" for name, change in zip(classes, words, strict=True)]
    bars = go.Bar(
        x=gains, y=named, orientation="h", marker_color=[tints[name] for name in classes],
        hovertemplate="%{y}<extra></extra>",
    )  # fmt: skip
    title = "Recall of each class, first → second"
    chart = figure([bars], title=title, alt=f"{title}: {'; '.join(named[::-1])}", height=280)
    chart.add_vline(x=0, line_width=1, line_color="#888888")
    chart.update_yaxes(automargin=True)
    return chart.update_xaxes(title="difference (right: second is better)", tickformat="+.0%", range=[-1, 1])
