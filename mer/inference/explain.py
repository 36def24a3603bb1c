"""Explains an answer: the times and frequencies that led to it, their sound, and whether they matter."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from mer.audio.decode import Source, load
from mer.audio.mel import as_input, images, log_mel, mel_frequencies
from mer.audio.waveforms import as_source, as_whole
from mer.audio.windows import sounding_starts
from mer.config.sections import AudioConfig, Config
from mer.inference.deletion import Deletion, deletion
from mer.inference.masking import divide
from mer.inference.predictor import Listener
from mer.utils.errors import AudioError, ConfigError

__all__ = ["LONGEST", "Explanation", "explain"]

LONGEST = 120.0  # s; a longer spectrogram cannot be read on a screen
LEAST = 1e-12  # smallest divisor of a map, for a map of zeros
DRAWS = 8  # shifted maps for one window; fewer for several windows, since each window has its own shift


@dataclass(frozen=True, slots=True)
class Explanation:
    """Evidence for an emotion in a part of a clip.

    Parameters
    ----------
    emotion
        The network's answer to the whole clip.
    explained
        The emotion that is explained.
    probability
        Probability of `explained` in this part, 0 to 1.
    start, end
        The part, in seconds of the clip.
    relevance
        Evidence for `explained`, 0 to 1, float32 of shape (bands, frames). All 0 if there is none.
    level
        Log-mel spectrogram in dB, float32 of shape (bands, frames).
    seconds
        Time of each frame, in seconds of the clip, shape (frames,).
    hertz
        Centre frequency of each band, in Hz, shape (bands,).
    heard, rest
        The sound that the relevance marks, and the remainder: float32 of shape (samples,). Their sum is the
        sound of the part.
    rate
        Sample rate of both, in Hz.
    deletion
        The deletion curve of the map; None if the relevance is 0 everywhere.
    """

    emotion: str
    explained: str
    probability: float
    start: float
    end: float
    relevance: np.ndarray
    level: np.ndarray
    seconds: np.ndarray
    hertz: np.ndarray
    heard: np.ndarray
    rest: np.ndarray
    rate: int
    deletion: Deletion | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, without the arrays."""
        names = ("emotion", "explained", "probability", "start", "end", "rate")
        checked = self.deletion.to_dict() if self.deletion else None
        return {name: getattr(self, name) for name in names} | {"deletion": checked}


