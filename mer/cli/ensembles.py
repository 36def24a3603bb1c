"""`mer ensemble`: combines finished runs into one predictor."""

import shlex
import shutil
from argparse import Namespace
from contextlib import nullcontext
from typing import TYPE_CHECKING

from mer.cli.output import emit, table
from mer.metrics.score import Score
from mer.utils.files import new_folder

if TYPE_CHECKING:
    from mer.experiments.ensembling import Joined


def ensemble(arguments: Namespace) -> None:
    """Combine finished runs, and copy the checkpoint into a new folder if one is given."""
    from mer.experiments.ensembling import join
    from mer.runs.store import RunStore

    command = shlex.join(["python", "-m", "mer", *arguments.words])
    with new_folder(arguments.out) if arguments.out else nullcontext() as draft:
        joined = join(RunStore.open(), arguments.names, weights=arguments.weights, command=command)
        if draft:
            shutil.copytree(joined.checkpoint, draft, dirs_exist_ok=True)
    data = joined.to_dict() | ({"checkpoint": str(arguments.out)} if arguments.out else {})
    emit(data, as_json=arguments.json, text=_text(joined, data["checkpoint"]))


def _text(joined: "Joined", checkpoint: str) -> str:
    """Scores by song of members and ensemble, the members' agreement, and where the checkpoint is."""
    parts = zip(joined.members, joined.weights, strict=True)
    rows = [
        (run.id[:8], run.name, f"{weight:.0%}", str(Score.from_metrics(run.metrics)), run.leak)
        for run, weight in parts
    ]
    rows.append((joined.run_id[:8], "the ensemble", "", Score.from_metrics(joined.metrics), ""))
    short = [run.id[:8] for run in joined.members]
    alike = [
        (name, *(f"{share:.0%} ({kappa:.2f})" for share, kappa in zip(shares, kappas, strict=True)))
        for name, shares, kappas in zip(short, *joined.diversity.values(), strict=True)
    ]
    return "\n\n".join(
        [
            table(rows, ("run", "name", "weight", "by song (95% interval)", "")),
            table(alike, ("same answer (Cohen's kappa)", *short)),
            f"run {joined.run_id[:8]}, checkpoint: {checkpoint}",
        ]
    )
