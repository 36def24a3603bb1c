"""Play a song as one clip: melody, drone, drums, strings, bass and chimes in one room."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
from scipy.signal import butter, lfilter, oaconvolve, sosfilt

from mer.data.demo import drums, melody, voices
from mer.data.demo.melody import Note
from mer.data.demo.styles import Song, draw_song
from mer.data.demo.theory import tuned
from mer.data.demo.voices import SR, VOICES

__all__ = ["PEAK", "compose", "drone", "drum_track", "perform", "play"]

PEAK = 0.949
_LEAD_IN = 1.0  # s played before an excerpt and cut off, so that it starts in mid-song
_VIBRATO = {"bansuri": 0.18, "sarangi": 0.3, "voice": 0.35, "harmonium": 0.0, "strings": 0.0}
_OCTAVE = {"bansuri": 12, "sarangi": 0, "voice": 0, "harmonium": 0, "strings": 0, "sitar": 0, "santoor": 12}
_PLUCKED = {"sitar": voices.sitar, "santoor": voices.santoor}


def compose(label: str, rng: np.random.Generator, seconds: float = 10.0) -> np.ndarray:
    """Generate one clip of a new song.

    Parameters
    ----------
    label
        A class of MER500_CLASSES.
    rng
        Draws the song and the phrases.
    seconds
        Length of the clip.

    Returns
    -------
    np.ndarray
        float32 of shape (seconds * SR,), with |x| <= PEAK.
    """
    return play(draw_song(label, rng), rng, seconds)


def play(song: Song, rng: np.random.Generator, seconds: float = 10.0) -> np.ndarray:
    """Generate one excerpt of a song.

    Parameters
    ----------
    song
        Fixes tonic, raga, tempo, tala, instruments, balance and room.
    rng
        Draws the phrases, and small changes of tempo and levels.
    seconds
        Length of the excerpt.

    Returns
    -------
    np.ndarray
        float32 of shape (seconds * SR,), without DC, with |x| <= PEAK.
    """
    song = replace(song, bpm=song.bpm * rng.uniform(0.98, 1.02), loudness=song.loudness + rng.normal(0, 0.7))
    total = seconds + _LEAD_IN
    samples = round(total * SR)
    phrases = melody.phrases(song, total, rng)
    mix = _unit(_melody(song, phrases, samples, rng))
    for db, part in (
        (song.drone_db, lambda: _unit(drone(song, samples, rng))),
        (song.drums_db, lambda: drum_track(song, total, samples, rng)),
        (song.pad_db, lambda: _unit(_pad(song, total, samples, rng))),
        (song.bass_db, lambda: _unit(_bass(song, total, samples, rng))),
        (song.chimes_db, lambda: _chimes(song, total, samples, rng)),
    ):
        if db > -32:
            mix += np.float32(10 ** ((db + rng.normal(0, 1)) / 20)) * part()
    return _master(_reverberate(mix, song), song)[-round(seconds * SR) :]


def _unit(signal: np.ndarray) -> np.ndarray:
    """Scale to an RMS of 0.2, measured over the samples that are not silent."""
    loud = signal[np.abs(signal) > 1e-3]
    return signal * np.float32(0.2 / (np.sqrt(np.mean(loud**2)) + 1e-9)) if len(loud) else signal


def _melody(song: Song, phrases: list[list[Note]], samples: int, rng: np.random.Generator) -> np.ndarray:
    """The lead instrument plays most phrases, the second instrument the others."""
    answers = rng.random(len(phrases)) < 0.3
    out = np.zeros(samples, np.float32)
    for name, turn in ((song.lead, ~answers), (song.second, answers)):
        notes = [note for phrase, mine in zip(phrases, turn, strict=True) if mine for note in phrase]
        if notes:
            out += _unit(perform(name, song, notes, samples, rng))
    return out


def perform(name: str, song: Song, notes: list[Note], samples: int, rng: np.random.Generator) -> np.ndarray:
    """Play one instrument's part: a continuous line, or plucked notes that ring on into the next.

    Parameters
    ----------
    name
        The instrument: a key of `VOICES`, "sitar" or "santoor".
    song
        Gives the tonic.
    notes
        The notes to play.
    samples
        Length of the part.
    rng
        Draws the details of the sound.

    Returns
    -------
    np.ndarray
        float32 of shape (samples,).
    """
    sa = song.sa * 2 ** (_OCTAVE[name] / 12)
    if name in VOICES:
        steps = name == "harmonium"
        played = [replace(n, meend=0.0, gamak=0.0) for n in notes] if steps else notes
        pitch, level = melody.line(played, samples, vibrato=_VIBRATO[name], smooth=0.004 if steps else 0.012)
        return VOICES[name](sa * 2 ** (pitch / 12), level, rng)
    out = np.zeros(samples, np.float32)
    for note in notes:
        start, ring = round(note.start * SR), note.seconds + (0.25 if name == "sitar" else 0.8)
        hertz = sa * 2 ** (melody.bend(note, round(ring * SR)) / 12)
        section = out[start : start + len(hertz)]
        section += np.float32(note.level) * _PLUCKED[name](hertz, rng)[: len(section)]
    return out


def drone(song: Song, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Play the tanpura: Pa (Ma if the raga has no Pa), Sa, Sa and low Sa, in even time.

    Parameters
    ----------
    song
        Gives tonic, raga and the sound of the strings.
    samples
        Length of the drone.
    rng
        Draws the string to start with, and small changes of level.

    Returns
    -------
    np.ndarray
        float32 of shape (samples,).
    """
    gap = int((0.75 + 0.35 * (song.seed % 100) / 100) * SR)
    strings = _tanpura(song.sa, 7 if 7 in song.raga.notes else 5, song.seed)
    out = np.zeros(samples + 4 * gap, np.float32)
    for turn, start in enumerate(range(int(rng.integers(gap)), len(out), gap), start=int(rng.integers(4))):
        section = out[start : start + 4 * SR]
        section += np.float32(rng.uniform(0.85, 1.0)) * strings[turn % 4][: len(section)]
    return out[4 * gap :]


