"""Tabla, drum kit and bells as sums of decaying modes or noise, and the tracks they play.

C. V. Raman found that the partials of the loaded tabla head are close to 1:2:3:4:5, and that several modes
share each of them (Nature 104, 1920; Proc. Indian Acad. Sci. A1, 1934). Strokes excite different modes: na
damps the first, tin keeps it. Ge is a stroke on the larger drum (bayan), whose pitch the heel of the hand
bends.

Signals are float32 of shape (samples,) at SR hertz, with a peak of about 1.
"""

from collections.abc import Callable

import numpy as np
from scipy.signal import lfilter

from mer.data.demo.voices import SR, noise

__all__ = ["STROKES", "lay", "stroke", "strokes_of"]

_RAMAN = np.array([1.0, 2.0, 3.01, 4.02, 5.04])
_ALIASES = {"dha": ("na", "ge"), "dhin": ("tin", "ge")}


def modes(hertz: np.ndarray, gains: list[float], decays: list[float], seconds: float) -> np.ndarray:
    """Sum of decaying sines, with |x| <= 1.

    Parameters
    ----------
    hertz
        Frequency of each mode. Modes of 7500 Hz or more are left out.
    gains
        Amplitude of each mode at the start, relative to the others.
    decays
        Seconds in which each mode falls by 60 dB.
    seconds
        Length of the signal.
    """
    t = np.arange(int(seconds * SR), dtype=np.float32) / SR
    out = np.zeros_like(t)
    for f, gain, decay in zip(hertz, gains, decays, strict=True):
        if f < 7_500:
            out += (
                np.float32(gain)
                * np.sin(np.float32(2 * np.pi * f) * t)
                * np.exp(np.float32(-6.9 / decay) * t)
            )
    return out / np.float32(sum(gains))


def thump(low: float, bend: float, glide: float, decay: float, seconds: float) -> np.ndarray:
    """The sound of a drum whose pitch moves to its final value.

    Parameters
    ----------
    low
        Final pitch in hertz.
    bend
        First pitch divided by `low`.
    glide
        Time constant of the pitch in seconds.
    decay
        Seconds in which the sound falls by 60 dB.
    seconds
        Length of the signal.
    """
    t = np.arange(int(seconds * SR), dtype=np.float32) / SR
    phase = np.cumsum(low * (1 + (bend - 1) * np.exp(-t / glide))) / SR
    body = np.sin(2 * np.pi * phase) + 0.25 * np.sin(4 * np.pi * phase) * np.exp(-t / 0.05)
    return (0.8 * body * np.exp(-6.9 * t / decay)).astype(np.float32)


def slap(rng: np.random.Generator, pole: float, decay: float, seconds: float) -> np.ndarray:
    """A burst of noise.

    Parameters
    ----------
    rng
        Draws the noise.
    pole
        Pole of the filter, -1 to 1: low frequencies dominate near 1, high ones near -1.
    decay
        Seconds in which the sound falls by 60 dB.
    seconds
        Length of the signal.
    """
    t = np.arange(int(seconds * SR), dtype=np.float32) / SR
    burst = lfilter([1 - abs(pole)], [1, -pole], noise(rng, len(t))) * np.exp(-6.9 * t / decay)
    return (0.9 * burst / np.abs(burst).max()).astype(np.float32)


def _na(sa: float, rng: np.random.Generator) -> np.ndarray:
    rim = modes(sa * _RAMAN, [0.1, 0.9, 1.0, 0.5, 0.3], [0.2, 0.6, 0.5, 0.3, 0.2], 0.5)
    rim[:160] += 0.3 * slap(rng, 0.2, 0.01, 0.01)
    return rim


def _tin(sa: float, _rng: np.random.Generator) -> np.ndarray:
    return modes(sa * _RAMAN, [1.0, 0.7, 0.2, 0.1, 0.05], [0.9, 0.7, 0.4, 0.2, 0.2], 0.7)


def _ge(_sa: float, rng: np.random.Generator) -> np.ndarray:
    return thump(rng.uniform(85, 110), rng.uniform(0.72, 0.85), 0.12, 0.8, 0.6)