def explain(
    listener: Listener,
    source: Source,
    *,
    name: str | None = None,
    emotion: str | None = None,
    window: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Explanation:
    """Explain an answer of a network or an ensemble by Grad-CAM.

    Maps are averaged where windows overlap. The map of an ensemble is the weighted mean of its networks'
    maps, each divided by its largest value.

    Parameters
    ----------
    listener
        A loaded checkpoint.
    source
        Path of an audio file, or its bytes.
    name
        Name of the clip in errors. Default: the path.
    emotion
        The class to explain. Default: the answer to the whole clip.
    window
        Number of the only window to explain, from 0. Default: all windows.
    progress
        Called with the number of deletion steps done, and of all steps.

    Returns
    -------
    Explanation
        For the chosen window or the whole clip.

    Raises
    ------
    AudioError
        If the clip cannot be used, or is longer than 120 s and no window is chosen.
    ConfigError
        For an unknown emotion or window, or an ensemble whose networks have different audio or mel settings.
    BackboneError
        If the feature map of a backbone is unknown.

    References
    ----------
    Selvaraju et al., "Grad-CAM", ICCV 2017.
    """
    config, classes = _common_settings(listener), listener.card.classes
    if emotion not in (None, *classes):
        raise ConfigError(f"emotion {emotion!r} is none of this checkpoint's: {', '.join(classes)}")
    source = as_source(source)
    clip = load(source, config.audio, name=name)
    part = _part(clip, config.audio, window, name or ("clip" if isinstance(source, bytes) else str(source)))
    pictures = images(clip, audio=config.audio, mel=config.mel, checked=True)
    answer = classes[int(_respond(listener, _seen(listener, pictures))[0].argmax())]
    target = classes.index(emotion or answer)
    seen = _seen(listener, pictures[part.windows])
    evidence = _evidence(listener, seen, target)
    sound, rate = clip[part.begin : part.end], config.audio.sample_rate
    relevance = _relevance(evidence, part, len(sound), config)
    heard, rest = divide(sound, relevance, sample_rate=rate, config=config.mel)
    return Explanation(
        emotion=answer,
        explained=classes[target],
        probability=float(_respond(listener, seen)[0, target]),
        start=part.begin / rate,
        end=(part.begin + len(sound)) / rate,
        relevance=relevance,
        level=log_mel(sound, sample_rate=rate, config=config.mel.in_decibels, checked=True).numpy(),
        seconds=(part.begin + np.arange(relevance.shape[1]) * config.mel.hop_length) / rate,
        hertz=mel_frequencies(config.mel),
        heard=heard,
        rest=rest,
        rate=rate,
        deletion=_check(listener, seen, evidence, target, progress) if relevance.any() else None,
    )


def _common_settings(listener: Listener) -> Config:
    """Config of the first network. Raises ConfigError if another has different audio or mel settings."""
    first, *rest = (network.card.config for network in listener.networks)
    if any((own.audio, own.mel) != (first.audio, first.mel) for own in rest):
        raise ConfigError(
            "the networks of this ensemble use different windows or mel bands, so their maps cannot be "
            "averaged; explain one network: the ensemble's folder holds member-1, member-2 and so on"
        )
    return first


def _seen(listener: Listener, pictures: np.ndarray) -> list[torch.Tensor]:
    """The input of each network, from images in dB."""
    return [network.inputs(pictures) for network in listener.networks]


def _respond(listener: Listener, seen: Sequence[torch.Tensor], *, clips: int = 1) -> np.ndarray:
    """Probabilities (clips, classes) of versions of a clip, from the input of each network."""
    parts = zip(listener.networks, seen, strict=True)
    return listener.joined([network.respond(own, clips=clips) for network, own in parts])


def _evidence(listener: Listener, seen: Sequence[torch.Tensor], target: int) -> torch.Tensor:
    """Evidence for a class, (n, rows, columns): the weighted mean over networks.

    Values of different networks cannot be compared, so each network's maps are scaled to a maximum of 1.
    """
    maps = [network.evidence(own, target) for network, own in zip(listener.networks, seen, strict=True)]
    if len(maps) == 1:
        return maps[0]
    size = seen[0].shape[-2:]
    parts = zip(listener.weights.tolist(), maps, strict=True)
    return sum(weight * _resized(own / own.max().clamp_min(LEAST), size) for weight, own in parts)


class _Part(NamedTuple):
    """Some windows of a clip: their numbers and first samples, and the samples they span in all."""

    windows: list[int]
    starts: Sequence[int]
    begin: int
    end: int


def _part(clip: np.ndarray, audio: AudioConfig, window: int | None, name: str) -> _Part:
    """The part of a clip to explain: one window, or the whole clip."""
    starts, seconds = sounding_starts(clip, audio), len(clip) / audio.sample_rate
    if window is None:
        if seconds > LONGEST:
            raise AudioError(
                f"{name}: {seconds:.0f} s long; choose one of its windows (--window 0 to {len(starts) - 1}), "
                f"or cut it to {LONGEST:.0f} s"
            )
        return _Part(list(range(len(starts))), starts, 0, len(clip))
    window = as_whole(window, "window")
    if not 0 <= window < len(starts):
        raise ConfigError(f"window {window}: {name} has windows 0 to {len(starts) - 1}")
    begin = starts[window]
    return _Part([window], [begin], begin, begin + round(audio.window_seconds * audio.sample_rate))


def _relevance(evidence: torch.Tensor, part: _Part, samples: int, config: Config) -> np.ndarray:
    """Merge the maps of windows (n, rows, columns) into one of the part, (bands, frames) in [0, 1].

    Overlapping windows are averaged. The result is 0 where there is no window, such as in a short end of the
    clip that no window covers.
    """
    mel, size = config.mel, round(config.audio.window_seconds * config.audio.sample_rate)
    maps = _resized(evidence, (mel.n_mels, 1 + size // mel.hop_length)).cpu().numpy()
    total = np.zeros((mel.n_mels, 1 + samples // mel.hop_length), np.float32)
    count = np.zeros(total.shape[1], np.float32)
    for values, start in zip(maps, part.starts, strict=True):
        first = round((start - part.begin) / mel.hop_length)
        place = slice(first, min(first + maps.shape[2], total.shape[1]))
        total[:, place] += values[:, : place.stop - first]
        count[place] += 1
    total /= np.maximum(count, 1)
    return total / total.max() if total.any() else total


def _resized(evidence: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Interpolate maps (n, rows, columns) to another resolution."""
    return F.interpolate(evidence[:, None], size=size, mode="bilinear")[:, 0]


def _check(
    listener: Listener,
    seen: Sequence[torch.Tensor],
    evidence: torch.Tensor,
    target: int,
    progress: Callable[[int, int], None] | None,
) -> Deletion:
    """The deletion curve of the maps."""

    def probabilities(left: torch.Tensor) -> np.ndarray:
        versions = [as_input((own[:, 0] * left).flatten(0, 1)) for own in seen]
        return _respond(listener, versions, clips=len(left))[:, target]

    draws = max(2, DRAWS // len(seen[0]))
    return deletion(_resized(evidence, seen[0].shape[-2:]), probabilities, draws=draws, progress=progress)
