"""Commands that use a checkpoint: evaluate, predict, timeline, stimuli, export and convert."""

import os
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from mer.cli.output import Bars, emit, table
from mer.metrics.score import Score
from mer.metrics.verdict import standing
from mer.runs.run import Run
from mer.utils.errors import AudioError

if TYPE_CHECKING:
    from mer.inference.predictor import Prediction

HANDFUL = 5  # up to so many files, no progress is shown


def evaluate(arguments: Namespace) -> None:
    """Score a checkpoint on a data set."""
    from mer.inference.evaluate import evaluate_checkpoint

    scores = evaluate_checkpoint(
        arguments.checkpoint,
        arguments.data,
        label_column=arguments.label_column,
        song_column=arguments.song_column,
        song_pattern=arguments.song_pattern,
        drop_conflicts=arguments.drop_conflicts,
        group_by_song=arguments.group_by_song,
        notify=Bars(),
    )
    emit(scores, as_json=arguments.json, text=_scores_text(scores))


def _scores_text(scores: dict) -> str:
    """Tables of scores and of the confusion matrix."""
    from mer.metrics.scores import columns

    rows = [
        ("by song", str(Score.from_scores(scores, "song_accuracy"))),
        ("by clip", str(Score.from_scores(scores, "accuracy"))),
        ("by window", str(Score.from_scores(scores, "window_accuracy"))),
        ("macro-F1", str(Score.from_scores(scores, "macro_f1"))),
        ("Cohen's kappa", f"{scores['kappa']:.2f}"),
        ("calibration error", f"{scores['calibration']['error']:.0%}"),
        ("majority class", f"{scores['majority']:.0%}"),
        ("chance", f"{scores['chance']:.0%}"),
    ]
    matrix = [(name, *row) for name, row in zip(scores["classes"], scores["confusion"], strict=True)]
    parts = [
        table(rows, (f"{scores['n_clips']} clips of {scores['n_songs']} songs", "score (95% interval)")),
        table(matrix, ("true \\ predicted", *columns(scores))),
    ]
    parts.append(f"By song, {standing(scores)}.")
    if sum(map(any, scores["confusion"])) == 1:
        parts.append("All clips are of one class, so the scores say nothing about telling classes apart.")
    if scores["trained_on_this_data"]:
        parts.append(
            "It was trained on some of these clips, which raises scores; see card.md for its test scores."
        )
    return "\n\n".join(parts)


def predict(arguments: Namespace) -> int:
    """Predict each file. Files that are not used are named at the end; the status is then 2."""
    from mer.inference.ensemble import open_predictor

    predictor = open_predictor(arguments.checkpoint)
    files, errors = _files(arguments.files)
    found, notes, bars = [], [], Bars()
    for done, (file, outcome) in enumerate(predictor.predict_many(files), start=1):
        if isinstance(outcome, AudioError):
            errors.append(str(outcome))
        else:
            found.append({"file": str(file)} | outcome.to_dict())
            notes += _notes(file, outcome)
        if len(files) > HANDFUL:
            bars("predicting", done, len(files))
    names = predictor.card.classes
    rows = [(p["file"], p["emotion"], *(f"{p['probabilities'][n]:.0%}" for n in names)) for p in found]
    if found:
        text = "\n".join([table(rows, ("file", "emotion", *names)), *notes])
        emit(found, as_json=arguments.json, text=text)
    if errors:
        raise AudioError("; ".join(errors))
    return 0


def _files(paths: list[Path]) -> tuple[list[Path], list[str]]:
    """The files to predict, and a message for each other file below the folders among `paths`."""
    from mer.data.folders import audio_below

    files, errors = [], []
    for path in paths:
        if not os.path.isdir(path):  # noqa: PTH112 - Path's may raise
            files.append(path)
            continue
        below, left_out = audio_below(path)
        files += below
        errors += [f"{name}: {reason}" for name, reason in left_out]
    return files, errors


