"""Open pages of the dashboard without a browser, and read their text."""

import re
from pathlib import Path

from streamlit.testing.v1 import AppTest

ROOT = Path(__file__).parents[1]
ENTRY = ROOT / "streamlit_app.py"
TITLES = {
    "home": "Which emotion does this music induce?",
    "predict": "Predict",
    "vote": "Class vote",
    "data": "Data",
    "train": "Train",
    "live": "Live",
    "compare": "Compare",
    "confusion": "Confusion",
    "map": "Map",
    "study": "The study of 2022",
    "ladder": "The ladder",
}
SECONDS = 60  # the first page that needs it imports torch
TEXTS = (
    "title", "header", "subheader", "markdown", "caption", "info", "warning", "error", "success", "code",
    "metric", "page_link", "button", "text",
)  # fmt: skip


def page_at(name: str, **query) -> AppTest:
    """A page that is visited directly, with the parameters of its address; not run yet."""
    app = AppTest.from_file(ROOT / "pages" / f"{name}.py", default_timeout=SECONDS)
    app.query_params.update(query)
    return app


def opened(name: str, **query) -> AppTest:
    """A page like `page_at`, run once."""
    return page_at(name, **query).run()


def said(app) -> str:
    """All text of an app or a part of it, with its links and buttons."""
    found = []
    for kind in TEXTS:
        for element in app.get(kind):
            text = str(element.label if kind in ("button", "metric", "page_link") else element.value)
            found.append(as_read(text) if kind == "error" else text)
            if kind == "metric":
                found.append(str(element.value))
    return "\n".join(found)


def errors(app) -> list[str]:
    """The error messages on the page."""
    return [as_read(error.value) for error in app.error]


def as_read(markdown: str) -> str:
    """Text without Markdown escapes, as a reader sees it."""
    return re.sub(r"\\([\\`*_{}\[\]()#+\-.!|~<>$:&])", r"\1", markdown)


def links(app) -> list[str]:
    """The pages that the main part links to."""
    return [link.proto.page for link in app.main.page_link]


def by_label(widgets, label: str):
    """The only widget whose label starts with this text."""
    (found,) = [widget for widget in widgets if widget.label.startswith(label)]
    return found
