"""Formats the results as a table and as a page of the docs."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

from benchmarks.rows import Result
from mer.cli.output import table

__all__ = ["BY_HAND", "figure", "markdown", "ratio", "show", "target", "write"]

BY_HAND = "<!-- written by hand below -->"
HEADER = ("row", "ours", "baseline", "ratio", "target", "")
METHOD = """\
Each figure is a ratio of two things measured in one run of this script, on the same clips and the same
processor (a GPU is not used), in turn: ours, the baseline, ours, the baseline. The table shows medians of at
least three turns after a warm-up. The first pass has no warm-up; the clips are read once before, so
that neither side waits for the disk. The paper run and the paper sweep take most of an hour and
are measured once (`--repeats` for more): our command runs between two halves of the baseline's.

The baseline is the algorithm of the released code of the study of 2022, rewritten
(`benchmarks/baseline.py`). librosa decodes the first 5.2 s of each clip again in every epoch, in two worker
processes. Only the classifier of torchvision's network trains, but every epoch computes the whole network.
Where the study's code leaves a choice, the baseline takes the faster way: it reads no more of a file
than it uses, gives each worker one thread (more slow each other down), computes no gradients of frozen
layers, and stores neither runs nor checkpoints. Ours stores both, reads whole clips, and starts from an empty
`MER_HOME`. Weights are random on both sides, which takes as long as pretrained ones. For the paper run our
command is

    python -m mer sweep --data DIR --preset paper --weights none --backbones {backbones} --batch-sizes 64 \
--no-group-by-song --no-baseline --device cpu --json

`{device}` avoids a GPU, and `--no-baseline` the SVM that is otherwise tested beside each network, which the
study did not have. Scores mean nothing here: the clips need not be music.
"""


def figure(value: float | None, unit: str) -> str:
    """A measured value with its unit, to three digits."""
    if value is None:
        return ""
    if unit == "of a core":
        return f"{value:.1%} {unit}"
    return f"{_digits(value)} {unit}"


def _digits(value: float) -> str:
    places = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:,.{places}f}"


def ratio(result: Result) -> str:
    """The ratio, or the share of a core, as text."""
    if result.ratio is None:
        return ""
    if result.measured.baseline is None:
        return figure(result.ratio, result.row.unit)
    return f"{_digits(result.ratio)} x"


def target(result: Result) -> str:
    """The target in words."""
    row = result.row
    word = "at most" if row.at_most else "at least"
    return f"{word} {row.target:.0%}" if row.unit == "of a core" else f"{word} {row.target:g} x"


def _cells(result: Result) -> tuple[str, ...]:
    found, unit = result.measured, result.row.unit
    sides = (figure(found.ours, unit), figure(found.baseline, unit)) if found else ("", "")
    compared = ratio(result) if found and found.baseline is not None else ""
    return (result.row.name, *sides, compared, target(result), result.verdict)


def show(results: Sequence[Result]) -> str:
    """The table for a terminal, with the details below it."""
    notes = [
        f"{result.row.name}: {detail}"
        for result in results
        for detail in (result.measured.details if result.measured else ())
    ]
    return "\n".join([table([_cells(result) for result in results], HEADER), "", *notes]).rstrip()


def markdown(results: Sequence[Result], about: dict, *, data: str, backbones: Sequence[str]) -> str:
    """The page, without the part that is written by hand."""
    machine, versions = about["machine"], about["versions"]
    where = (
        f"Measured on {about['date']} at commit {about['commit']}, on {machine['processor']}, "
        f"{machine['cores']} cores, {machine['memory_gib']:g} GiB of memory, {machine['system']}; "
        + ", ".join(f"{name} {number}" for name, number in versions.items())
        + f". Clips: {data}."
    )
    lines = [
        "# Benchmarks",
        "",
        "The speed of mer as ratios to the study of 2022 or to the bare computation. Written by",
        "`python benchmarks/run.py`; `--data DIR` uses your own clips, a folder per class.",
        "",
        fill(where, 110, break_on_hyphens=False),
        "",
        *_markdown_table([_cells(result) for result in results]),
        "",
        "## The rows",
        "",
        'A ratio above 1 means that ours is faster, but in rows with "at most" that it takes longer. Each',
        "row is followed by times of its single steps.",
        "",
    ]
    for result in results:
        lines.append(f"- **{result.row.name}**: {result.row.what}.")
        lines += [f"  - {detail}" for detail in (result.measured.details if result.measured else ())]
    method = METHOD.format(backbones=",".join(backbones), device="--device cpu")
    return "\n".join([*lines, "", "## Method", "", method])


def _markdown_table(rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [HEADER, ["---"] * len(HEADER), *rows]
    return ["| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |" for cells in lines]


def write(path: Path, text: str) -> None:
    """Replace the page, but keep the part below the mark, which is written by hand."""
    kept = ""
    if path.is_file():
        _, mark, kept = path.read_text("utf-8").partition(BY_HAND)
        kept = kept if mark else ""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text.rstrip()}\n\n{BY_HAND}\n{kept.removeprefix(chr(10))}", "utf-8")
