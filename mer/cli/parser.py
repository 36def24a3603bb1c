"""All commands and their options. The options of `train` are generated from the settings in mer/config."""

import argparse
import dataclasses
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NoReturn

from mer.cli import checks, data, ensembles, explain, ladder, models, runs, serve, store, train, zoo
from mer.cli.output import error_line
from mer.config.presets import PRESETS
from mer.config.sections import AudioConfig, AugmentConfig, MelConfig, SplitConfig, TrainConfig
from mer.config.settings import Section

__all__ = ["build_parser"]

SECTIONS = (TrainConfig, SplitConfig, AugmentConfig, AudioConfig, MelConfig)
Group = argparse._SubParsersAction
DETACH = "return at once and train in the background"
NOT_OPTIONS = {"fold"}  # folds are numbered by `--folds` itself


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line, like all others."""

    def error(self, message: str) -> NoReturn:
        """Print the error and leave with status 2."""
        line = error_line(f"{message}; see '{self.prog} --help'")
        self.exit(2, f"{line}\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser of `mer`. The function of the chosen command is in `arguments.run`."""
    parser = Parser(prog="mer", description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.set_defaults(json=False)
    top = parser.add_subparsers(required=True, metavar="COMMAND")
    _zoo(top)
    _data(top)
    _store(top)
    _training(top)
    _models(top)
    _runs(top)
    return parser


def _add(group: Group, name: str, run: Callable, text: str) -> argparse.ArgumentParser:
    command = group.add_parser(name, help=text, description=text, allow_abbrev=False)
    command.set_defaults(run=run)
    command.add_argument("--json", action="store_true", help="print one JSON object")
    return command


def _group(top: Group, name: str, text: str) -> Group:
    return top.add_parser(name, help=text, description=text).add_subparsers(required=True, metavar="COMMAND")


def _columns(command: argparse.ArgumentParser, *, checked: bool = True) -> None:
    """Options for reading a data set and, if it is `checked`, for clips that contradict each other."""
    command.add_argument(
        "--label-column", default="label", metavar="NAME",
        help="CSV column with the label, or columns with votes: calm,tense or Happy=joy,Sad=sadness",
    )  # fmt: skip
    command.add_argument("--song-column", default="song", metavar="NAME", help="CSV column with the song")
    command.add_argument(
        "--song-pattern", default="auto", metavar="TEXT",
        help="where no song is named, how file names name it, such as '{song}{letter}' or "
        "'{song} ({number})'; auto: a pattern that names clearly follow; none: no pattern",
    )  # fmt: skip
    if checked:
        text = "leave out clips whose audio is in two classes, instead of refusing the data set"
        command.add_argument("--drop-conflicts", action="store_true", help=text)


def _zoo(top: Group) -> None:
    group = top.add_parser("zoo", help="list the pretrained networks", allow_abbrev=False)
    group.add_argument("--json", action="store_true", help="print one JSON object")
    group.set_defaults(run=zoo.zoo)
    fetch = _add(
        group.add_subparsers(metavar="COMMAND"),
        "fetch",
        zoo.zoo_fetch,
        "download ImageNet weights in advance",
    )
    fetch.add_argument("name", metavar="NAME|all")
    fetch.add_argument("--out", type=Path, metavar="DIR", help="also copy the files to this folder")


def _data(top: Group) -> None:
    group = _group(top, "data", "get and check data sets")
    demo = _add(group, "demo", data.data_demo, "generate the synthetic demo corpus")
    demo.add_argument("--out", type=Path, required=True, metavar="DIR")
    demo.add_argument("--clips-per-class", type=int, default=40, metavar="N")
    demo.add_argument("--seed", type=int, default=0, metavar="N")
    fetch = _add(group, "fetch", data.data_fetch, "download a data set from Kaggle")
    fetch.add_argument("name", metavar="mer500")
    fetch.add_argument("--out", type=Path, required=True, metavar="DIR")
    listing = _add(
        group,
        "check",
        data.data_check,
        "summarise a data set: usable clips, files left out and why, and songs",
    )
    listing.add_argument("path", type=Path, metavar="PATH")
    _columns(listing)
    _prepare(top)


def _prepare(top: Group) -> None:
    prepare = _add(top, "prepare", data.prepare, "compute the features of a data set, or make a sharded set")
    prepare.add_argument("path", type=Path, metavar="PATH")
    text = "make a sharded set in this folder from a Parquet manifest of any length"
    prepare.add_argument("--shards", type=Path, metavar="DIR", help=text)
    text = "allow URLs in the manifest that start with this, such as s3://bucket/music/; repeatable"
    prepare.add_argument("--from", dest="allowed", action="append", default=[], metavar="URL", help=text)
    prepare.add_argument(
        "--executor",
        choices=("local", "ray"),
        default="local",
        help="where shards are made: on this machine, or on a Ray cluster",
    )
    prepare.add_argument("--workers", type=int, metavar="N", help="processes (default: one per core)")
    prepare.add_argument("--preset", choices=PRESETS, default="default")
    _columns(prepare)
    _settings(prepare, skip=set(), sections=(AudioConfig, MelConfig))


def _store(top: Group) -> None:
    group = top.add_parser("store", help="show the disk space of stored features", allow_abbrev=False)
    group.add_argument("--json", action="store_true", help="print one JSON object")
    group.set_defaults(run=store.store)
    text = "remove entries that no run can use: unfinished, damaged, or of other versions"
    prune = _add(group.add_subparsers(metavar="COMMAND"), "prune", store.store_prune, text)
    prune.add_argument(
        "--unused", type=float, metavar="DAYS", help="also entries that were not used for this long"
    )
    prune.add_argument(
        "--gone", action="store_true", help="also entries of clips that are no longer at their path"
    )
    prune.add_argument("--all", action="store_true", help="everything (it can be computed again)")
    prune.add_argument("--dry-run", action="store_true", help="only show what would be removed")


def _training(top: Group) -> None:
    one = _add(top, "train", train.train, "fine-tune one network")
    many = _add(top, "sweep", train.sweep, "fine-tune several networks and batch sizes")
    text = "train on shuffled labels, silence and noise, from which nothing can be learned"
    controls = _add(top, "controls", checks.controls, text)
    leak = _add(
        top,
        "check-leak",
        checks.check_leak,
        "measure how much a score rises if songs are on both sides of the split",
    )
    skipped = {many: {"backbone", "batch_size"}, controls: {"control"}, leak: {"group_by_song"}}
    for command in (one, many, controls, leak):
        command.add_argument("--data", type=Path, required=True, metavar="PATH", help="folder, zip or CSV")
        text = "default: `default`; with --weights none `full`, since a frozen random network learns little"
        command.add_argument("--preset", choices=PRESETS, help=text)
        _columns(command)
        _settings(command, skip=skipped.get(command, set()))
    for command in (one, many):
        _executor(command)
    one.add_argument("--detach", action="store_true", help=DETACH)
    _ladder(top)
    many.add_argument("--backbones", default="all", metavar="all|A,B")
    many.add_argument("--batch-sizes", default="", metavar="N,N", help="default: the preset's")


def _executor(command: argparse.ArgumentParser) -> None:
    """Options for a Ray cluster and the resources of its workers."""
    text = "this machine (default), or a Ray cluster: the one at RAY_ADDRESS, or one started here"
    command.add_argument("--executor", choices=("local", "ray"), default="local", help=text)
    group = command.add_argument_group("on a Ray cluster")
    text = "processes that train a network together (default: 1)"
    group.add_argument("--workers", type=int, metavar="N", help=text)
    for name, unit, text in (
        ("cpus", "X", "CPUs (default: 1)"), ("gpus", "0|1", "GPUs (default: 0)"),
        ("memory", "GB", "GB of memory to reserve"),
    ):  # fmt: skip
        group.add_argument(f"--{name}-per-worker", type=float, metavar=unit, help=text)


def _ladder(top: Group) -> None:
    text = "train from the released code of the 2022 study to preset `default`, one change at a time"
    command = _add(top, "ladder", ladder.ladder, text)
    command.description = f"{text}; a setting that is given applies to every rung"
    command.add_argument("--data", type=Path, required=True, metavar="PATH", help="folder, zip or CSV")
    command.add_argument("--detach", action="store_true", help=DETACH)
    _columns(command)
    _settings(command, skip=set())


def _settings(
    command: argparse.ArgumentParser, *, skip: set[str], sections: Sequence[type[Section]] = SECTIONS
) -> None:
    """An option for every setting. Options that are given override the preset."""
    seen = set(skip) | NOT_OPTIONS
    for section in sections:
        group = command.add_argument_group(section.__doc__.rstrip("."))
        hints = typing.get_type_hints(section)
        for field in dataclasses.fields(section):
            if field.name in seen:
                continue
            seen.add(field.name)
            hint = hints[field.name]
            options: dict[str, typing.Any] = {"default": argparse.SUPPRESS, "help": field.metadata["help"]}
            if hint is bool:
                options["action"] = argparse.BooleanOptionalAction
            elif typing.get_origin(hint) is Literal:
                options["choices"] = typing.get_args(hint)
            else:
                options |= {"type": hint, "metavar": {int: "N", float: "X", str: "NAME"}[hint]}
            group.add_argument(f"--{field.name.replace('_', '-')}", dest=f"set_{field.name}", **options)


def _models(top: Group) -> None:
    evaluate = _add(top, "evaluate", models.evaluate, "score a checkpoint on a data set")
    evaluate.add_argument("checkpoint", type=Path)
    evaluate.add_argument("--data", type=Path, required=True, metavar="PATH")
    evaluate.add_argument("--group-by-song", action=argparse.BooleanOptionalAction, default=True)
    _columns(evaluate)
    predict = _add(top, "predict", models.predict, "predict the emotion of clips")
    predict.add_argument("checkpoint", type=Path)
    predict.add_argument("files", type=Path, nargs="+", metavar="FILE", help="a clip, or a folder of clips")
    over_time = _add(top, "timeline", models.timeline, "write emotion over time at a fixed rate as CSV")
    over_time.add_argument("checkpoint", type=Path)
    over_time.add_argument("file", type=Path, metavar="FILE")
    over_time.add_argument(
        "--rate", type=float, default=1.0, metavar="HZ", help="values per second (default: 1)"
    )
    over_time.add_argument("--out", type=Path, required=True, metavar="CSV")
    stimuli = _add(top, "stimuli", models.stimuli, "choose matched clips for a listening experiment")
    stimuli.add_argument("checkpoints", type=Path, nargs="+", metavar="CHECKPOINT")
    stimuli.add_argument("--data", type=Path, required=True, metavar="PATH")
    stimuli.add_argument(
        "--per-class", type=int, default=10, metavar="N", help="clips per emotion (default: 10)"
    )
    stimuli.add_argument(
        "--loudness",
        type=float,
        default=-23.0,
        metavar="LUFS",
        help="loudness of all clips (default: -23, EBU R128)",
    )
    stimuli.add_argument("--out", type=Path, required=True, metavar="DIR")
    _columns(stimuli, checked=False)
    _files(top)
    _serving(top)
    where = _add(top, "explain", explain.explain, "show the evidence for an answer, as a map and as sound")
    where.add_argument("checkpoint", type=Path)
    where.add_argument("file", type=Path, metavar="FILE")
    where.add_argument("--out", type=Path, required=True, metavar="DIR")
    where.add_argument("--emotion", metavar="NAME", help="explain this emotion (default: the predicted one)")
    where.add_argument("--window", type=int, metavar="N", help="explain only this window, counted from 0")


def _files(top: Group) -> None:
    """Commands that write a checkpoint, or a file made from one."""
    export = _add(top, "export", models.export, "copy a finished run's checkpoint")
    export.add_argument("name", metavar="RUN")
    export.add_argument("--out", type=Path, required=True, metavar="DIR")
    export.add_argument("--half", action="store_true", help="save weights as float16, at half the size")
    ensemble = _add(top, "ensemble", ensembles.ensemble, "combine finished runs into one predictor")
    ensemble.add_argument("names", nargs="+", metavar="RUN")
    ensemble.add_argument("--out", type=Path, metavar="DIR", help="also copy its checkpoint to this folder")
    text = "how the members' probabilities are averaged (default: equal)"
    ensemble.add_argument("--weights", choices=("equal", "validation"), default="equal", help=text)
    portable = _add(top, "convert", models.convert, "write a checkpoint as one file for other programs")
    portable.add_argument("checkpoint", type=Path)
    portable.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="a file that ends in .onnx or .pt2"
    )


