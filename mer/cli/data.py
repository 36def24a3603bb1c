"""`mer data` and `mer prepare`: get, check and prepare data sets."""

from argparse import Namespace

from mer.cli.output import Bars, emit, table
from mer.cli.specs import make_spec, requested_config
from mer.config.sections import Config
from mer.data.load import load_dataset
from mer.utils.errors import ConfigError


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

    dataset = load_dataset(
        arguments.path, label_column=arguments.label_column, song_column=arguments.song_column
    )
    report = check(dataset, FeatureStore.default(), progress=Bars())
    emit(report.to_dict(), as_json=arguments.json, text=_report_text(report.to_dict()))


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


def _report_text(report: dict) -> str:
    """The report for people."""
    seconds, grouping = report["seconds"], report["grouping"]
    mark = " (synthetic)" if report["synthetic"] else ""
    length = f"{seconds['min']:g} to {seconds['max']:g} s, median {seconds['median']:g} s"
    lines = [
        f"{report['name']}{mark}: {report['clips']} usable clips, {length}",
        table(list(report["classes"].items()), ("class", "clips")),
        "sample rates: " + ", ".join(f"{n} at {rate} Hz" for rate, n in report["sample_rates"].items()),
        _songs_text(report["songs"], grouping),
    ]
    if report["left_out"]:
        rows = [(row["file"], row["reason"]) for row in report["left_out"]]
        lines.append(table(rows, (f"left out ({len(rows)})", "reason")))
    if report["remarks"]:
        rows = [(row["file"], " ".join(row["remarks"])) for row in report["remarks"]]
        lines.append(table(rows, (f"used, with a remark ({len(rows)})", "remark")))
    if report["duplicates"]:
        rows = [(row["dropped"], row["kept"]) for row in report["duplicates"]]
        lines.append(table(rows, (f"same audio ({len(rows)})", "kept clip")))
    return "\n\n".join(lines)


def _songs_text(songs: int, grouping: dict) -> str:
    """A line on the songs: how many there are, and how they were found."""
    if grouping["source"] == "by hand":
        return f"songs: {songs}, named by the manifest"
    least = ", ".join(f"{kind} from {value:g}" for kind, value in grouping["thresholds"].items())
    if not grouping["links"]:
        return f"songs: none named, and no two clips share audio or sound alike ({least})"
    sure = grouping["confidence"].values()
    return (
        f"songs: none named; by sound ({least}) {grouping['groups']} groups of 2 or more clips, "
        f"confidence {min(sure):.0%} to {max(sure):.0%}; splits keep each group together"
    )
