"""What a report says of its songs and of possible mistakes, in sentences for commands and pages."""

from mer.data.check import GUESSED, Report
from mer.utils.progress import Notify

__all__ = ["notes", "offer", "songs_text", "tell"]


def songs_text(report: Report) -> str:
    """How many songs there are, and how they were found."""
    grouping, naming = report.grouping, report.dataset.naming
    if grouping.source == "by hand":
        return f"songs: {report.songs()}, named by the manifest"
    if naming:
        return f"songs: {report.songs()}, {_by_name(report)}"
    if grouping.source == "none":
        return "songs: none named; clips of one song may be in both training and test, which raises scores"
    least = ", ".join(f"{kind} from {value:g}" for kind, value in grouping.thresholds.items())
    if not grouping.links:
        return f"songs: none named, and no two clips share audio or sound alike ({least}); this was {GUESSED}"
    sure = grouping.confidence.values()
    found = report.to_dict()["grouping"]["groups"]
    confidence = f", confidence {min(sure):.0%} to {max(sure):.0%}" if sure else ""
    many = f"{found} groups of 2 or more clips{confidence}"
    return f"songs: none named; by sound ({least}) {many}; songs are {GUESSED}"


def _by_name(report: Report) -> str:
    """The pattern by which songs were named, with examples."""
    naming = report.dataset.naming
    found = "found in the file names" if naming.automatic else "given"
    off = "; --song-pattern none turns it off" if naming.automatic else ""
    return f"by the pattern {naming.pattern} {found}{_such_as(naming.examples())}{off}"


def _such_as(examples: dict[str, list[str]]) -> str:
    """Examples of songs and their clips, as part of a sentence."""
    shown = [
        f"{song}: {', '.join(clips[:4])}{', ...' if len(clips) > 4 else ''}"
        for song, clips in examples.items()
    ]
    return f" ({'; '.join(shown)})" if shown else ""


def offer(report: Report) -> str:
    """A sentence that offers a pattern which file names may follow; "" if there is none."""
    offered = report.dataset.offered
    if offered is None:
        return ""
    songs = len(set(offered.songs.values()))
    return (
        f"File names may name the songs: --song-pattern '{offered.pattern}' would make {songs} songs"
        f"{_such_as(offered.examples())}. Use it if these are clips of one song each."
    )


def tell(report: Report, notify: Notify | None) -> None:
    """Report the notes as progress, if there is a listener."""
    for note in notes(report) if notify else ():
        notify(f"note: {note}", 0, 0)


def notes(report: Report) -> list[str]:
    """Sentences that a training should begin with; none if songs are named and nothing seems wrong."""
    found = list(report.dataset.remarks)
    if report.grouping.source != "by hand":
        found.append(songs_text(report))
    return [*filter(None, [*found, report.grouping.remark, offer(report)])]
