"""`mer data` and `mer prepare`: get, check and prepare data sets."""

from argparse import Namespace

from mer.cli.output import Bars, emit, table
from mer.cli.specs import make_spec
from mer.datasets import load_dataset
from mer.presets import preset


def data_demo(arguments: Namespace) -> None:
    """Generate the synthetic corpus."""
    from mer.datasets.demo import write_demo

    bars = Bars()
    write_demo(
        arguments.out,
        clips_per_class=arguments.clips_per_class,
        seed=arguments.seed,
        progress=lambda done, total: bars("composing", done, total),
    )
    data = {"path": str(arguments.out), "clips": 5 * arguments.clips_per_class, "synthetic": True}
    text = f"{data['clips']} synthetic clips in {arguments.out}; next: mer train --data {arguments.out}"
    emit(data, as_json=arguments.json, text=text)


def data_fetch(arguments: Namespace) -> None:
    """Download from Kaggle."""
    from mer.datasets.kaggle import fetch

    path = fetch(arguments.name, arguments.out)
    emit({"path": str(path)}, as_json=arguments.json, text=f"{arguments.name} is in {path}")


def data_check(arguments: Namespace) -> None:
    """Check a data set."""
    from mer.datasets.check import check
    from mer.store import FeatureStore

    dataset = load_dataset(
        arguments.path, label_column=arguments.label_column, song_column=arguments.song_column
    )
    report = check(dataset, FeatureStore.default(), progress=Bars())
    emit(report.to_dict(), as_json=arguments.json, text=_report_text(report.to_dict()))


def prepare(arguments: Namespace) -> None:
    """Fill the feature store."""
    from mer.material import prepare as prepare_material

    material = prepare_material(
        make_spec(arguments, preset(arguments.preset)), notify=Bars(), workers=arguments.workers
    )
    data = {
        "clips": len(material.report.facts),
        "left_out": len(material.report.left_out),
        "store": str(material.store.root),
    }
    text = f"{data['clips']} clips ready, {data['left_out']} left out; store: {data['store']}"
    emit(data, as_json=arguments.json, text=text)


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
    if report["duplicates"]:
        rows = [(row["dropped"], row["kept"]) for row in report["duplicates"]]
        lines.append(table(rows, (f"same audio ({len(rows)})", "kept once as")))
    return "\n\n".join(lines)


def _songs_text(songs: int, grouping: dict) -> str:
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
