"""Combines finished runs into an ensemble, which is itself a run with a checkpoint.

Its scores are computed from its members' predictions for their test clips; nothing is trained.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mer.experiments.records import headline, save_evaluation, versions
from mer.metrics.comparison import Row
from mer.metrics.predictions import agreement, fit_weights, likelihoods, mean_rows, score_rows
from mer.models.card import MOST_MEMBERS, Card, Member, load_card
from mer.models.checkpoint import write_ensemble
from mer.runs.deleted import remove_files
from mer.runs.outcomes import kept_folder
from mer.runs.results import read_predictions, read_validation, test_key
from mer.runs.run import Run
from mer.runs.store import RunStore
from mer.utils.errors import RunError

__all__ = ["WEIGHTS", "Joined", "join"]

WEIGHTS = ("equal", "validation")
TAGS = ("mer.data_hash", "mer.data_name", "mer.synthetic", "mer.test_hash", "mer.classes", "mer.leak")
HOW = {
    "equal": "All members weigh the same.",
    "validation": "The weights are the most probable ones by the labels of the validation part, where a song "
    "counts once; few songs leave them nearly equal.",
}


@dataclass(frozen=True, slots=True)
class Joined:
    """A new ensemble.

    Parameters
    ----------
    run_id
        Its run.
    members
        The runs that it combines.
    weights
        Weight of each member, 0 to 1; their sum is 1.
    metrics
        Its test scores, as logged with the run.
    diversity
        Agreement of each pair of members, as `mer.metrics.predictions.agreement` returns it.
    checkpoint
        Folder of its checkpoint.
    """

    run_id: str
    members: tuple[Run, ...]
    weights: tuple[float, ...]
    metrics: dict[str, float]
    diversity: dict[str, list[list[float]]]
    checkpoint: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        members = [
            {"run_id": run.id, "name": run.name, "weight": weight, "metrics": run.metrics}
            for run, weight in zip(self.members, self.weights, strict=True)
        ]
        keys = ("run_id", "metrics", "diversity", "checkpoint")
        return {"members": members} | {key: getattr(self, key) for key in keys}


def join(runs: RunStore, names: Sequence[str], *, weights: str = "equal", command: str = "") -> Joined:
    """Combine finished runs into an ensemble, and record it as a finished run.

    Parameters
    ----------
    runs
        The run store.
    names
        Ids of the runs, or their beginnings; 2 to 16.
    weights
        "equal", or "validation" for the most probable weights by the labels of the validation part.
    command
        The command line, for the card.

    Raises
    ------
    RunError
        For too few or too many runs, a run given twice, an unfinished run, an ensemble, or runs that differ
        in classes, test clips, sample rate or resampler; with "validation" also for runs without stored
        predictions of the same validation part. Nothing is recorded then.
    """
    members = tuple(map(runs.get, names))
    _require_joinable(members)
    folders = [kept_folder(runs, run, "checkpoint") for run in members]
    cards = [load_card(folder) for folder in folders]
    _require_alike(members, cards)
    answers = [_answers(runs, run) for run in members]
    classes = cards[0].classes
    shares = [1 / len(members)] * len(members)
    if weights == "validation":
        shares = _fitted_weights(runs, members, classes)
    rows = mean_rows(answers, shares, classes)
    scores, diversity = score_rows(rows, classes), agreement(answers, classes)
    card = replace(
        cards[0],
        members=tuple(
            Member(share, f"{own.config.train.backbone}, head {own.config.train.head}", run.id)
            for share, own, run in zip(shares, cards, members, strict=True)
        ),
        normalization={"mean": 0.0, "std": 1.0},
        split=({} if _pooled(members) else cards[0].split) | {"leak": members[0].leak},
        metrics=scores,
        calibration={},
        command=command,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=versions(),
        notes=_notes(members, cards[0], HOW[weights]),
    )
    evaluation = {"scores": scores, "predictions": rows, "history": []}
    run = _record(runs, members, card, evaluation, folders)
    checkpoint = str(runs.folder(run.id, "checkpoint"))
    return Joined(run.id, members, tuple(shares), run.metrics, diversity, checkpoint)


def _require_joinable(members: Sequence[Run]) -> None:
    """Raise RunError unless these are enough different finished runs of networks."""
    if not 2 <= len(members) <= MOST_MEMBERS:
        raise RunError(f"an ensemble joins 2 to {MOST_MEMBERS} runs, not {len(members)}; name others")
    known = set()
    for run in members:
        short = run.id[:8]
        if run.id in known:
            raise RunError(f"run {short} is given twice; name each run once")
        if run.status != "finished":
            raise RunError(f"run {short} is {run.status}; only finished runs can be joined: mer runs list")
        if run.members:
            raise RunError(f"run {short} is an ensemble; name its members instead")
        known.add(run.id)


def _require_alike(members: Sequence[Run], cards: Sequence[Card]) -> None:
    """Raise RunError unless all runs have the same classes, test clips, sample rate and resampler."""
    first, card = members[0], cards[0]
    remedy = "join runs of the same data, seed and split"
    for run, own in zip(members, cards, strict=True):
        pair = f"runs {first.id[:8]} and {run.id[:8]}"
        if own.classes != card.classes:
            names = (", ".join(part.classes) for part in (card, own))
            raise RunError(f"{pair} have other classes ({' against '.join(names)}); {remedy}")
        if test_key(run) is None or test_key(run) != test_key(first):
            raise RunError(f"{pair} were not tested on the same clips; {remedy}")
        one, other = (part.config.audio for part in (card, own))
        if one.sample_rate != other.sample_rate:
            rates = f"{one.sample_rate} and {other.sample_rate} Hz"
            raise RunError(f"{pair} have sample rates of {rates}; join runs of the same sample rate")
        if one.resampler != other.resampler:
            ways = f"{one.resampler} and {other.resampler}"
            raise RunError(
                f"{pair} have the resamplers {ways}; join runs with the same one, or train one again"
            )


def _answers(runs: RunStore, run: Run) -> list[Row]:
    kept_folder(runs, run, "evaluation")
    return read_predictions(runs, run.id)


def _fitted_weights(runs: RunStore, members: Sequence[Run], classes: Sequence[str]) -> list[float]:
    """The most probable weights by the labels of the validation part."""
    seen = [_validation(runs, run) for run in members]
    try:
        return fit_weights(likelihoods(seen, classes), [row["song"] for row in seen[0]]).tolist()
    except RunError as error:
        raise RunError(
            "the runs have different validation parts; use --weights equal, or join runs of the same one"
        ) from error


def _validation(runs: RunStore, run: Run) -> list[Row]:
    """Predictions for the validation part of a run, or for those of all its folds.

    A clip may be in several folds: its name gets the number of the fold as a prefix, its song stays the same.
    A clip without a song counts as a song.
    """
    parts = [run] if run.checkpoint_run == run.id else runs.children(run.id)
    found = [(number, row) for number, part in enumerate(parts) for row in read_validation(runs, part.id)]
    if not found:
        raise RunError(
            f"run {run.id[:8]} has no predictions for a validation part: it has no such part, or is too old; "
            "use --weights equal, or train it again"
        )
    return [
        row | {"clip": f"{number} {row['clip']}", "song": row["song"] or row["clip"]} for number, row in found
    ]


def _pooled(members: Sequence[Run]) -> bool:
    """True if a run is a cross-validation, whose predictions come from several networks."""
    return any(run.checkpoint_run != run.id for run in members)


def _notes(members: Sequence[Run], card: Card, how: str) -> str:
    """Notes for the card: how weights and scores were computed, then the notes on the data."""
    found = f"{how} The scores are those of the members' answers to their test clips, averaged."
    if _pooled(members):
        found += (
            f" Each member is one of the {card.config.split.folds} networks of a cross-validation, "
            f"{members[0].kept_fold}; the scores are of all of them, each for its own fold."
        )
    return "\n\n".join(filter(None, [found, card.notes]))


def _record(
    runs: RunStore, members: Sequence[Run], card: Card, evaluation: dict[str, Any], folders: Sequence[Path]
) -> Run:
    """Record a finished run with evaluation and checkpoint; delete it for good if anything fails."""
    first = members[0]
    read_by = ("data", "label_column", "song_column", "song_pattern", "drop_conflicts")
    spec = {key: first.spec[key] for key in read_by if key in first.spec}
    spec |= {"command": card.command, "config": {"split": first.spec["config"]["split"]}}
    spec["ensemble"] = {"runs": [run.id for run in members], "weights": [m.weight for m in card.members]}
    metrics = headline(evaluation["scores"])
    for key in ("parameters", "trained_parameters"):
        sizes = [run.metrics.get(key) for run in members]
        metrics |= {key: sum(sizes)} if None not in sizes else {}
    run_id = runs.create(replace(card, data=card.data | {"synthetic": False}).name, spec)
    try:
        runs.start(run_id)
        tags = {name: first.tags[name] for name in TAGS if name in first.tags}
        tags |= {"mer.members": ",".join(run.id for run in members), "mer.versions": json.dumps(versions())}
        runs.tag(run_id, tags)
        runs.save_folder(run_id, "checkpoint", lambda folder: write_ensemble(folder, folders, card))
        save_evaluation(runs, run_id, evaluation)
        runs.log(run_id, [(0, metrics)])
        runs.finish(run_id, "finished")
    except BaseException:
        remove_files(runs, run_id)
        raise
    return runs.get(run_id)
