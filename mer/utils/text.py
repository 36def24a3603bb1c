"""Makes names from outside (files, classes, songs, runs) safe to print and store, in every script.

The invisible joiners stay, since Devanagari needs them. Other invisible characters could control a terminal
or reverse the direction of a line.
"""

import json
import re
import unicodedata
from hashlib import blake2b
from pathlib import PurePosixPath

__all__ = ["LONGEST", "composed", "fitting", "safe_name", "spellings", "visible"]

LONGEST = 255  # bytes of a file name, on every common file system
SHORT = 120  # bytes of names made here; temporary names are longer
JOINERS = "\u200c\u200d"  # invisible; Devanagari spelling needs them
MARKS = "\u200e\u200f\u061c"  # direction marks, as in Urdu; unlike overrides they do not reverse Latin text


def visible(text: str, *, keep: str = "") -> str:
    """Replace control characters, line ends, direction overrides and lone surrogates by JSON escapes.

    Characters in `keep` stay. The result is safe to print, and JSON text keeps its meaning.
    """
    if text.isprintable():
        return text
    stays = f"{JOINERS}{MARKS}{keep}"
    return "".join(c if c.isprintable() or c in stays or _is_space(c) else json.dumps(c)[1:-1] for c in text)


def _is_space(char: str) -> bool:
    return unicodedata.category(char) == "Zs"


def composed(text: str) -> str:
    """Text in Unicode's composed form (NFC), so that text that looks the same is equal."""
    return unicodedata.normalize("NFC", text)


def spellings(name: str) -> tuple[str, ...]:
    """Forms that a path may have on disk: as given, composed, decomposed (as on macOS), or shortened."""
    forms = (name, composed(name), unicodedata.normalize("NFD", name), fitting(name))
    return tuple(dict.fromkeys(forms))


def fitting(path: str) -> str:
    """Compose a relative path, and shorten parts over 255 bytes, with a hash to keep them distinct."""
    return "/".join(_cut(part) for part in composed(path).split("/"))


def _cut(name: str) -> str:
    """Shorten one part of a path to 255 bytes. A short suffix is kept, and a hash of the whole is added."""
    content = name.encode(errors="surrogateescape")
    if len(content) <= LONGEST:
        return name
    mark, suffix = blake2b(content, digest_size=4).hexdigest(), PurePosixPath(name).suffix
    suffix = suffix if len(suffix.encode(errors="surrogateescape")) <= 16 else ""
    return f"{content[: LONGEST - 30].decode(errors='ignore')} {mark}{suffix}"


def safe_name(name: str, *, keep_suffix: bool = False) -> str:
    """Turn `name` into a file name of at most 120 bytes in UTF-8, in any script. May return an empty one."""
    text = "".join(char for char in composed(name) if _is_seen(char) or char in JOINERS)
    text = re.sub(r'[/\\:*?"<>|]', "_", text)  # separators, and characters that Windows forbids
    text = re.sub(r"\.{2,}", ".", re.sub(r"\s+", " ", text)).strip(" .")
    suffix = PurePosixPath(text).suffix if keep_suffix else ""
    if len(suffix) > SHORT // 2:
        suffix = ""
    room = SHORT - len(suffix.encode())
    return text.removesuffix(suffix).encode()[:room].decode(errors="ignore").rstrip(" .") + suffix


def _is_seen(char: str) -> bool:
    """False for control, format, surrogate and unassigned characters."""
    return char.isspace() or not unicodedata.category(char).startswith("C")
