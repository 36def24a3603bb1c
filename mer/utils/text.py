"""Names from outside (of files, classes, songs, runs): letters of every script stay, nothing else happens.

Devanagari needs the invisible joiners; other invisible characters can rewrite a terminal or turn a line.
"""

import json
import re
import unicodedata
from hashlib import blake2b
from pathlib import PurePosixPath

__all__ = ["LONGEST", "composed", "fitting", "safe_name", "spellings", "visible"]

LONGEST = 255  # bytes of a file name, on every common file system
SHORT = 120  # bytes of a name given here; temporary names add to it
JOINERS = "\u200c\u200d"  # invisible, but Devanagari is misspelt without them
MARKS = "\u200e\u200f\u061c"  # of direction, as Urdu has; unlike overrides they turn no Latin text around


def visible(text: str, *, keep: str = "") -> str:
    """`text` with control characters, line ends, direction overrides and lone surrogates in JSON's escapes.

    What is in `keep` stays. The outcome can be printed anywhere, and JSON stays the same JSON.
    """
    if text.isprintable():
        return text
    stays = f"{JOINERS}{MARKS}{keep}"
    return "".join(c if c.isprintable() or c in stays or _is_space(c) else json.dumps(c)[1:-1] for c in text)


def _is_space(char: str) -> bool:
    return unicodedata.category(char) == "Zs"


def composed(text: str) -> str:
    """The same text in Unicode's composed form (NFC), so that what looks the same is the same."""
    return unicodedata.normalize("NFC", text)


def spellings(name: str) -> tuple[str, ...]:
    """How a path may be spelt on disk: as it is, composed, decomposed as macOS does, or cut to fit."""
    forms = (name, composed(name), unicodedata.normalize("NFD", name), fitting(name))
    return tuple(dict.fromkeys(forms))


def fitting(path: str) -> str:
    """A relative path, composed; what a part has beyond 255 bytes gives way to a hash."""
    return "/".join(_cut(part) for part in composed(path).split("/"))


def _cut(name: str) -> str:
    content = name.encode(errors="surrogateescape")
    if len(content) <= LONGEST:
        return name
    mark, suffix = blake2b(content, digest_size=4).hexdigest(), PurePosixPath(name).suffix
    suffix = suffix if len(suffix.encode(errors="surrogateescape")) <= 16 else ""
    return f"{content[: LONGEST - 30].decode(errors='ignore')} {mark}{suffix}"


def safe_name(name: str, *, keep_suffix: bool = False) -> str:
    """`name` as one file name, at most 120 bytes of UTF-8; letters of every script stay. May be empty."""
    text = "".join(char for char in composed(name) if _is_seen(char) or char in JOINERS)
    text = re.sub(r'[/\\:*?"<>|]', "_", text)  # separators, and what Windows takes in no name
    text = re.sub(r"\.{2,}", ".", re.sub(r"\s+", " ", text)).strip(" .")
    suffix = PurePosixPath(text).suffix if keep_suffix else ""
    if len(suffix) > SHORT // 2:
        suffix = ""
    room = SHORT - len(suffix.encode())
    return text.removesuffix(suffix).encode()[:room].decode(errors="ignore").rstrip(" .") + suffix


def _is_seen(char: str) -> bool:
    """False for control, format, surrogate and unassigned characters."""
    return char.isspace() or not unicodedata.category(char).startswith("C")
