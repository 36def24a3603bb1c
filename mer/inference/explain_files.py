"""Writes an explanation to files: results as JSON, the map as CSV, two sounds and a picture."""

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mer.audio.preview import frequency_ticks
from mer.inference.explain import Explanation
from mer.inference.masking import as_wav

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["FILES", "write_explanation"]

FILES = {
    "explanation": "explanation.json",
    "map": "map.csv",
    "heard": "heard.wav",
    "rest": "rest.wav",
    "picture": "picture.png",
}
ORANGE, BLUE, CYAN = "#D55E00", "#4477AA", "#56D0FF"


def write_explanation(folder: Path, found: Explanation, about: dict[str, Any]) -> None:
    """Write the `FILES` of an explanation.

    The first row of the CSV file has the seconds, the first column the frequency of each band in Hz. The two
    sounds are WAV files of float32 samples at the checkpoint's sample rate. Their sum is the explained part
    of the clip.

    Parameters
    ----------
    folder
        An existing folder.
    found
        The explanation.
    about
        Plain data that comes first in the JSON file.
    """
    text = json.dumps(about | found.to_dict(), ensure_ascii=False, indent=1)
    (folder / FILES["explanation"]).write_text(text, "utf-8")
    rows = np.column_stack([found.hertz, found.relevance])
    header = ",".join(["hz", *(f"{second:.3f}" for second in found.seconds)])
    formats = ["%.1f"] + ["%.3f"] * len(found.seconds)
    np.savetxt(folder / FILES["map"], rows, fmt=formats, delimiter=",", header=header, comments="")
    for name in ("heard", "rest"):
        (folder / FILES[name]).write_bytes(as_wav(getattr(found, name), found.rate))
    _draw(found, folder / FILES["picture"])


def _draw(found: Explanation, path: Path) -> None:
    """Draw the spectrogram with the map over it, and the deletion curve below."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    picture = Figure(figsize=(10, 7), layout="constrained")
    # A class name may contain "$", which is not a formula, or letters that the font does not have.
    with rc_context({"text.parse_math": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        top, bottom = picture.subplots(2, height_ratios=[3, 2])
        _spectrogram(found, top)
        picture.colorbar(top.images[-1], ax=top, label=f"evidence for {found.explained}")
        _curves(found, bottom)
        picture.savefig(path, dpi=120)


def _spectrogram(found: Explanation, axes: "Axes") -> None:
    """Draw the spectrogram in grey with the map over it, and a line at half of the map's maximum."""
    first, second = (*found.seconds[:2], found.end)[:2]  # there may be only one frame
    half = (second - first) / 2
    extent = (found.seconds[0] - half, found.seconds[-1] + half, -0.5, len(found.hertz) - 0.5)
    place = {"origin": "lower", "aspect": "auto", "extent": extent}
    axes.imshow(found.level, cmap="gray", **place)
    axes.imshow(found.relevance, cmap="inferno", alpha=0.6 * found.relevance, vmin=0, vmax=1, **place)
    if found.relevance.any() and min(found.relevance.shape) > 1:
        axes.contour(found.seconds, range(len(found.hertz)), found.relevance, [0.5], colors=CYAN)
    axes.set_yticks(*frequency_ticks(found.hertz))
    axes.set(xlabel="time (s)", ylabel="frequency (Hz)")
    axes.set_title(f"Evidence for {found.explained} ({found.probability:.0%}); line: half of the maximum")


def _curves(found: Explanation, axes: "Axes") -> None:
    """Draw the deletion curves of the map and of the shifted maps."""
    checked = found.deletion
    if checked is None:
        axes.set_title(f"No evidence for {found.explained}, so there is nothing to remove")
        return
    removed = [100 * share for share in checked.removed]
    axes.plot(removed, checked.curve, color=ORANGE, marker="o", label="removed in the order of the map")
    for number, curve in enumerate(checked.random):
        label = {"label": "removed in the order of a map shifted at random"} if number == 0 else {}
        axes.plot(removed, curve, color=BLUE, linewidth=0.7, linestyle="--", **label)
    axes.set(xlabel="removed (%)", ylabel=f"probability of {found.explained}", ylim=(0, 1))
    axes.set_title(checked.verdict, fontsize="medium")
    axes.legend()