@lru_cache(maxsize=4)
def _tanpura(sa: float, first: int, seed: int) -> tuple[np.ndarray, ...]:
    """The four strings of a song's tanpura, 4 s each. Its excerpts share them, so do not modify them."""
    rng = np.random.default_rng(seed)
    pitches = (float(tuned(first)) - 12, 0.0, 0.04, -12.0)
    return tuple(voices.tanpura(sa * 2 ** (pitch / 12), 4 * SR, rng) for pitch in pitches)


def drum_track(song: Song, total: float, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Play the theka from a random beat on, accented on sam, with random timing errors of about 2 ms.

    Parameters
    ----------
    song
        Gives tempo, tala, tonic and the sound of the strokes.
    total, samples
        Length of the track in seconds, and in samples.
    rng
        Draws the first beat, the accents and the timing errors.

    Returns
    -------
    np.ndarray
        float32 of shape (samples,).
    """
    beat, hits = 60 / song.bpm, []
    first = int(rng.integers(len(song.tala)))
    for count in range(int(total / beat) + 1):
        place = (first + count) % len(song.tala)
        bols = song.tala[place].split()
        for i, bol in enumerate(bols):
            accent = (1.0 if place == 0 and i == 0 else 0.85 if i == 0 else 0.65) * rng.uniform(0.85, 1.0)
            start = (count + i / len(bols)) * beat + rng.normal(0, 0.002)
            if 0 <= start < total:
                hits.append((start, bol, accent))
    return drums.lay(hits, sa=2 * song.sa, samples=samples, seed=song.seed)


def _pad(song: Song, total: float, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Strings in three parts: chords of every other raga note above Sa, Pa or the vadi, four beats each."""
    bar, degrees = 240 / song.bpm, melody.scale_notes(song.raga)
    roots = np.flatnonzero((degrees >= -5) & (degrees <= 7) & np.isin(degrees % 12, (0, 7, song.raga.vadi)))
    chords = rng.choice(roots, int(total / bar) + 1)
    out = np.zeros(samples, np.float32)
    for part in (0, 2, 4):
        pitches = tuned(degrees[chords + part])
        notes = [Note(i * bar, 0.98 * bar, float(pitch), float(pitch)) for i, pitch in enumerate(pitches)]
        pitch, level = melody.line(notes, samples, vibrato=0.0, smooth=0.06)
        out += voices.strings(song.sa * 2 ** (pitch / 12), level, rng)
    return out


def _bass(song: Song, total: float, samples: int, rng: np.random.Generator) -> np.ndarray:
    """A plucked bass on Sa, Pa (Ma if the raga has no Pa) and the vadi, an octave lower, on every beat."""
    beat, notes = 60 / song.bpm, []
    degrees = [0, 0, 7 if 7 in song.raga.notes else 5, song.raga.vadi]
    for count in range(int(total / beat)):
        pitch = float(tuned(degrees[int(rng.integers(4))] - 12))
        notes.append(Note(count * beat, 0.8 * beat, pitch, pitch))
    out = np.zeros(samples, np.float32)
    for note in notes:
        n = round(note.seconds * SR)
        z = voices.phasor(np.full(n, song.sa * 2 ** (note.pitch / 12)))
        fade = np.minimum(1, np.minimum(np.arange(n), n - 1 - np.arange(n)) / 160).astype(np.float32)
        start = round(note.start * SR)
        section = out[start : start + n]
        pluck = voices.partials(z, [1, 0.5, 0.25, 0.12]) * fade * np.exp(-2 * np.arange(n) / SR)
        section += pluck[: len(section)]
    return out


def _chimes(song: Song, total: float, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Manjira on every beat, and a temple bell on every eighth beat with probability 0.5."""
    beat = 60 / song.bpm
    hits = [(i * beat, "manjira", float(rng.uniform(0.5, 1))) for i in range(int(total / beat))]
    hits += [(i * beat, "bell", 0.8) for i in range(0, int(total / beat), 8) if rng.random() < 0.5]
    return drums.lay(hits, sa=2 * song.sa, samples=samples, seed=song.seed)


def _reverberate(signal: np.ndarray, song: Song) -> np.ndarray:
    """Add reverberation: convolve with low-passed noise that falls by 60 dB in `song.room` seconds."""
    n = int(song.room * SR)
    tail = voices.noise(np.random.default_rng(song.seed + 2), n)
    tail *= np.exp(-6.9 * np.arange(n, dtype=np.float32) / n)
    tail = lfilter(np.float32([0.5]), np.float32([1, -0.5]), tail)
    tail /= np.sqrt(np.sum(tail**2))
    return (1 - song.wet) * signal + song.wet * oaconvolve(signal, tail)[: len(signal)]


def _master(signal: np.ndarray, song: Song) -> np.ndarray:
    """Apply tilt, cut below 35 Hz (removes DC), set the loudness, and limit peaks softly to PEAK."""
    shelf = 10 ** (song.tilt / 20)
    low = lfilter(np.float32([0.18]), np.float32([1, -0.82]), signal)
    signal = sosfilt(butter(2, 35, "high", fs=SR, output="sos"), low / shelf + (signal - low) * shelf)
    signal = signal * 10 ** (song.loudness / 20) / (np.sqrt(np.mean(signal**2)) + 1e-9)
    knee = 0.7
    over = np.abs(signal) - knee
    bent = knee + (PEAK - knee) * np.tanh(np.maximum(over, 0) / (PEAK - knee))
    return np.where(over > 0, np.sign(signal) * bent, signal).astype(np.float32)
