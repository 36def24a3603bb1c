"""Generate single example clips to try a network on. None of them is in a demo corpus."""

import io

import numpy as np
import soundfile

from mer.data.clips import MER500_CLASSES
from mer.data.demo.band import play
from mer.data.demo.styles import draw_song
from mer.data.demo.voices import SR
from mer.utils.errors import DataError

__all__ = ["example_clip"]

APART = 2**40  # larger than any likely seed of a corpus, so that no example is a clip of one


def example_clip(label: str, *, number: int = 0, seconds: float = 10.0) -> bytes:
    """Generate a clip of an emotion. The same arguments give the same bytes.

    Parameters
    ----------
    label
        A class of MER500_CLASSES.
    number
        Different numbers give different songs.
    seconds
        Length of the clip.

    Returns
    -------
    bytes
        A WAV file (16 kHz, mono, 16 bit).

    Raises
    ------
    DataError
        If `label` is not a class of MER500.
    """
    if label not in MER500_CLASSES:
        raise DataError(f"no example for {label!r}; there are: {', '.join(MER500_CLASSES)}")
    song_seed, clip_seed = np.random.SeedSequence((APART, MER500_CLASSES.index(label), number)).spawn(2)
    song = draw_song(label, np.random.default_rng(song_seed))
    clip = play(song, np.random.default_rng(clip_seed), seconds)
    file = io.BytesIO()
    soundfile.write(file, clip, SR, format="WAV", subtype="PCM_16")
    return file.getvalue()
