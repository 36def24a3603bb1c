"""Benchmarks: ratios to a baseline, measured in one run on the same clips.

    python benchmarks/run.py                        all rows, an hour and a half on two cores
    python benchmarks/run.py --quick                a short form of two minutes, for CI
    python benchmarks/run.py --rows predict,start   some rows
    python benchmarks/run.py --data DIR             your own clips, a folder per class

Prints a table and, once all rows were measured, writes docs/benchmarks.md. Nothing heavy is imported at the
top, because worker processes may import this file again.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
if __package__ in (None, ""):  # run as a file: Python put this folder on the path instead of the project
    sys.path[0] = str(ROOT)

if TYPE_CHECKING:
    from benchmarks.rows import Bench, Result, Row

PAGE = ROOT / "docs" / "benchmarks.md"
QUICK_CLIPS = 40
FEWEST = 20  # clips that can be divided into training and test


def say(text: str) -> None:
    """Print progress on standard error."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def options(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="a folder per class; default: generated clips"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    parser.add_argument("--quick", action="store_true", help="two minutes; exit status 1 if far off a target")
    parser.add_argument("--rows", default="", metavar="A,B", help="some rows only; writes no page by itself")
    parser.add_argument("--repeats", type=int, default=1, metavar="N", help="of the paper rows (default: 1)")
    parser.add_argument(
        "--sweep-clips", type=int, metavar="N", help="of the paper sweep: fewer take less time (default: all)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="the page (default: docs/benchmarks.md)")
    return parser.parse_args(words)


def prepare_environment() -> None:
    """Set the same environment for both sides: all CPU cores, no GPU, and no other run store."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    for name in ("MLFLOW_TRACKING_URI", "MER_SLOTS"):
        os.environ.pop(name, None)


def make_bench(arguments: argparse.Namespace, scratch: Path) -> "Bench":
    """Prepare the clips and read each once, so that both sides read them from memory."""
    from benchmarks.rows import Bench
    from benchmarks.sample import LIMIT, choose, generate

    limit, folder = QUICK_CLIPS if arguments.quick else LIMIT, scratch / "clips"
    folder.mkdir()
    sample = choose(arguments.data, folder, limit) if arguments.data else generate(folder, limit)
    for path in sample.paths:
        path.read_bytes()
    say(sample.words)
    return Bench(sample, scratch, arguments.quick, arguments.repeats, arguments.sweep_clips, say)


def measure(rows: "Sequence[Row]", bench: "Bench") -> "list[Result]":
    """Measure the rows one after the other."""
    from benchmarks.report import ratio

    results = []
    for row in rows:
        say(f"{row.name}: {row.what}")
        result = row.measure(bench)
        say(f"  {ratio(result)} {result.verdict}")
        results.append(result)
    return results


def publish(arguments: argparse.Namespace, results: "Sequence[Result]", words: str) -> None:
    """Print the table or the JSON; write the page if asked to, or if everything was measured."""
    from benchmarks.machine import circumstances
    from benchmarks.paper import BACKBONES
    from benchmarks.report import markdown, show, write

    about = circumstances()
    data = about | {"data": words, "quick": arguments.quick, "rows": [result.to_dict() for result in results]}
    sys.stdout.write((json.dumps(data) if arguments.json else show(results)) + "\n")
    page = arguments.out or (None if arguments.quick or arguments.rows else PAGE)
    if page:
        write(page, markdown(results, about, data=words, backbones=BACKBONES))
        say(f"written: {page}")


def status(results: "Sequence[Result]", *, quick: bool) -> int:
    """Return 1 if a row failed, or in a quick run missed its margin, and print a line for each."""
    bad = [result for result in results if result.failed or (quick and not result.within_margin)]
    for result in bad:
        if result.failed:
            say(f"error: {result.row.name}: {result.reason}")
        else:
            word = "at most" if result.row.at_most else "at least"
            say(
                f"error: {result.row.name}: {result.ratio:.2f} x, and even a quick run should have {word} "
                f"{result.row.margin:g}; find out with: python benchmarks/run.py --rows {result.row.key}"
            )
    return 1 if bad else 0


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print, write; returns the exit status."""
    from benchmarks.rows import chosen
    from mer.utils.errors import ConfigError, MerError

    arguments = options(words)
    try:
        if arguments.repeats < 1:
            raise ConfigError(f"--repeats {arguments.repeats} should be at least 1")
        if arguments.sweep_clips is not None and arguments.sweep_clips < FEWEST:
            raise ConfigError(f"--sweep-clips {arguments.sweep_clips} should be at least {FEWEST}")
        rows = chosen(arguments.rows, quick=arguments.quick)
        prepare_environment()
        with tempfile.TemporaryDirectory(prefix="mer-benchmark-", ignore_cleanup_errors=True) as folder:
            bench = make_bench(arguments, Path(folder))
            results = measure(rows, bench)
        publish(arguments, results, bench.sample.words)
    except MerError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("stopped; nothing was written")
        return 130
    return status(results, quick=arguments.quick)


if __name__ == "__main__":
    sys.exit(main())
