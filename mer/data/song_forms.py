"""The forms of file names by which songs are found without being told, and when one is clear."""

import re
from dataclasses import dataclass

__all__ = ["FORMS", "Form", "is_clear", "is_generic"]

FOLLOW = 0.9  # least share of clips that follow a clear form
COUNTED = 0.6  # least share of songs whose parts are counted up from the start
LEAST_SONGS = 3  # of two or more clips
MANY_SONGS = 10  # at least so many, and three times the clips of the longest, if the name's word is unknown
MOST_WORDS = 6  # different words before the number of a song

# words that number a song: the number behind them is that of one song
SONG_WORDS = {"song", "songs", "track", "tune", "piece", "title", "music", "audio", "gana", "geet", "gaana"}
# words whose number is that of more than a song, so that the rest of the name tells songs apart
WIDER_WORDS = {
    "disc", "disk", "cd", "dvd", "lp", "vol", "volume", "album", "side", "tape", "session", "set",
    "series", "season", "year", "playlist", "chart", "top", "best", "hits", "user", "subject",
    "participant", "rater", "listener", "artist", "singer", "speaker", "composer", "film", "movie",
    "genre", "mood", "emotion", "class", "label", "category", "group", "cluster", "fold", "part",
    "batch", "take", "raga", "raag", "tala", "taal", "scale", "tempo", "bpm", "day", "week",
}  # fmt: skip
# names that programs give to any recording
GENERIC = {
    "audio", "clip", "clips", "download", "file", "files", "mp3", "music", "new", "new recording",
    "recording", "record", "sample", "samples", "song", "songs", "sound", "sounds", "track", "tracks",
    "unknown", "untitled", "video", "voice", "wav", "audiotrack", "output", "test", "excerpt",
    "segment", "unknown artist", "unknown title", "various", "title",
}  # fmt: skip
YEAR = re.compile(r"(?<!\d)(19|20)\d\d$")
DATE = re.compile(r"(19|20)\d\d[-_. ]?[01]?\d[-_. ]?[0-3]?\d$|[0-3]?\d[-_. ][01]?\d[-_. ](19|20)?\d\d$")
NUMBERED = re.compile(r"(?:^|.*?)([^\W\d_]*)[\W_]*\d+$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Form:
    """A pattern, and the kind of name that the song must have for it: numbered, titled, or any."""

    pattern: str
    titles: bool = False  # an artist and a title will do
    named: bool = False  # any name that is not generic will do
    letters: bool = False  # the part is a letter


def _forms() -> tuple[Form, ...]:
    brackets = [
        Form(f"{{song}}{gap}{a}{{number}}{b}", titles=True) for gap in (" ", "", "_") for a, b in ("()", "[]")
    ]
    words = ("part", "pt", "seg", "segment", "chunk", "excerpt", "slice", "snippet")
    joints = ("_{}", "_{}_", "-{}", "-{}-", " {} ", " - {} ", ".{}.", " {}", "_{}-", "-{}_")
    parts = [
        Form(f"{{song}}{joint.format(word)}{{number}}", named=True) for word in words for joint in joints
    ]
    weak = [
        Form(f"{{song}}{joint.format(word)}{{number}}", titles=True)
        for word in ("clip", "cut")
        for joint in joints
    ]
    letters = [Form(f"{{song}}{gap}{{letter}}", letters=True) for gap in ("_", "-", " ", ".", "")]
    numbers = [Form(f"{{song}}{gap}{{number}}") for gap in ("_", "-", ".", " ", " - ")]
    return (*parts, *weak, *brackets, *letters, *numbers)


FORMS = _forms()


def is_clear(form: Form, parts: dict[str, list[str]], follow: float, songs_of: dict[str, set[str]]) -> bool:
    """True if the names of clips clearly follow a form, so that no different songs are joined.

    Parameters
    ----------
    form
        The form.
    parts
        For each song by this form, the numbers or letters of its clips.
    follow
        Share of the clips that are of such songs, 0 to 1.
    songs_of
        Songs of each class.
    """
    several = {song: found for song, found in parts.items() if len(found) > 1}
    longest = max((len(found) for found in parts.values()), default=0)
    total = sum(map(len, parts.values()))
    if follow < FOLLOW or len(several) < LEAST_SONGS or 2 * longest > total:
        return False
    if 2 * sum(map(len, several.values())) < total or any(len(songs) < 2 for songs in songs_of.values()):
        return False
    if sum(_counted(found) for found in several.values()) < COUNTED * len(several):
        return False
    names = [song.rpartition("/")[2] for song in parts]
    many = len(set(names)) >= max(MANY_SONGS, 3 * longest)
    labels = {label.casefold() for label in songs_of}
    return (
        _numbered(form, names, labels, many=many)
        or _titled(form, names, labels)
        or _named(form, names, labels)
    )


def _counted(parts: list[str]) -> bool:
    """True if the parts are 0, 1, 2, ... or 1, 2, ... or a, b, ... without a gap."""
    numbers = sorted(int(part) if part.isdecimal() else ord(part) - ord("a") for part in set(parts))
    return numbers[0] in (0, 1) and numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def _numbered(form: Form, names: list[str], labels: set[str], *, many: bool) -> bool:
    """True if each song has a number, and the word before the number is not that of more than a song."""
    found = [NUMBERED.fullmatch(name) for name in names]
    if not all(found) or any(map(DATE.search, names)) or all(map(YEAR.search, names)):
        return False
    words = {match[1].casefold() for match in found}
    if words & WIDER_WORDS or len(words - labels) > MOST_WORDS:
        return False
    if words <= SONG_WORDS | labels:
        return True
    return many or (form.letters and all(len(word) < 2 for word in words - SONG_WORDS - labels))


def _titled(form: Form, names: list[str], labels: set[str]) -> bool:
    """True if each song has an artist and a title."""
    sides = [re.split(r"[ _]-[ _]", name) for name in names]
    plain = all(len(side) > 1 and side[-1].strip().casefold() not in GENERIC | labels for side in sides)
    return form.titles and plain and len({side[-1] for side in sides}) >= LEAST_SONGS


def _named(form: Form, names: list[str], labels: set[str]) -> bool:
    """True if each song has a name that is neither generic nor that of a class."""
    return form.named and not any(is_generic(name, labels) for name in names)


def is_generic(name: str, labels: set[str]) -> bool:
    """True if the name of a song could be that of any recording, of a class, or of a numbered collection."""
    bare = re.sub(r"[\d\W_]+", " ", name).strip().casefold()
    numbered = any(char.isdecimal() for char in name)
    return not bare or bare in (WIDER_WORDS if numbered else GENERIC | labels)
