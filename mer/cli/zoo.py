"""`mer zoo`: the pretrained networks and their weights."""

from argparse import Namespace

from mer.cli.output import emit, table


def zoo(arguments: Namespace) -> None:
    """List all networks of the zoo."""
    from mer.models.zoo import ZOO

    rows = [
        {
            "name": entry.name,
            "parameters": entry.source.parameters,
            "weights": entry.source.title,
            "available_offline": entry.source.available(),
        }
        for entry in ZOO.values()
    ]
    lines = [
        (
            r["name"],
            f"{r['parameters'] / 1e6:.1f} M",
            r["weights"],
            "available" if r["available_offline"] else "to download",
        )
        for r in rows
    ]
    text = table(lines, ("network", "pretrained parameters", "weights from", "weights"))
    emit({"backbones": rows}, as_json=arguments.json, text=text)


def zoo_fetch(arguments: Namespace) -> None:
    """Download weights, check their hashes, and copy them to --out."""
    from mer.models.weights import fetch
    from mer.models.zoo import ZOO, get_network

    names = list(ZOO) if arguments.name == "all" else [arguments.name]
    found = {name: str(fetch(get_network(name).source, arguments.out)) for name in names}
    emit({"files": found}, as_json=arguments.json, text=table(list(found.items()), ("network", "file")))
