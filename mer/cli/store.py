"""`mer store`: the disk space of the feature store, and how to free some."""

from argparse import Namespace
from datetime import datetime
from typing import TYPE_CHECKING

from mer.cli.output import emit, table
from mer.runs.store import RunStore
from mer.utils.errors import ConfigError, RunError
from mer.utils.progress import megabytes

if TYPE_CHECKING:
    from mer.data.cache.pruning import Part


def store(arguments: Namespace) -> None:
    """List the parts of the store, the largest first."""
    from mer.data.cache.pruning import parts, size
    from mer.data.cache.store import FeatureStore

    root = FeatureStore.default().root
    found = parts(root)
    data = {"store": str(root), "bytes": size(root), "parts": [_plain(part) for part in found]}
    rows = [(part.kind, part.title, part.entries, megabytes(part.size), _day(part.used)) for part in found]
    text = f"{root}: {megabytes(data['bytes'])}"
    if rows:
        text = "\n".join([table(rows, ("kind", "contents", "clips", "size", "last used")), text])
    emit(data, as_json=arguments.json, text=text)


def _plain(part: "Part") -> dict:
    return {
        "kind": part.kind,
        "title": part.title,
        "clips": part.entries,
        "bytes": part.size,
        "last_used": part.used,
        "usable": not part.outdated,
    }


def _day(moment: float) -> str:
    return datetime.fromtimestamp(moment).astimezone().strftime("%Y-%m-%d")


def store_prune(arguments: Namespace) -> None:
    """Remove entries that no run can use, and others on request. Raises RunError while a run may use them."""
    from mer.data.cache.pruning import prune
    from mer.data.cache.store import FeatureStore

    if arguments.unused is not None and not arguments.unused >= 0:
        raise ConfigError(f"--unused {arguments.unused:g} should be a number of days from 0")
    if not arguments.dry_run:
        _refuse_while_in_use()
    freed = prune(
        FeatureStore.default(),
        unused_days=arguments.unused,
        gone=arguments.gone,
        everything=arguments.all,
        dry_run=arguments.dry_run,
    )
    verb = "would be" if arguments.dry_run else "were"
    emit(
        {"files": freed.files, "bytes": freed.size, "dry_run": arguments.dry_run},
        as_json=arguments.json,
        text=f"{freed.files} files, {megabytes(freed.size)}, {verb} removed",
    )


def _refuse_while_in_use() -> None:
    for run in RunStore.open().active() if RunStore.exists() else []:
        if run.status != "interrupted" and not run.elsewhere:
            raise RunError(
                f"run {run.id[:8]} is {run.status} and may be using the store; wait for it, or "
                f"stop it: mer runs cancel {run.id[:8]}"
            )
