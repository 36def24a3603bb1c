"""Selects clips for a listening experiment: matched in tempo and loudness, different in emotion.

A clip is a candidate if all models give it the same emotion, and its label agrees if that is one of their
classes. Each song gives one candidate: the clip with the highest mean probability. Every emotion then gets
the same number of clips with similar tempi. The target tempi are quantiles of tempo, averaged over the
emotions. Each emotion's clips are assigned to the targets at the least total cost (Kuhn, 1955). The cost is
the distance from the target in octaves, plus one minus the models' mean probability. All clips are scaled to
one loudness (EBU R128, measured by ITU-R BS.1770-4), with peaks of at most -1 dBFS.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

import mer
from mer.audio.decode import Source, decode
from mer.audio.resampling import resample
from mer.audio.waveforms import as_number, as_whole
from mer.config.sections import AudioConfig
from mer.data.cache.descriptors import LONGEST
from mer.data.clips import Clip, Dataset
from mer.models.card import WEIGHTS, load_card, member_folders
from mer.utils.csv import as_csv
from mer.utils.errors import AudioError, ConfigError, DataError
from mer.utils.files import as_path, hash_of_file, new_folder
from mer.utils.parallel import Progress, process_map

if TYPE_CHECKING:
    from mer.inference.predictor import Listener, Prediction

__all__ = ["PEAK", "Stimulus", "candidates", "common_loudness", "export", "match", "measure"]

PEAK = -1.0  # dBFS
HIGHEST = 48_000  # Hz; the memory that tempo estimation needs grows with the square of the sample rate


@dataclass(frozen=True, slots=True)
class Stimulus:
    """A clip and its measurements.

    Parameters
    ----------
    clip
        The clip.
    emotion
        The emotion that all models give.
    agreement
        Mean probability that the models give to `emotion`, 0 to 1.
    seconds
        Duration.
    loudness
        Integrated loudness in LUFS, before any gain.
    peak
        Sample peak in dBFS, before any gain.
    tempo
        Estimated tempo in beats per minute. It may be wrong by a factor of two.
    """

    clip: Clip
    emotion: str
    agreement: float
    seconds: float = 0.0
    loudness: float = 0.0
    peak: float = 0.0
    tempo: float = 0.0


def candidates(
    clips: Sequence[Clip], models: Sequence["Listener"], *, progress: Progress | None = None
) -> list[Stimulus]:
    """Find and measure one clip of each song on whose emotion all models agree.

    Files that cannot be used are left out, and so are clips without a measurable loudness or tempo.

    Parameters
    ----------
    clips
        Clips to choose from.
    models
        Loaded checkpoints, at least one.
    progress
        Called with the number of predictions done, and of all predictions.

    Returns
    -------
    list of Stimulus
        At most one per song.

    Raises
    ------
    DataError
        If the models do not have the same classes.
    """
    classes = _common_classes(models)
    found: dict[str, Stimulus] = {}
    for clip, *predictions in zip(clips, *_answers(clips, models, progress), strict=True):
        if any(isinstance(prediction, AudioError) for prediction in predictions):
            continue
        named = {prediction.emotion for prediction in predictions}
        named |= {clip.label} & set(classes)
        if len(named) > 1:
            continue
        emotion = named.pop()
        sure = fmean(prediction.probabilities[emotion] for prediction in predictions)
        song = clip.song or clip.id
        if song not in found or found[song].agreement < sure:
            found[song] = Stimulus(clip, emotion, sure)
    return _measured(list(found.values()))


def _answers(
    clips: Sequence[Clip], models: Sequence["Listener"], progress: Progress | None
) -> list[list["Prediction | AudioError"]]:
    """The answers of each model to all clips."""
    answers, total = [], len(clips) * len(models)
    for number, predictor in enumerate(models):
        answers.append([])
        for _, answer in predictor.predict_many([clip.path for clip in clips]):
            answers[-1].append(answer)
            if progress:
                progress(number * len(clips) + len(answers[-1]), total)
    return answers


def _common_classes(models: Sequence["Listener"]) -> tuple[str, ...]:
    classes = models[0].card.classes
    for predictor in models[1:]:
        strange = set(classes) ^ set(predictor.card.classes)
        if strange:
            raise DataError(
                f"not all models know {min(strange)!r}; choose models of the same classes to compare them"
            )
    return classes


def _measured(chosen: list[Stimulus]) -> list[Stimulus]:
    figures = process_map(measure, [one.clip.path for one in chosen])
    return [
        replace(one, seconds=seconds, loudness=loudness, peak=peak, tempo=tempo)
        for one, (seconds, loudness, peak, tempo) in zip(chosen, figures, strict=True)
        if np.isfinite(loudness) and tempo > 0
    ]


def measure(path: Source) -> tuple[float, float, float, float]:
    """Measure a file.

    Parameters
    ----------
    path
        Path of an audio file, or its bytes.

    Returns
    -------
    tuple of float
        Duration in seconds, loudness in LUFS, sample peak in dBFS, and tempo of the first 120 s in beats per
        minute.

    Raises
    ------
    AudioError
        If the file cannot be used.

    References
    ----------
    ITU-R BS.1770-4, for the loudness.
    """
    import librosa  # importing these two takes a second
    import pyloudnorm

    audio = decode(path)
    rate = min(audio.rate, HIGHEST)
    wave = resample(audio.waveform, rate=audio.rate, audio=AudioConfig(sample_rate=rate))
    loudness = pyloudnorm.Meter(rate).integrated_loudness(wave.astype(float))
    tempo = librosa.feature.tempo(y=wave[: int(LONGEST * rate)], sr=rate)
    peak = 20 * np.log10(np.abs(audio.waveform).max())
    return audio.seconds, float(loudness), float(peak), float(tempo[0])


def match(found: Sequence[Stimulus], *, per_class: int) -> list[Stimulus]:
    """Choose the same number of clips of each emotion, with similar tempi.

    Parameters
    ----------
    found
        The candidates.
    per_class
        Clips per emotion, at least 1.

    Returns
    -------
    list of Stimulus
        Sorted by emotion, then by target tempo.

    Raises
    ------
    ConfigError
        If `per_class` is less than 1.
    DataError
        If there are no candidates, or too few for an emotion. An emotion without any candidate is left out;
        `mer stimuli` names it.

    References
    ----------
    Kuhn, "The Hungarian method for the assignment problem", Naval Research Logistics Quarterly, 1955.
    """
    per_class = as_whole(per_class, "per_class")
    if per_class < 1:
        raise ConfigError(f"per_class={per_class} should be at least 1")
    groups: dict[str, list[Stimulus]] = {}
    for one in found:
        groups.setdefault(one.emotion, []).append(one)
    for emotion, group in groups.items():
        if len(group) < per_class:
            raise DataError(
                f"all models agree on {emotion!r} for only {len(group)} songs, not {per_class}; "
                "lower --per-class, or give more data or fewer models"
            )
    if not groups:
        raise DataError("the models agree on no clip; give more data or fewer models")
    shares = (np.arange(per_class) + 0.5) / per_class
    targets = np.mean([np.quantile(_octaves(group), shares) for group in groups.values()], axis=0)
    return [one for name in sorted(groups) for one in _assign(groups[name], targets)]


def _octaves(group: Sequence[Stimulus]) -> np.ndarray:
    return np.log2([one.tempo for one in group])


def _assign(group: list[Stimulus], targets: np.ndarray) -> list[Stimulus]:
    """Assign one clip to each target tempo, at the least total cost."""
    from scipy.optimize import linear_sum_assignment

    doubt = 1 - np.array([one.agreement for one in group])
    rows, columns = linear_sum_assignment(np.abs(_octaves(group)[:, None] - targets) + doubt[:, None])
    return [group[row] for _, row in sorted(zip(columns, rows, strict=True))]


def common_loudness(chosen: Sequence[Stimulus], *, wanted: float = -23.0) -> float:
    """The loudness in LUFS, `wanted` or less, that all clips can have with peaks of at most -1 dBFS."""
    wanted = as_number(wanted, "loudness", low=-100, high=0, unit=" LUFS")
    return min(wanted, *(one.loudness + PEAK - one.peak for one in chosen))


def export(
    out: Path, chosen: Sequence[Stimulus], dataset: Dataset, models: Sequence[Path], *, loudness: float
) -> list[dict[str, Any]]:
    """Write the stimuli into a new folder, which appears only when it is complete.

    `<number>_<emotion>.wav` are mono, 16 bit, at the sample rate of the source. `stimuli.csv` describes each
    clip and its source, with the SHA-256 of both files. `provenance.json` names the data set and the models,
    with hashes of their weights.

    Parameters
    ----------
    out
        The folder.
    chosen
        The stimuli.
    dataset
        The data set that they come from.
    models
        Folders of the checkpoints.
    loudness
        Loudness in LUFS, -100 to 0. It is lowered for all clips if a peak would exceed -1 dBFS.

    Returns
    -------
    list of dict
        The rows of `stimuli.csv`.

    Raises
    ------
    ConfigError
        If `loudness` is out of range.
    StorageError
        If the folder cannot be written.
    """
    out, models = as_path(out, "out"), [as_path(model, "model") for model in models]
    level = common_loudness(chosen, wanted=loudness)
    with new_folder(out) as draft:
        rows = [_write(draft, number, one, level) for number, one in enumerate(chosen, start=1)]
        (draft / "stimuli.csv").write_text(as_csv(rows), "utf-8", newline="")
        about = _provenance(dataset, models) | {"loudness_lufs": round(level, 2), "peak_dbfs": PEAK}
        (draft / "provenance.json").write_text(json.dumps(about, ensure_ascii=False, indent=1), "utf-8")
    return rows


def _write(folder: Path, number: int, one: Stimulus, level: float) -> dict[str, Any]:
    """Write one sound file, and return its row."""
    audio, gain = decode(one.clip.path), level - one.loudness
    path = folder / f"{number:03d}_{re.sub(r'[^0-9A-Za-z]+', '-', one.emotion).strip('-') or 'class'}.wav"
    soundfile.write(path, audio.waveform * 10 ** (gain / 20), audio.rate, subtype="PCM_16")
    return {
        "file": path.name,
        "emotion": one.emotion,
        "agreement": round(one.agreement, 4),
        "tempo_bpm": round(one.tempo, 1),
        "seconds": round(one.seconds, 3),
        "loudness_lufs": round(level, 2),
        "gain_db": round(gain, 2),
        "source": one.clip.id,
        "song": one.clip.song or "",
        "label": one.clip.label,
        "sha256": hash_of_file(path),
        "source_sha256": hash_of_file(one.clip.path),
    }


def _provenance(dataset: Dataset, models: Sequence[Path]) -> dict[str, Any]:
    return {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "mer": mer.__version__,
        "data": {"name": dataset.name, "licence": dataset.licence, "synthetic": dataset.synthetic},
        "models": [{"folder": folder.name, "weights_sha256": _weights_hash(folder)} for folder in models],
    }


def _weights_hash(folder: Path) -> str:
    """SHA-256 of a checkpoint's weights; for an ensemble, of the weights of its members in order."""
    files = [part / WEIGHTS for part in member_folders(folder, load_card(folder)) or [folder]]
    return sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
