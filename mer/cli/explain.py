"""`mer explain`."""

from argparse import Namespace
from typing import TYPE_CHECKING

from mer.cli.output import Bars, emit

if TYPE_CHECKING:
    from mer.inference.explain import Explanation


def explain(arguments: Namespace) -> None:
    """Explain an answer: write the map of the evidence, its sound, and a test of whether it matters."""
    from mer.inference.ensemble import open_predictor
    from mer.inference.explain import explain
    from mer.inference.explain_files import FILES, write_explanation
    from mer.utils.files import new_folder

    bars = Bars()
    with new_folder(arguments.out) as draft:
        predictor = open_predictor(arguments.checkpoint)
        found = explain(
            predictor,
            arguments.file,
            emotion=arguments.emotion,
            window=arguments.window,
            progress=lambda done, total: bars("checking the map", done, total),
        )
        about = {"file": str(arguments.file), "checkpoint": str(arguments.checkpoint)}
        write_explanation(draft, found, about | {"model": predictor.card.title})
    checked = found.deletion
    data = {
        "file": str(arguments.file),
        "emotion": found.emotion,
        "explained": found.explained,
        "deletion": checked and {"auc": checked.auc, "random_auc": checked.random_auc},
        "files": {name: str(arguments.out / file) for name, file in FILES.items()},
    }
    emit(data, as_json=arguments.json, text="\n".join([*_words(found), *data["files"].values()]))


def _words(found: "Explanation") -> list[str]:
    """The result in sentences."""
    part = f"{found.start:g} to {found.end:g} s"
    words = [f"{found.emotion}. Explained: {found.explained}, {found.probability:.0%} from {part}."]
    if found.deletion is None:
        return [*words, f"There is no evidence for {found.explained}: the map is empty."]
    return [*words, found.deletion.verdict]
