"""The distributions of songs in each class, and the drawing of one song from them.

Each property of a song has one distribution per class. They all overlap on purpose, so no single property
determines the class. `OVERLAP` moves each distribution towards the average of all classes: 0 leaves the
tables as they are, 1 makes all classes the same. It was set by measuring how well a linear classifier on
frozen ImageNet features does on songs it has not seen.
"""

from dataclasses import dataclass, fields
from types import MappingProxyType

import numpy as np

from mer.data.clips import MER500_CLASSES
from mer.data.demo.theory import RAGAS, TALAS, Raga

__all__ = ["CHOICES", "NUMBERS", "OVERLAP", "Song", "draw_song"]

OVERLAP = 0.05

# Mean of each class, in the order of MER500_CLASSES; standard deviation within a class; allowed range.
NUMBERS = MappingProxyType(
    {
        "bpm": ((86, 110, 76, 92, 115), 14, (50, 160)),
        "pace": ((1.9, 3.0, 1.4, 2.1, 2.7), 0.5, (0.8, 6)),
        "centre": ((7, 9, 3, 6, 7), 3.0, (0, 13)),
        "glide": ((0.6, 0.25, 0.6, 0.3, 0.2), 0.15, (0, 1)),
        "ornament": ((0.3, 0.3, 0.35, 0.3, 0.2), 0.12, (0, 1)),
        "rest": ((0.22, 0.12, 0.38, 0.16, 0.14), 0.07, (0.02, 0.6)),
        "drone_db": ((-24, -30, -11, -8, -34), 5.0, (-40, -3)),
        "drums_db": ((-8, -6, -10, -7, -5), 3.0, (-30, 6)),
        "pad_db": ((-6, -20, -26, -30, -16), 5.0, (-40, -3)),
        "bass_db": ((-17, -16, -30, -30, -5), 5.0, (-40, -2)),
        "chimes_db": ((-34, -26, -38, -11, -25), 5.0, (-45, -6)),
        "room": ((1.3, 0.8, 2.0, 1.7, 0.8), 0.3, (0.4, 2.6)),
        "wet": ((0.25, 0.14, 0.36, 0.26, 0.11), 0.05, (0.04, 0.5)),
        "loudness": ((-18.5, -17.5, -19, -18.5, -17), 2.0, (-27, -13)),
        "tilt": ((-1.0, 1.5, -2.5, 0.0, 2.0), 1.2, (-5, 5)),
    }
)
CHOICES = MappingProxyType(
    {
        "raga": (
            {"Khamaj": 3, "Yaman": 3, "Bhimpalasi": 2, "Kafi": 2, "Bilaval": 1, "Tilang": 1},
            {"Bilaval": 4, "Khamaj": 3, "Durga": 2, "Bhupali": 2, "Tilang": 1, "Yaman": 1},
            {"Bhairavi": 3, "Asavari": 3, "Kafi": 2, "Bhimpalasi": 1, "Malkauns": 1, "Todi": 2},
            {"Bhairav": 3, "Yaman": 3, "Bhupali": 2, "Bhairavi": 2, "Malkauns": 1, "Durga": 1},
            {"Bilaval": 2, "Kafi": 2, "Khamaj": 2, "Bhupali": 1, "Bhairavi": 1, "Durga": 1},
        ),
        "tala": (
            {"dadra": 4, "keherwa": 3, "rupak": 2, "filmi": 1},
            {"keherwa": 5, "bhangra": 2, "dadra": 3},
            {"teental": 4, "rupak": 3, "dadra": 3},
            {"bhajani": 5, "keherwa": 3, "teental": 1, "dadra": 1},
            {"disco": 5, "filmi": 4, "bhangra": 2},
        ),
        "lead": (
            {"bansuri": 6, "voice": 2, "santoor": 2, "sitar": 1},
            {"santoor": 5, "sitar": 4, "bansuri": 2, "voice": 1},
            {"sarangi": 6, "voice": 3, "bansuri": 1},
            {"harmonium": 6, "voice": 4, "bansuri": 1},
            {"voice": 6, "harmonium": 2, "sitar": 1, "bansuri": 1},
        ),
        "second": (
            {"santoor": 4, "bansuri": 3, "sitar": 2, "voice": 1},
            {"bansuri": 4, "santoor": 3, "sitar": 3},
            {"sarangi": 4, "voice": 3, "bansuri": 2},
            {"voice": 4, "harmonium": 4, "bansuri": 1},
            {"sitar": 3, "harmonium": 3, "voice": 3, "santoor": 1},
        ),
    }
)


@dataclass(frozen=True, slots=True)
class Song:
    """The properties that all excerpts of one song share.

    Parameters
    ----------
    sa
        Tonic in hertz.
    raga, tala
        Scale and rhythm.
    lead, second
        Melody instruments. The second one answers some phrases.
    bpm
        Beats per minute.
    pace
        Melody notes per second.
    centre
        Middle of the melody in semitones above Sa.
    glide, ornament
        Probability of a meend between notes, and of a kan. A gamak on a long note is half as likely.
    rest
        Share of time between phrases, 0 to 1.
    drone_db, drums_db, pad_db, bass_db, chimes_db
        Level of each part in dB relative to the melody. A part at -32 dB or below is left out.
    loudness
        RMS in dB relative to full scale.
    tilt
        dB by which highs are raised and lows are lowered, with the crossover near 600 Hz.
    room
        Reverberation time in seconds.
    wet
        Share of reverberation in the mix, 0 to 1.
    seed
        Fixes the sound of drums, drone and room.
    """

    sa: float
    raga: Raga
    tala: tuple[str, ...]
    lead: str
    second: str
    bpm: float
    pace: float
    centre: float
    glide: float
    ornament: float
    rest: float
    drone_db: float
    drums_db: float
    pad_db: float
    bass_db: float
    chimes_db: float
    room: float
    wet: float
    loudness: float
    tilt: float
    seed: int


def _number(name: str, label: int, rng: np.random.Generator) -> float:
    means, spread, (low, high) = NUMBERS[name]
    mean = (1 - OVERLAP) * means[label] + OVERLAP * np.mean(means)
    return float(np.clip(rng.normal(mean, spread), low, high))


def _choice(name: str, label: int, rng: np.random.Generator) -> str:
    tables = [{key: n / sum(table.values()) for key, n in table.items()} for table in CHOICES[name]]
    options = sorted({key for table in tables for key in table})
    share = np.array([[table.get(key, 0.0) for key in options] for table in tables])
    weights = (1 - OVERLAP) * share[label] + OVERLAP * share.mean(axis=0)
    return str(rng.choice(options, p=weights / weights.sum()))


def draw_song(label: str, rng: np.random.Generator) -> Song:
    """Draw a song of a class of MER500_CLASSES. The same state of `rng` gives the same song."""
    index = MER500_CLASSES.index(label)
    numbers = {field.name: _number(field.name, index, rng) for field in fields(Song) if field.name in NUMBERS}
    picks = {name: _choice(name, index, rng) for name in CHOICES}
    return Song(
        sa=float(rng.uniform(125, 185)),
        raga=RAGAS[picks["raga"]],
        tala=TALAS[picks["tala"]],
        lead=picks["lead"],
        second=picks["second"],
        seed=int(rng.integers(2**32)),
        **numbers,
    )
