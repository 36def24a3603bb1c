"""Where a network looked when it named an emotion, what is to be heard there, and whether that matters."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from mer.audio.decode import load, window_starts
from mer.audio.mel import as_input, images, log_mel, mel_frequencies
from mer.config.sections import AudioConfig, Config
from mer.inference.deletion import Deletion, deletion
from mer.inference.masking import divide
from mer.inference.predictor import Listener
from mer.utils.errors import AudioError, ConfigError

__all__ = ["LONGEST", "Explanation", "explain"]

LONGEST = 120.0  # s; an explanation is there to be looked at
LEAST = 1e-12  # of the largest value of a map
DRAWS = 8  # shifted maps; where there are several windows each has a shift of its own, and fewer do


@dataclass(frozen=True, slots=True)
class Explanation:
    """A part of a clip, from `start` to `end` seconds, and how much each place of it speaks for an emotion.

    `emotion` is what the network makes of the whole clip, `explained` the one that was asked about, and
    `probability` that of the latter in this part. `relevance`, in [0, 1], and `level`, in dB, are float32
    (bands, frames), with frame i at `seconds[i]` of the clip and band j at `hertz[j]`. `heard` and `rest`,
    float32 (samples,) at `rate` Hz, add up to the sound of the part. Where nothing speaks for the emotion,
    the relevance is 0 everywhere and there is no `deletion`.
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
        """Plain data for JSON: all but the arrays."""
        names = ("emotion", "explained", "probability", "start", "end", "rate")
        checked = self.deletion.to_dict() if self.deletion else None
        return {name: getattr(self, name) for name in names} | {"deletion": checked}


def explain(
    listener: Listener,
    source: Path | bytes,
    *,
    name: str | None = None,
    emotion: str | None = None,
    window: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Explanation:
    """Explain an answer of a network or an ensemble by Grad-CAM, in all windows of a clip or in one of them.

    `emotion` is the class to explain (default: the answer for the whole clip), `window` counts from 0. The
    maps of windows that overlap are averaged; so are, as they weigh, those of an ensemble's networks, each
    as a share of its largest value. Raises AudioError (also for a clip of over 120 s, unless a window is
    chosen), ConfigError for an unknown emotion or window or networks that hear differently, BackboneError.
    """
    config, classes = _common_settings(listener), listener.card.classes
    if emotion not in (None, *classes):
        raise ConfigError(f"emotion {emotion!r} is none of this checkpoint's: {', '.join(classes)}")
    clip = load(source, config.audio, name=name)
    part = _part(clip, config.audio, window, name or (str(source) if isinstance(source, Path) else "clip"))
    pictures = images(clip, audio=config.audio, mel=config.mel)
    answer = classes[int(_respond(listener, _seen(listener, pictures)).argmax())]
    target = classes.index(emotion or answer)
    seen = _seen(listener, pictures[part.windows])
    evidence = _evidence(listener, seen, target)
    sound, rate = clip[part.begin : part.end], config.audio.sample_rate
    relevance = _relevance(evidence, part, len(sound), config)
    heard, rest = divide(sound, relevance, sample_rate=rate, config=config.mel)
    return Explanation(
        emotion=answer,
        explained=classes[target],
        probability=float(_respond(listener, seen)[target]),
        start=part.begin / rate,
        end=(part.begin + len(sound)) / rate,
        relevance=relevance,
        level=log_mel(sound, sample_rate=rate, config=config.mel).numpy(),
        seconds=(part.begin + np.arange(relevance.shape[1]) * config.mel.hop_length) / rate,
        hertz=mel_frequencies(config.mel),
        heard=heard,
        rest=rest,
        rate=rate,
        deletion=_check(listener, seen, evidence, target, progress) if relevance.any() else None,
    )


def _common_settings(listener: Listener) -> Config:
    """How all networks that are asked hear; raises ConfigError where one hears otherwise."""
    first, *rest = (network.card.config for network in listener.networks)
    if any((own.audio, own.mel) != (first.audio, first.mel) for own in rest):
        raise ConfigError(
            "the networks of this ensemble do not all hear in the same windows and bands, so their maps have "
            "no mean; explain one of them: the folders member-1, member-2 and so on in that of the ensemble"
        )
    return first


def _seen(listener: Listener, pictures: np.ndarray) -> list[torch.Tensor]:
    """What each network sees of images in dB."""
    return [network.inputs(pictures) for network in listener.networks]


def _respond(listener: Listener, seen: Sequence[torch.Tensor]) -> np.ndarray:
    """Probabilities (classes,) of a clip from what each network sees of it."""
    answers = [network.respond(own) for network, own in zip(listener.networks, seen, strict=True)]
    return listener.joined(answers)[0]


def _evidence(listener: Listener, seen: Sequence[torch.Tensor], target: int) -> torch.Tensor:
    """Maps (n, rows, columns) of what speaks for a class; of several networks their weighted mean.

    How large the values of a map are means nothing between networks, so each is brought to at most 1.
    """
    maps = [network.evidence(own, target) for network, own in zip(listener.networks, seen, strict=True)]
    if len(maps) == 1:
        return maps[0]
    size = seen[0].shape[-2:]
    parts = zip(listener.weights.tolist(), maps, strict=True)
    return sum(weight * _resized(own / own.max().clamp_min(LEAST), size) for weight, own in parts)


class _Part(NamedTuple):
    """Some windows of a clip: their numbers, their first samples, and from where to where they reach."""

    windows: list[int]
    starts: Sequence[int]
    begin: int
    end: int


def _part(clip: np.ndarray, audio: AudioConfig, window: int | None, name: str) -> _Part:
    starts, seconds = window_starts(len(clip), audio), len(clip) / audio.sample_rate
    if window is None:
        if seconds > LONGEST:
            raise AudioError(
                f"{name}: {seconds:.0f} s long; choose one of its windows (--window 0 to {len(starts) - 1}), "
                f"or cut it to {LONGEST:.0f} s"
            )
        return _Part(list(range(len(starts))), starts, 0, len(clip))
    if not 0 <= window < len(starts):
        raise ConfigError(f"window {window}: {name} has windows 0 to {len(starts) - 1}")
    begin = starts[window]
    return _Part([window], [begin], begin, begin + round(audio.window_seconds * audio.sample_rate))


def _relevance(evidence: torch.Tensor, part: _Part, samples: int, config: Config) -> np.ndarray:
    """Maps of windows (n, rows, columns) as one of the whole part, (bands, frames) in [0, 1].

    The mean where windows overlap; 0 where there is none, as in a short tail that the network never hears.
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
    """Maps (n, rows, columns) at another resolution."""
    return F.interpolate(evidence[:, None], size=size, mode="bilinear")[:, 0]


def _check(
    listener: Listener,
    seen: Sequence[torch.Tensor],
    evidence: torch.Tensor,
    target: int,
    progress: Callable[[int, int], None] | None,
) -> Deletion:
    """Whether the places that a map points at matter to the network."""

    def belief(left: torch.Tensor) -> float:
        return float(_respond(listener, [as_input(own[:, 0] * left) for own in seen])[target])

    draws = max(2, DRAWS // len(seen[0]))
    return deletion(_resized(evidence, seen[0].shape[-2:]), belief, draws=draws, progress=progress)