def _ke(_sa: float, rng: np.random.Generator) -> np.ndarray:
    return slap(rng, 0.8, 0.06, 0.08)


def _te(sa: float, rng: np.random.Generator) -> np.ndarray:
    return 0.5 * slap(rng, 0.5, 0.05, 0.08) + 0.5 * modes(sa * _RAMAN[:2], [0.5, 1.0], [0.08, 0.08], 0.08)


def _kick(_sa: float, rng: np.random.Generator) -> np.ndarray:
    return thump(rng.uniform(48, 60), 3.0, 0.03, 0.35, 0.35)


def _clap(_sa: float, rng: np.random.Generator) -> np.ndarray:
    hands = slap(rng, 0.1, 0.18, 0.25)
    for start in (0.011, 0.023):
        at = int(start * SR)
        hands[at:] += 0.7 * hands[: len(hands) - at]
    return 0.5 * hands


def _hat(_sa: float, rng: np.random.Generator) -> np.ndarray:
    return 0.5 * slap(rng, -0.7, 0.07, 0.1)


def _manjira(_sa: float, rng: np.random.Generator) -> np.ndarray:
    ring = rng.uniform(2_300, 2_700) * np.array([1, 1.003, 1.53, 2.12, 2.76])
    return 0.5 * modes(ring, [1, 0.9, 0.8, 0.6, 0.4], [1.2, 1.2, 0.8, 0.6, 0.4], 0.9)


def _bell(sa: float, _rng: np.random.Generator) -> np.ndarray:
    ring = 2 * sa * np.array([0.5, 1, 1.2, 1.5, 2, 2.66, 3.01])
    return 0.6 * modes(ring, [0.5, 1, 0.6, 0.4, 0.5, 0.3, 0.2], [4, 3.5, 2.5, 2, 1.6, 1, 0.8], 2.5)


STROKES: dict[str, Callable[[float, np.random.Generator], np.ndarray]] = {
    "na": _na,
    "tin": _tin,
    "ge": _ge,
    "ke": _ke,
    "te": _te,
    "kick": _kick,
    "clap": _clap,
    "hat": _hat,
    "manjira": _manjira,
    "bell": _bell,
}


def strokes_of(name: str) -> tuple[str, ...]:
    """The strokes of a bol: "dha" is na and ge together, "kick+clap" is both, "-" is none."""
    parts = [] if name == "-" else name.split("+")
    return tuple(one for part in parts for one in _ALIASES.get(part, (part,)))


def stroke(name: str, sa: float, rng: np.random.Generator) -> np.ndarray:
    """One stroke, with a 1 ms fade-in and a 5 ms fade-out.

    Parameters
    ----------
    name
        A key of `STROKES`.
    sa
        Tuning of the drum in hertz.
    rng
        Draws the details of the sound.

    Returns
    -------
    np.ndarray
        float32 of shape (samples,).
    """
    sound = STROKES[name](sa, rng)
    sound[:16] *= np.linspace(0, 1, 16, dtype=np.float32)
    sound[-80:] *= np.linspace(1, 0, 80, dtype=np.float32)
    return sound


def lay(hits: list[tuple[float, str, float]], *, sa: float, samples: int, seed: int) -> np.ndarray:
    """Place hits on a silent track.

    Parameters
    ----------
    hits
        (seconds, bol, level) of each hit; levels are 0 to 1.
    sa
        Tuning of the drums in hertz.
    samples
        Length of the track.
    seed
        Fixes the sound of each stroke, which is the same at every hit.

    Returns
    -------
    np.ndarray
        float32 of shape (samples,).
    """
    track = np.zeros(samples, np.float32)
    names = {name for _, bol, _ in hits for name in strokes_of(bol)}
    order = list(STROKES)
    kit = {name: stroke(name, sa, np.random.default_rng([seed, order.index(name)])) for name in names}
    for seconds, bol, level in hits:
        for name in strokes_of(bol):
            start = round(seconds * SR)
            section = track[start : start + len(kit[name])]
            section += np.float32(level) * kit[name][: len(section)]
    return track
