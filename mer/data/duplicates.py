"""Clips with the same audio: kept once in one class, and named if they are in two."""

from collections.abc import Sequence

from mer.data.cache.store import Facts
from mer.data.clips import Clip

__all__ = ["conflict_text", "pair_to_dict", "without_conflicts", "without_duplicates"]


def without_duplicates(
    pairs: list[tuple[Clip, Facts]],
) -> tuple[list[tuple[Clip, Facts]], list[tuple[str, str]], list[tuple[str, str, str, str]]]:
    """Keep the first of the clips with equal audio and label.

    Returns the clips that are kept, (kept id, dropped id) of the others, and (id, class, id, class) of clips
    with equal audio and other labels, which are kept.
    """
    first: dict[str, Clip] = {}
    kept, duplicates, conflicts = [], [], []
    for clip, fact in pairs:
        known = first.setdefault(fact.content_hash, clip)
        if known is not clip and known.label == clip.label:
            duplicates.append((known.id, clip.id))
            continue
        kept.append((clip, fact))
        if known is not clip:
            conflicts.append((known.id, known.label, clip.id, clip.label))
    return kept, duplicates, conflicts


def without_conflicts(
    pairs: list[tuple[Clip, Facts]], conflicts: list[tuple[str, str, str, str]]
) -> tuple[list[tuple[Clip, Facts]], list[tuple[str, str]]]:
    """The clips whose audio has one label, and (id, reason) of the others."""
    other = {first: (second, label) for first, _, second, label in reversed(conflicts)}
    other |= {second: (first, label) for first, label, second, _ in conflicts}
    left_out = [
        (clip.id, "the same audio is in the class {1!r}, as {0}".format(*other[clip.id]))
        for clip, _ in pairs
        if clip.id in other
    ]
    return [(clip, fact) for clip, fact in pairs if clip.id not in other], left_out


def pair_to_dict(pair: tuple[str, str, str, str]) -> dict[str, str]:
    """One pair of clips with the same audio in two classes, as plain data."""
    return dict(zip(("first", "first_class", "second", "second_class"), pair, strict=True))


def conflict_text(conflicts: Sequence[tuple[str, str, str, str]]) -> str:
    """The error message for the same audio in two classes."""
    shown = [f"{first} ({label}) = {second} ({other})" for first, label, second, other in conflicts[:3]]
    return (
        f"the same audio is in two classes {len(conflicts)} time(s): {'; '.join(shown)}; "
        "remove one of each, or leave out all of them with --drop-conflicts"
    )
