"""Charts of sound: waveform, log-mel spectrogram, evidence in it, probabilities as bars.

All of them are plain functions from arrays to figures; units are seconds, Hz and dB.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import plotly.colors
import plotly.graph_objects as go

from mer.audio.mel import mel_frequencies
from mer.audio.preview import frequency_ticks
from mer.config.sections import MelConfig
from pages._ui.charts.base import DOT, LINE, figure
from pages._ui.shell.style import bilingual, colours, inert

if TYPE_CHECKING:
    from mer.inference.deletion import Deletion

__all__ = [
    "COLUMNS",
    "Envelope",
    "deletion_curves",
    "envelope",
    "explained",
    "image",
    "probability_bars",
    "spectrogram",
    "thin",
    "waveform",
]

LEFT = 56  # px, the margin of charts with frequencies, amplitudes or probabilities at the left
COLUMNS = 900  # points across a chart; a screen shows no more
# Magma with a slightly lighter first colour: Streamlit's theme replaces "#000004".
MAGMA = ["#020109", *plotly.colors.sequential.Magma[1:]]
# From transparent to a warm, still translucent colour.
WARMER = [
    [place / 4, f"rgba({red}, {green}, 20, {0.7 * place / 4:.3f})"]
    for place, (red, green) in enumerate(((120, 20), (180, 40), (220, 80), (240, 140), (250, 220)))
]


class Envelope(NamedTuple):
    """Minimum and maximum of each stretch of samples, shape (stretches,) each; `length` in s."""

    seconds: np.ndarray
    low: np.ndarray
    high: np.ndarray
    length: float


def envelope(samples: np.ndarray, rate: int) -> Envelope:
    """The envelope of a waveform of shape (samples,), at the resolution of a screen."""
    size = max(1, len(samples) // COLUMNS)
    rows = samples[: len(samples) // size * size].reshape(-1, size)
    seconds = (np.arange(len(rows)) * size / rate).round(4)
    return Envelope(seconds, rows.min(axis=1).round(4), rows.max(axis=1).round(4), len(samples) / rate)


def waveform(shown: Envelope, *, title: str = "Waveform", height: int = 140) -> go.Figure:
    """Chart of amplitude over time.

    Parameters
    ----------
    shown
        The envelope of the waveform.
    title
        Title of the chart.
    height
        Height in pixels.
    """
    line = {
        "mode": "lines",
        "line": {"width": 0.6, "color": "#6B7C93"},
        "hoverinfo": "skip",
        "showlegend": False,
    }
    low = go.Scatter(x=shown.seconds, y=shown.low, **line)
    high = go.Scatter(x=shown.seconds, y=shown.high, fill="tonexty", **line)
    peak = max(np.abs(shown.low).max(), np.abs(shown.high).max())
    alt = f"{title}: {shown.length:.1f} s, highest amplitude {peak:.2f}."
    chart = figure([low, high], title=title, alt=alt, height=height, left=LEFT)
    chart.update_xaxes(title="time (s)", range=[0, shown.length])
    return chart.update_yaxes(title="amplitude", nticks=3)


def thin(level: np.ndarray) -> np.ndarray:
    """Reduce a spectrogram to whole dB, and to as many frames as a screen has columns."""
    return np.round(level[:, :: max(1, -(-level.shape[1] // COLUMNS))]).astype(np.int8)


def spectrogram(
    level: np.ndarray,
    *,
    seconds: float,
    config: MelConfig,
    title: str = "Log-mel spectrogram",
    height: int = 300,
    start: float = 0.0,
    colorscale: list[str] | str = MAGMA,
) -> go.Figure:
    """Chart of a log-mel spectrogram.

    Parameters
    ----------
    level
        Spectrogram in dB, shape (n_mels, frames), low bands first.
    seconds
        Its duration in s.
    config
        Settings of the spectrogram.
    title
        Title of the chart.
    height
        Height in pixels.
    start
        Time of the first frame in s.
    colorscale
        Plotly colour scale.
    """
    shown = thin(level)
    times = (start + np.linspace(0, seconds, shown.shape[1])).round(3)
    hertz = mel_frequencies(config)
    chart = figure(
        [
            go.Heatmap(
                z=shown,
                x=times,
                y=[f"{f:.1f} Hz" for f in hertz],
                colorscale=colorscale,
                colorbar={"title": "dB", "thickness": 10},
                hovertemplate="%{x:.2f} s, %{y}: %{z} dB<extra></extra>",
            )
        ],
        left=LEFT,
        title=title,
        alt=f"{title} of {seconds:.1f} s, on average loudest at {hertz[level.mean(axis=1).argmax()]:.0f} Hz.",
        height=height,
    )
    ticks = _apart(*frequency_ticks(hertz), room=len(hertz) / 14)
    chart.update_yaxes(
        type="category", title="frequency (Hz)", tickvals=list(ticks), ticktext=list(ticks.values())
    )
    return chart.update_xaxes(title="time (s)", range=[start, start + seconds])


def _apart(places: Sequence[float], names: Sequence[str], *, room: float) -> dict[float, str]:
    """The tick labels that do not overlap the next one; low frequencies lie close together."""
    above = [*places[1:], np.inf]
    return {
        place: name
        for place, name, higher in zip(places, names, above, strict=False)
        if higher - place > room
    }


def explained(
    level: np.ndarray, relevance: np.ndarray, *, span: tuple[float, float], config: MelConfig, title: str
) -> go.Figure:
    """Chart of a grey spectrogram with the evidence for an emotion in colour.

    Parameters
    ----------
    level
        Spectrogram in dB, shape (n_mels, frames).
    relevance
        Evidence in percent of its maximum, of the same shape.
    span
        Start and end in s.
    config
        Settings of the spectrogram.
    title
        Title of the chart.
    """
    start, end = span
    chart = spectrogram(
        level, seconds=end - start, config=config, title=title, height=340, start=start, colorscale="Greys_r"
    )
    band, frame = np.unravel_index(relevance.argmax(), relevance.shape)
    hertz, second = (
        mel_frequencies(config)[band],
        start + (end - start) * frame / max(relevance.shape[1] - 1, 1),
    )
    chart.update_layout(meta={"alt": f"{title}, strongest at {second:.1f} s and {hertz:.0f} Hz."})
    below = chart.data[0].update(showscale=False)
    place = {"z": thin(relevance), "x": below.x, "y": below.y}
    over = go.Heatmap(
        **place,
        zmin=0,
        zmax=100,
        colorscale=WARMER,
        colorbar={"title": "% of max", "thickness": 10},
        hovertemplate="%{x:.2f} s, %{y}: %{z}% of the maximum<extra></extra>",
    )
    half = {"start": 50, "end": 50, "size": 1, "coloring": "none"}
    line = {"width": 2, "color": "#56D0FF"}  # visible on grey and on warm colours
    return chart.add_traces(
        [over, go.Contour(**place, contours=half, line=line, showscale=False, hoverinfo="skip")]
    )


def deletion_curves(checked: "Deletion", emotion: str, *, height: int = 270) -> go.Figure:
    """Chart of the probability of an emotion while more is removed, in the order of the map and shifted maps.

    Parameters
    ----------
    checked
        The deletion curves.
    emotion
        Name of the emotion.
    height
        Height in pixels.
    """
    shifted = np.array(checked.random)
    edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
    traces = [
        go.Scatter(x=checked.removed, y=shifted.min(axis=0), **edge),
        go.Scatter(x=checked.removed, y=shifted.max(axis=0), fill="tonexty", fillcolor=f"{DOT}33", **edge),
        go.Scatter(
            x=checked.removed, y=shifted.mean(axis=0), name="map shifted at random", mode="lines",
            line={"color": DOT, "dash": "dash"}, hovertemplate="%{x:.0%} removed: %{y:.0%}<extra></extra>",
        ),
        go.Scatter(
            x=checked.removed, y=checked.curve, name="marked region", mode="lines+markers",
            line={"color": LINE}, hovertemplate="%{x:.0%} removed: %{y:.0%}<extra></extra>",
        ),
    ]  # fmt: skip
    chart = figure(
        traces, title="Deletion test", alt=f"Deletion test. {checked.verdict}", height=height, left=LEFT
    )
    legend = {"orientation": "h", "x": 0, "y": 1.04, "yanchor": "bottom"}
    above = {"y": 0.98, "yanchor": "top"}
    chart.update_layout(
        legend=legend, title=above, margin_t=84
    )  # the legend takes two lines on a narrow screen
    chart.update_xaxes(title="removed, most relevant first", tickformat=".0%")
    return chart.update_yaxes(title=f"probability of {inert(emotion)}", tickformat=".0%", range=[0, 1])


def image(pixels: np.ndarray, *, unit: str, title: str, height: int = 300) -> go.Figure:
    """Chart of the input of a network, with row 0 at the bottom.

    Parameters
    ----------
    pixels
        The image, shape (rows, columns).
    unit
        Unit of its values.
    title
        Title of the chart.
    height
        Height in pixels.
    """
    pixel = "column %{x}, row %{y}: %{z:.1f} " + unit + "<extra></extra>"
    shown = go.Heatmap(
        z=pixels.astype(np.float32).round(2),
        colorscale=MAGMA,
        colorbar={"title": unit, "thickness": 10},
        hovertemplate=pixel,
    )
    rows, columns = pixels.shape
    alt = f"{title}: {rows} rows, {columns} columns, {pixels.min():.1f} to {pixels.max():.1f} {unit}."
    chart = figure([shown], title=title, alt=alt, height=height, left=LEFT)
    chart.update_xaxes(title="pixel column (time)")
    return chart.update_yaxes(title="pixel row (mel band)", scaleanchor="x", constrain="domain")


def probability_bars(
    probabilities: Mapping[str, float], *, title: str = "Probability of each emotion", height: int = 260
) -> go.Figure:
    """Chart with one bar per emotion, its percent beside its name, and a dotted line at chance.

    Parameters
    ----------
    probabilities
        Probability of each emotion, 0 to 1.
    title
        Title of the chart.
    height
        Height in pixels.
    """
    tints, chance = colours(probabilities), 1 / len(probabilities)
    # The percent stands beside the name, since behind a bar it may meet the line at chance.
    labels = {name: f"{bilingual(name)}, {value:.0%}" for name, value in probabilities.items()}
    bars = go.Bar(
        x=list(probabilities.values())[::-1],
        y=list(labels.values())[::-1],
        orientation="h",
        marker_color=[tints[name] for name in labels][::-1],
        hovertemplate="%{y}<extra></extra>",
    )
    ranked = sorted(labels, key=lambda name: -probabilities[name])
    alt = f"Probabilities: {'; '.join(labels[name] for name in ranked)}. Chance is {chance:.0%}."
    chart = figure([bars], title=title, alt=alt, height=height)
    chart.add_vline(x=chance, line_dash="dot", line_width=1, line_color="#888888")
    chart.update_yaxes(automargin=True)
    return chart.update_xaxes(range=[0, 1], tickformat=".0%", title="dotted: chance")
