"""Phrases in a raga, and the pitch and level curves with which an instrument plays them.

Conventions
-----------
Pitches are semitones above Sa. Times are seconds from the start of the excerpt. Meend is a glide from the
previous note, kan a grace note of about 50 ms from a neighbouring degree, and gamak a wide shake.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter1d

from mer.data.demo.styles import Song
from mer.data.demo.theory import Raga, tuned
from mer.data.demo.voices import SR

__all__ = ["Note", "bend", "line", "phrases", "scale_notes"]

_LENGTHS = np.array([0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4])


@dataclass(frozen=True, slots=True)
class Note:
    """One note of a melody.

    Parameters
    ----------
    start, seconds
        Time and length in seconds.
    pitch
        Semitones above Sa.
    origin
        Pitch from which a meend starts.
    meend
        Length of the glide in seconds; 0 if there is none.
    kan, gamak
        Size of the grace note and of the shake in semitones; 0 for none.
    level
        Amplitude, 0 to 1.
    """

    start: float
    seconds: float
    pitch: float
    origin: float
    meend: float = 0.0
    kan: float = 0.0
    gamak: float = 0.0
    level: float = 1.0


def scale_notes(raga: Raga) -> np.ndarray:
    """The notes of a raga in whole semitones, ascending from an octave below Sa to two octaves above."""
    return np.array([12 * octave + note for octave in (-1, 0, 1) for note in raga.notes] + [24])


def phrases(song: Song, seconds: float, rng: np.random.Generator) -> list[list[Note]]:
    """Fill a time with phrases, separated by rests. Each ends on Sa, Pa or the vadi.

    Parameters
    ----------
    song
        Gives raga, tempo, pace, ornaments and share of rests.
    seconds
        Time to fill. The last phrase may end later.
    rng
        Draws the notes.

    Returns
    -------
    list of list of Note
        The notes of each phrase.
    """
    beat = 60 / song.bpm
    degrees = scale_notes(song.raga)
    at = int(np.abs(degrees - song.centre).argmin())
    now, found = beat * int(rng.integers(0, 3)) / 2, []
    while now < seconds:
        phrase: list[Note] = []
        for left in range(int(rng.integers(4, 12)), -1, -1):
            length = _length(song, rng) * (2 if left == 0 else 1)
            before = degrees[at]
            at = _step(song, degrees, at, rng, ends=left == 0)
            phrase.append(_note(song, now, length * beat, degrees, at, before, bool(phrase), rng))
            now += length * beat
        found.append(phrase)
        gap = song.rest / (1 - song.rest) * (now - phrase[0].start) * rng.uniform(0.4, 1.6)
        now += beat * max(0.5, round(2 * gap / beat) / 2)
    return found


def _length(song: Song, rng: np.random.Generator) -> float:
    """Length of a note in beats. Lengths near 1 / pace seconds are the most likely."""
    likely = np.exp(-1.8 * np.abs(np.log(_LENGTHS * song.pace * 60 / song.bpm)))
    likely[[2, 4, 6]] *= 0.35
    return float(rng.choice(_LENGTHS, p=likely / likely.sum()))


def _step(song: Song, degrees: np.ndarray, at: int, rng: np.random.Generator, *, ends: bool) -> int:
    """Index of the next degree. Degrees nearby, near the centre, or on Sa, Pa or the vadi are more likely."""
    likely = np.exp(-np.abs(np.arange(len(degrees)) - at) / 1.4)
    likely[at] *= 0.3
    likely *= np.exp(-(((degrees - song.centre) / 7) ** 2))
    weight = np.select(
        [degrees % 12 == song.raga.vadi, degrees % 12 == 0, degrees % 12 == 7], [2.0, 1.6, 1.3], 1.0
    )
    likely *= weight > 1 if ends else weight
    return int(rng.choice(len(degrees), p=likely / likely.sum()))


def _note(
    song: Song,
    start: float,
    seconds: float,
    degrees: np.ndarray,
    at: int,
    before: float,
    tied: bool,
    rng: np.random.Generator,
) -> Note:
    """A note on degree `at` with random ornaments. If `tied`, it may glide from the pitch `before`."""
    pitch, origin = float(tuned(degrees[at])), float(tuned(before))
    meend = kan = gamak = 0.0
    if tied and rng.random() < song.glide:
        meend = min(0.7 * seconds, rng.uniform(0.12, 0.45))
    elif rng.random() < song.ornament:
        kan = float(tuned(degrees[min(at + 1, len(degrees) - 1)])) - pitch
    elif seconds > 0.35 and rng.random() < 0.5 * song.ornament:
        gamak = rng.uniform(0.5, 1.2)
    return Note(start, seconds, pitch, origin, meend, kan, gamak, float(rng.uniform(0.7, 1.0)))


def bend(note: Note, samples: int, *, vibrato: float = 0.0, rate: float = 5.5) -> np.ndarray:
    """Pitch curve of one note, with meend, kan, gamak and, if it is held, vibrato.

    Parameters
    ----------
    note
        The note.
    samples
        Length of the curve.
    vibrato
        Depth in semitones. It grows from 0 at 0.25 s to its full depth at 0.65 s.
    rate
        Speed of vibrato and gamak in hertz.

    Returns
    -------
    np.ndarray
        Semitones above Sa, float64 of shape (samples,).
    """
    t = np.arange(samples) / SR
    curve = np.full(samples, float(note.pitch))
    if note.meend:
        curve += (note.origin - note.pitch) * _fall(t / note.meend)
    if note.kan:
        curve += note.kan * _fall((t - 0.035) / 0.04)
    if note.gamak:
        curve -= note.gamak * np.sin(np.pi * rate * t) ** 2 * np.sin(np.pi * np.minimum(1, t / note.seconds))
    if vibrato:
        curve += vibrato * np.clip((t - 0.25) / 0.4, 0, 1) * np.sin(2 * np.pi * rate * t)
    return curve


def _fall(x: np.ndarray) -> np.ndarray:
    """From 1 at x <= 0 to 0 at x >= 1 along a half cosine, so the slope does not jump."""
    return 0.5 + 0.5 * np.cos(np.pi * np.clip(x, 0, 1))


def line(
    notes: list[Note], samples: int, *, vibrato: float, smooth: float = 0.012
) -> tuple[np.ndarray, np.ndarray]:
    """Pitch and level curves of an instrument with sustained notes.

    Pitch is held through rests. Both curves are smoothed, because a jump in level clicks and one in pitch
    sounds like a very fast glide.

    Parameters
    ----------
    notes
        The notes to play.
    samples
        Length of the curves.
    vibrato
        Depth in semitones.
    smooth
        Seconds over which pitch is smoothed, twice; level is smoothed longer.

    Returns
    -------
    tuple of np.ndarray
        Pitch in semitones above Sa and level 0 to 1, each of shape (samples,).
    """
    pitch = np.full(samples, float(notes[0].pitch) if notes else 0.0)
    level = np.zeros(samples, np.float32)
    for note in notes:
        start, n = round(note.start * SR), round(note.seconds * SR)
        section = pitch[start:]
        section[:n] = bend(note, n, vibrato=vibrato)[: len(section)]
        section[n:] = note.pitch
        swell = np.float32(note.level) * np.linspace(1.0, 0.8, n, dtype=np.float32)
        if not note.meend:
            swell[: int(0.03 * SR)] *= 0.3
        level[start : start + n] = swell[: len(section)]
    width = max(3, int(smooth * SR))
    for _ in range(2):
        pitch = uniform_filter1d(pitch, width, mode="nearest")
        level = uniform_filter1d(level, 2 * width + 240, mode="nearest")
    return pitch, level
