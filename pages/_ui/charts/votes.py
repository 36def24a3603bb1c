"""Chart of a class's votes."""

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from pages._ui.charts.base import figure
from pages._ui.shell.style import bilingual, colours

__all__ = ["shares"]


def shares(names: Sequence[str], counts: Sequence[Mapping[str, int]]) -> go.Figure:
    """One bar per clip, from top to bottom, divided by the classes that listeners chose.

    Parameters
    ----------
    names
        Name of each clip.
    counts
        For each clip, the number of votes for each class.
    """
    tints = colours(counts[0])
    sums = [sum(row.values()) or 1 for row in counts]
    bars = [
        go.Bar(
            x=[row[emotion] / total for row, total in zip(counts, sums, strict=True)], y=list(names),
            orientation="h", name=bilingual(emotion), marker_color=tint,
            customdata=[str(row[emotion]) for row in counts],
            hovertemplate=f"%{{y}}: {emotion} %{{x:.0%}} (%{{customdata}})<extra></extra>",
        )
        for emotion, tint in tints.items()
    ]  # fmt: skip
    heard = [
        ", ".join(f"{emotion} {number}" for emotion, number in row.items() if number) or "no vote"
        for row in counts
    ]
    alt = f"Votes. {'; '.join(f'{name}: {votes}' for name, votes in zip(names, heard, strict=True))}."
    chart = figure(
        bars, title="What the class heard", alt=alt, height=140 + 28 * len(names), barmode="stack",
        legend={"orientation": "h", "y": -0.25},
    )  # fmt: skip
    chart.update_yaxes(automargin=True, type="category", autorange="reversed")
    return chart.update_xaxes(tickformat=".0%", range=[0, 1])
