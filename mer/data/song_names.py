"""Songs from the names of files: `song001a` and `song001b` are clips of `song001`.

A pattern is a text with the fields {song}, {number}, {letter} and {any}; it describes the name of a file
without its suffix. A pattern that is found by itself must be clear, since it must not join different songs:
the part behind the song is counted up from its start, most clips follow the pattern, the name of the song has
a number of its own or an artist and a title, and no class is a single song.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from mer.data.song_forms import FORMS, is_clear, is_generic
from mer.utils.errors import ConfigError
from mer.utils.text import composed

__all__ = ["AUTO", "NO_PATTERN", "Naming", "find_naming", "name_songs"]

AUTO, NO_PATTERN = "auto", "none"
LONGEST_PATTERN, MOST_FIELDS = 100, 4
FIELDS = {
    "song": r"(?P<song>.+)",
    "number": r"(?<!\d)(?P<part>\d+)(?!\d)",
    "letter": r"(?<![^\W\d_])(?P<part>[^\W\d_])(?![^\W\d_])",
    "any": r".+",
}
EXAMPLES = 3
SAMPLE, LEAST_SHARE = 300, 0.3  # about so many names are tried first, and so many of them must follow
Clips = Sequence[tuple[str, str]]  # (id, label) of each clip


@dataclass(frozen=True, slots=True)
class Naming:
    """Songs by a pattern of file names.

    Parameters
    ----------
    pattern
        The pattern.
    songs
        The song of each clip, by the clip's id. A clip that does not follow the pattern is a song of its own.
    automatic
        True if the pattern was found, not given.
    """

    pattern: str
    songs: dict[str, str]
    automatic: bool = False

    def examples(self) -> dict[str, list[str]]:
        """The clips of the first songs with two or more, to show what the pattern does."""
        clips: dict[str, list[str]] = defaultdict(list)
        for clip, song in self.songs.items():
            clips[song].append(clip)
        shown = [song for song in sorted(clips) if len(clips[song]) > 1][:EXAMPLES]
        return {song: clips[song] for song in shown}

    def to_dict(self) -> dict[str, object]:
        """Plain data for JSON and pages."""
        return {"pattern": self.pattern, "songs": len(set(self.songs.values())), "examples": self.examples()}


def name_songs(pattern: str, clips: Clips) -> Naming:
    """The songs of clips by a given pattern.

    Parameters
    ----------
    pattern
        Text with {song} once, and {number}, {letter} or {any} in place of the rest that differs.
    clips
        (id, label) of each clip.

    Raises
    ------
    ConfigError
        If the pattern is not valid.
    """
    return _named(pattern, _compiled(pattern), clips)


def find_naming(clips: Clips) -> tuple[Naming | None, Naming | None]:
    """Find the pattern that the names of clips follow.

    Parameters
    ----------
    clips
        (id, label) of each clip.

    Returns
    -------
    tuple
        The songs by a pattern that is clear, or None; and those by one that may be meant, or None.
    """
    offered, some = None, [stem_of(clip) for clip, _ in clips[:: max(1, len(clips) // SAMPLE)]]
    for form in FORMS:
        regex = _compiled(form.pattern)
        if sum(bool(regex.fullmatch(stem)) for stem in some) < LEAST_SHARE * len(some):
            continue
        naming = _named(form.pattern, regex, clips, automatic=True)
        songs_of = _by_class(naming, clips)
        if is_clear(form, *_parts(regex, naming), songs_of):
            return naming, None
        if offered is None and _may_be_meant(naming, songs_of):
            offered = naming
    return None, offered


def _compiled(pattern: str) -> re.Pattern:
    """The regular expression of a pattern; raises ConfigError."""
    pieces = re.split(r"\{(\w*)\}", pattern)
    fields = pieces[1::2]
    unknown = [name for name in fields if name not in FIELDS]
    if unknown or fields.count("song") != 1 or fields.count("any") > 1:
        raise ConfigError(
            f"song pattern {pattern[:LONGEST_PATTERN]!r}: give {{song}} once, {{any}} at most once, and "
            "{number} or {letter}, as in '{song}_{number}'; or auto, or none"
        )
    if len(pattern) > LONGEST_PATTERN or len(fields) > MOST_FIELDS:
        raise ConfigError(
            f"song pattern {pattern[:LONGEST_PATTERN]!r} has more than {MOST_FIELDS} fields or "
            f"{LONGEST_PATTERN} letters; shorten it"
        )
    text, seen = "", False
    for number, piece in enumerate(pieces):
        if number % 2 == 0:
            text += re.escape(piece)
            continue
        field = FIELDS[piece]
        if "?P<part>" in field:  # a group has its name once
            field, seen = field.replace("?P<part>", "?:" if seen else "?P<part>"), True
        text += field
    return re.compile(text, re.IGNORECASE)


def _named(pattern: str, regex: re.Pattern, clips: Clips, *, automatic: bool = False) -> Naming:
    """The songs by a pattern.

    If a file name occurs in several folders, the folders number their songs anew: their songs differ.
    """
    titles = {clip: _title(regex, stem_of(clip)) for clip, _ in clips}
    folders: dict[tuple[str, str], set[str]] = defaultdict(set)
    for clip, title in titles.items():
        folders[title.casefold(), stem_of(clip).casefold()].add(_folder(clip))
    anew = {title for (title, _), places in folders.items() if len(places) > 1}
    first: dict[str, str] = {}  # one spelling for each title
    songs = {}
    for clip, title in titles.items():
        name = f"{_folder(clip)}/{title}" if title.casefold() in anew else title
        songs[clip] = first.setdefault(name.casefold(), name)
    return Naming(pattern, songs, automatic)


def stem_of(clip: str) -> str:
    """The name of a clip's file, without folder and suffix."""
    return composed(clip.rpartition("/")[2].rpartition(".")[0]).strip()


def _folder(clip: str) -> str:
    return clip.rpartition("/")[0]


def _title(regex: re.Pattern, stem: str) -> str:
    """The song in a file name: what {song} stands for, or all of it."""
    match = regex.fullmatch(stem)
    return (match["song"].strip(" _-.") if match else "") or stem


def _parts(regex: re.Pattern, naming: Naming) -> tuple[dict[str, list[str]], float]:
    """The numbers or letters of the clips of each song that follows, and the share of clips of such songs."""
    parts: dict[str, list[str]] = defaultdict(list)
    for clip, song in naming.songs.items():
        if match := regex.fullmatch(stem_of(clip)):
            parts[song].append(match["part"].lower())
    return dict(parts), sum(song in parts for song in naming.songs.values()) / len(naming.songs)


def _by_class(naming: Naming, clips: Clips) -> dict[str, set[str]]:
    """The songs of each class."""
    found: dict[str, set[str]] = defaultdict(set)
    for clip, label in clips:
        found[label].add(naming.songs[clip])
    return dict(found)


def _may_be_meant(naming: Naming, songs_of: dict[str, set[str]]) -> bool:
    """True if half of the clips are in songs of two or more, and these have names that could be of songs."""
    several = {song: size for song, size in Counter(naming.songs.values()).items() if size > 1}
    labels = {label.casefold() for label in songs_of}
    named = not any(is_generic(song.rpartition("/")[2], labels) for song in several)
    whole = all(len(songs) > 1 for songs in songs_of.values())
    return 2 * sum(several.values()) >= len(naming.songs) and named and whole