def timeline(arguments: Namespace) -> int:
    """Write a CSV of probabilities at a fixed rate."""
    from mer.inference.ensemble import open_predictor
    from mer.inference.timeline import write_timeline

    predictor = open_predictor(arguments.checkpoint)
    count = write_timeline(predictor, arguments.file, arguments.out, rate=arguments.rate)
    data = {"file": str(arguments.file), "out": str(arguments.out), "rate": arguments.rate, "values": count}
    emit(data, as_json=arguments.json, text=f"{count} values, {arguments.rate:g} a second: {arguments.out}")
    return 0


def stimuli(arguments: Namespace) -> int:
    """Choose, match and write clips for a listening experiment."""
    from mer.data.load import load_dataset, reading
    from mer.inference.ensemble import open_predictor
    from mer.inference.stimuli import candidates, export, match

    dataset = load_dataset(arguments.data, **reading(arguments))
    predictors, bars = [open_predictor(folder) for folder in arguments.checkpoints], Bars()
    found = candidates(
        dataset.clips, predictors, progress=lambda done, total: bars("predicting", done, total)
    )
    chosen = match(found, per_class=arguments.per_class)
    rows = export(arguments.out, chosen, dataset, arguments.checkpoints, loudness=arguments.loudness)
    columns = ("file", "emotion", "agreement", "tempo_bpm", "loudness_lufs", "source")
    missing = sorted(set(predictors[0].card.classes) - {one.emotion for one in chosen})
    data = {"out": str(arguments.out), "candidates": len(found), "stimuli": rows, "missing": missing}
    text = table([[row[name] for name in columns] for row in rows], columns)
    text += f"\n{len(rows)} of {len(found)} candidates: {arguments.out}"
    if missing:
        text += f"\nLeft out, since the models agree on no clip: {', '.join(missing)}."
    emit(data, as_json=arguments.json, text=text)
    return 0


def _notes(file: Path, prediction: "Prediction") -> list[str]:
    """A line for a file whose prediction may be unreliable, or is unsure; none for other files."""
    parts = list(prediction.remarks)
    if prediction.unsure:
        pair = f"{prediction.emotion} and {prediction.runner_up}"
        parts.append(f"The network is unsure: {pair} are almost equally probable.")
    return [f"{file}: {' '.join(parts)}"] if parts else []


def export(arguments: Namespace) -> None:
    """Copy a finished run's checkpoint to a new folder."""
    from mer.models.checkpoint import copy_checkpoint
    from mer.runs.outcomes import kept_folder
    from mer.runs.store import RunStore

    runs = RunStore.open()
    run = runs.get(arguments.name)
    folder = kept_folder(runs, run, "checkpoint")
    notes = _all_folds(run) if run.checkpoint_run != run.id else ""
    card = copy_checkpoint(folder, arguments.out, half=arguments.half, notes=notes)
    emit(
        {"checkpoint": str(arguments.out), "run_id": run.id},
        as_json=arguments.json,
        text=f"{card.title}: {arguments.out}",
    )


def convert(arguments: Namespace) -> None:
    """Write a checkpoint as ONNX or as a program of torch.export."""
    from mer.inference.export import convert

    found = convert(arguments.checkpoint, arguments.out)
    text = (
        f"{found['file']}, {found['size'] / 1e6:.1f} MB: windows of {found['window_seconds']:g} s at "
        f"{found['sample_rate']} Hz to probabilities, which differ by at most "
        f"{found['difference']:.1g} from the checkpoint's"
    )
    emit(found, as_json=arguments.json, text=text)


def _all_folds(run: Run) -> str:
    """Text for the card of an exported fold: the score of all folds together."""
    m = run.metrics
    score = Score.from_metrics(m)
    folds = run.spec["config"]["split"]["folds"]
    return (
        f"It is one of the {folds} networks of a cross-validation, {run.kept_fold}. Each was tested on its "
        f"own fold; together they name {score.value:.0%} of {m['n_songs']:.0f} songs correctly (95% interval "
        f"{score.interval}). This is the better estimate, since the scores above are of one fold alone."
    )
