"""Scales and rhythms of Hindustani music as tables.

Conventions
-----------
A pitch is a number of semitones above the tonic Sa; an octave is 12. `JUST` gives the tuning of the twelve
semitones. A tala is a tuple of beats. A beat is a string of one or more bols (drum syllables), separated by
blanks, which divide the beat evenly; "-" is a rest.

Sources: the ten thaats after V. N. Bhatkhande (Hindustani Sangeet Paddhati, 1909-32), of which eight are
used; vadi notes and thekas as commonly taught.
"""

from dataclasses import dataclass

import numpy as np

__all__ = ["RAGAS", "TALAS", "Raga", "tuned"]

_RATIOS = (1, 16 / 15, 9 / 8, 6 / 5, 5 / 4, 4 / 3, 45 / 32, 3 / 2, 8 / 5, 5 / 3, 9 / 5, 15 / 8)
JUST = 12 * np.log2(_RATIOS)


@dataclass(frozen=True, slots=True)
class Raga:
    """The notes of one octave in semitones above Sa, and the note that the melody returns to (vadi)."""

    thaat: str
    notes: tuple[int, ...]
    vadi: int


RAGAS = {
    "Bilaval": Raga("Bilaval", (0, 2, 4, 5, 7, 9, 11), 9),
    "Durga": Raga("Bilaval", (0, 2, 5, 7, 9), 5),
    "Khamaj": Raga("Khamaj", (0, 2, 4, 5, 7, 9, 10), 4),
    "Tilang": Raga("Khamaj", (0, 4, 5, 7, 10), 4),
    "Yaman": Raga("Kalyan", (0, 2, 4, 6, 7, 9, 11), 4),
    "Bhupali": Raga("Kalyan", (0, 2, 4, 7, 9), 4),
    "Kafi": Raga("Kafi", (0, 2, 3, 5, 7, 9, 10), 7),
    "Bhimpalasi": Raga("Kafi", (0, 3, 5, 7, 10), 5),
    "Asavari": Raga("Asavari", (0, 2, 3, 5, 7, 8, 10), 8),
    "Bhairav": Raga("Bhairav", (0, 1, 4, 5, 7, 8, 11), 8),
    "Bhairavi": Raga("Bhairavi", (0, 1, 3, 5, 7, 8, 10), 5),
    "Malkauns": Raga("Bhairavi", (0, 3, 5, 8, 10), 5),
    "Todi": Raga("Todi", (0, 1, 3, 6, 7, 8, 11), 8),
}

TALAS: dict[str, tuple[str, ...]] = {
    "teental": (
        *("dha", "dhin", "dhin", "dha", "dha", "dhin", "dhin", "dha"),
        *("dha", "tin", "tin", "na", "te na", "dhin", "dhin", "dha"),
    ),
    "keherwa": ("dha ge", "na tin", "na ke", "dhin na"),
    "bhajani": ("dhin -", "na dhin", "- dhin", "na te ke te"),
    "dadra": ("dha", "dhin", "na", "dha", "tin", "na"),
    "rupak": ("tin", "tin", "na", "dhin", "na", "dhin", "na"),
    "bhangra": ("dha - na na", "- na dha na", "ke - na na", "- na dha na"),
    "filmi": ("kick - hat -", "clap - hat kick", "- kick hat -", "clap - hat hat"),
    "disco": ("kick hat", "kick+clap hat", "kick hat", "kick+clap hat hat"),
}


def tuned(semitones: np.ndarray | float) -> np.ndarray:
    """Tune whole semitones in just intonation.

    Parameters
    ----------
    semitones
        Whole semitones above Sa, in any octave; -24 is two octaves below Sa.

    Returns
    -------
    np.ndarray
        12 log2 of each frequency ratio to Sa, float64.
    """
    octave, degree = np.divmod(np.asarray(semitones, dtype=int), 12)
    return 12 * octave + JUST[degree]
