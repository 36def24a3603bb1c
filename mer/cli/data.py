"""`mer data` and `mer prepare`: get, check and prepare data sets."""

from argparse import Namespace
from typing import TYPE_CHECKING

from mer.cli.output import Bars, emit, table
from mer.cli.specs import make_spec, requested_config
from mer.config.sections import Config
from mer.data.load import load_dataset, reading
from mer.utils.errors import ConfigError, DataError

if TYPE_CHECKING:
    from mer.data.check import Report


def data_demo(arguments: Namespace) -> None:
    """Generate the synthetic corpus."""
    from mer.data.demo import write_demo

    bars = Bars()
    write_demo(
        arguments.out,
        clips_per_class=arguments.clips_per_class,
        seed=arguments.seed,
        progress=lambda done, total: bars("generating clips", done, total),
    )
    data = {"path": str(arguments.out), "clips": 5 * arguments.clips_per_class, "synthetic": True}
    text = f"{data['clips']} synthetic clips in {arguments.out}; next: mer train --data {arguments.out}"
    emit(data, as_json=arguments.json, text=text)


def data_fetch(arguments: Namespace) -> None:
    """Download from Kaggle."""
    from mer.data.kaggle import fetch

    path = fetch(arguments.name, arguments.out)
    emit({"path": str(path)}, as_json=arguments.json, text=f"{arguments.name} is in {path}")


def data_check(arguments: Namespace) -> None:
    """Check a data set."""
    from mer.data.cache.store import FeatureStore
    from mer.data.check import check
    from mer.data.duplicates import conflict_text

    dataset, conflicts = load_dataset(arguments.path, **reading(arguments)), "list"
    if arguments.drop_conflicts:
        conflicts = "drop"
    report = check(dataset, FeatureStore.default(), conflicts=conflicts, progress=Bars())
    emit(report.to_dict(), as_json=arguments.json, text=_report_text(report))
    if report.conflicts and not arguments.drop_conflicts:
        raise DataError(conflict_text(report.conflicts))


def prepare(arguments: Namespace) -> None:
    """Fill the feature store, or make a sharded set."""
    from mer.experiments.prepared import prepare as prepare_data

    config = requested_config(arguments, baseline=False)
    if arguments.shards:
        _prepare_shards(arguments, config)
        return
    _refuse_for_store(arguments)
    prepared = prepare_data(make_spec(arguments, config), notify=Bars(), workers=arguments.workers)
    data = {
        "clips": prepared.about["clips"],
        "left_out": prepared.left_out,
        "store": str(prepared.store.root),
    }
    text = f"{data['clips']} clips ready, {data['left_out']} left out; store: {data['store']}"
    emit(data, as_json=arguments.json, text=text)


def _refuse_for_store(arguments: Namespace) -> None:
    """Refuse options that need --shards."""
    if arguments.allowed or arguments.executor != "local":
        raise ConfigError("--from and --executor ray need --shards, the folder of a sharded set")


def _prepare_shards(arguments: Namespace, config: Config) -> None:
    """Make a sharded set from a Parquet manifest."""
    from mer.data.shards.make import make
    from mer.jobs.spreading import over_ray

    if arguments.song_pattern not in ("auto", "none"):
        raise ConfigError("--song-pattern cannot be used with --shards; give the Parquet file a column song")
    bars, out = Bars(), arguments.shards.absolute()
    made = make(
        arguments.path.absolute(),
        out,
        config,
        allowed=tuple(arguments.allowed),
        label_column=arguments.label_column,
        song_column=arguments.song_column,
        spread=over_ray if arguments.executor == "ray" else None,
        workers=arguments.workers,
        progress=lambda done, total: bars("preparing shards", done, total),
    )
    data = made.to_dict() | {"out": str(out)}
    emit(data, as_json=arguments.json, text=_shards_text(data))


def _shards_text(data: dict) -> str:
    """A summary of a sharded set."""
    many = f"{data['clips']} clips of {len(data['classes'])} classes, {data['windows']} windows"
    known = (
        f"{data['songs']}, named by the manifest"
        if data["songs_known"]
        else "not all named; a clip without a song counts as one song, since a set is not compared by sound"
    )
    twice = f"{data['duplicates']} duplicates with the same audio as another clip"
    lines = [
        f"{many}, in {data['shards']} shards of {data['bytes'] / 1e6:.1f} MB in all",
        f"songs: {known}",
        f"{data['left_out']} files left out, {twice}; see {data['out']}/left_out.parquet",
        f"next: mer train --no-baseline --data {data['out']}",
    ]
    return "\n".join(lines)


def _report_text(found: "Report") -> str:
    """The report for people."""
    from mer.data.notes import offer, songs_text

    report = found.to_dict()
    seconds = report["seconds"]
    mark = " (synthetic)" if report["synthetic"] else ""
    length = f"{seconds['min']:g} to {seconds['max']:g} s, median {seconds['median']:g} s"
    lines = [
        f"{report['name']}{mark}: {report['clips']} usable clips, {length}",
        table(list(report["classes"].items()), ("class", "clips")),
        "sample rates: " + ", ".join(f"{n} at {rate} Hz" for rate, n in report["sample_rates"].items()),
        songs_text(found),
        *filter(None, [offer(found), *report["remarks"]]),
    ]
    if report["left_out"]:
        rows = [(row["file"], row["reason"]) for row in report["left_out"]]
        lines.append(table(rows, (f"left out ({len(rows)})", "reason")))
    if report["remarked"]:
        rows = [(row["file"], " ".join(row["remarks"])) for row in report["remarked"]]
        lines.append(table(rows, (f"used, with a remark ({len(rows)})", "remark")))
    if report["duplicates"]:
        rows = [(row["dropped"], row["kept"]) for row in report["duplicates"]]
        lines.append(table(rows, (f"same audio ({len(rows)})", "kept clip")))
    if report["conflicts"]:
        rows = [tuple(row.values()) for row in report["conflicts"]]
        lines.append(table(rows, (f"same audio in two classes ({len(rows)})", "class", "and", "class")))
    return "\n\n".join(lines)