def _serving(top: Group) -> None:
    command = _add(top, "serve", serve.serve, "answer requests over HTTP with a checkpoint")
    command.add_argument("checkpoint", type=Path)
    command.add_argument("--host", default="127.0.0.1", help="default: only this machine")
    command.add_argument("--port", type=int, default=8000, metavar="N")
    command.add_argument("--workers", type=int, metavar="N", help="threads (default: one per core)")
    text = "requests admitted at once; others are answered with status 429 (default: 32)"
    command.add_argument("--max-inside", type=int, default=32, metavar="N", help=text)
    text = "time in ms to wait for requests that can share a batch; useful on GPUs (default: 0)"
    command.add_argument("--batch-window", type=float, default=0.0, metavar="MS", help=text)


def _runs(top: Group) -> None:
    group = _group(top, "runs", "list, show, cancel, resume, delete and restore runs")
    command = _add(group, "list", runs.runs_list, "list all runs, newest first")
    command.add_argument("--deleted", action="store_true", help="list the deleted runs that can be restored")
    for name, text in (
        ("show", "show a run's settings, tags and metrics"),
        ("cancel", "stop a run at its next step"),
        ("resume", "resume an unfinished run"),
        ("work", "work on a queued run; --detach starts this command"),
        ("delete", "delete a run; it can be restored until its files are removed"),
        ("restore", "restore a deleted run"),
    ):
        command = _add(group, name, getattr(runs, f"runs_{name}"), text)
        command.add_argument("name", metavar="RUN")
        if name == "resume":
            command.add_argument("--detach", action="store_true", help=DETACH)
    text = "remove the files of deleted runs, which then cannot be restored"
    prune = _add(group, "prune", runs.runs_prune, text)
    prune.add_argument(
        "names", nargs="*", metavar="RUN", help="only these deleted runs; default: all of them"
    )
    prune.add_argument("--dry-run", action="store_true", help="only show what would be removed")
