"""Names that contain Markdown, HTML or control characters appear on every page as plain text."""

import json
import re
import shutil
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from google.protobuf.message import Message

from mer.data.library import add
from mer.experiments.experiment import Experiment
from mer.experiments.prepared import Spec
from mer.runs.store import RunStore
from tests.page_helpers import TITLES, opened
from tests.run_helpers import copy_home, tiny_config, write_songs

TRICKS = "<b>{0}</b> <img src=x onerror=alert(1)> [a](javascript:1) **{0}** $x^2$ :material/bomb: :red[x]"
MARKUP = ("<img", "<b>", "[a](", "$x^2$", ":material/bomb:", ":red[", "\u202e", "\x1b")
LABELS = {"Happy": TRICKS.format("खुश") + "\u202e\x1b[31m", "Sad": TRICKS.format("दुःख")}
# Elements that show text as it is, without Markdown or HTML. Vega draws on a canvas and escapes tooltips.
TEXT = {
    ("selectbox", "options"), ("selectbox", "raw_value"), ("multiselect", "options"), ("code", "code_text"),
    ("multiselect", "raw_values"), ("vega_lite_chart", "spec"), ("vega_lite_chart", "alt"),
    ("plotly_chart", "alt"), ("audio", "alt"), ("text_input", "default"),
}  # fmt: skip


@pytest.fixture(scope="module")
def _hostile(tmp_path_factory, empty_home):
    root = tmp_path_factory.mktemp("hostile")
    copy_home(empty_home, root / "home")
    corpus = write_songs(root / "songs")
    rows = ["path,label,song"]
    for label, name in LABELS.items():
        for number, path in enumerate(sorted((corpus / label).glob("*.wav"))):
            clip = corpus / f"{TRICKS.format(number).replace('/', '')} {label}.wav"
            path.rename(clip)
            rows.append(f'"{clip.name}","{name}","{TRICKS.format(number // 2)} {label}"')
        shutil.rmtree(corpus / label)
    (corpus / "manifest.csv").write_text("\n".join(rows) + "\n", "utf-8")
    about = {"name": TRICKS.format("data"), "licence": TRICKS.format("CC")[:150], "notes": TRICKS.format("n")}
    (corpus / "dataset.json").write_text(json.dumps(about))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MER_HOME", str(root / "home"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        entry = add(corpus)
        spec = Spec(data=str(corpus), config=tiny_config(epochs=1), command=TRICKS.format("command"))
        done = [Experiment().train(spec).run_id for _ in range(2)]
        waiting = RunStore.open().create(TRICKS.format("run"), spec.to_dict())
        RunStore.open().tag(waiting, {"mer.stage": TRICKS.format("stage")})
        failed = RunStore.open().create(TRICKS.format("failed"), spec.to_dict())
        RunStore.open().finish(failed, "failed", reason=TRICKS.format("reason"))
    return SimpleNamespace(home=root / "home", entry=entry, runs=done, others=[waiting, failed])


@pytest.fixture
def hostile(_hostile, monkeypatch, checked):
    monkeypatch.setenv("MER_HOME", str(_hostile.home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return _hostile


def texts(message: Message) -> Iterator[tuple[str, str]]:
    """Each text in a message, with the name of its field."""
    for field, value in message.ListFields():
        for one in value if field.is_repeated else [value]:
            if isinstance(one, Message):
                yield from texts(one)
            elif isinstance(one, str):
                yield field.name, one


def shown(app) -> Iterator[tuple[str, str, str]]:
    """Every text that the page sent to the browser: kind of element, field, text."""
    todo = [app.main, app.sidebar]
    while todo:
        node = todo.pop()
        proto = getattr(node, "proto", None)
        if proto is not None:
            yield from ((node.type, *found) for found in texts(proto))
        todo += list(getattr(node, "children", {}).values())


def does_something(kind: str, field: str, text: str) -> bool:
    """True if a browser would treat part of the text as markup."""
    if field == "id" or (kind, field) in TEXT:
        return False
    if (kind, field) == ("plotly_chart", "spec"):  # Plotly interprets some HTML, no Markdown
        text = json.dumps(json.loads(text), ensure_ascii=False)  # Plotly writes \u003c for <
        return "<img" in text or "<b>" in text
    return any(re.search(rf"(?<!\\){re.escape(mark)}", text) for mark in MARKUP)


@pytest.mark.parametrize("name", [name for name in TITLES if name != "train"])
@pytest.mark.promise("No page and no chart interprets a name as markup.", measured="9 pages")
def test_a_page_shows_names_as_plain_text(name, hostile):
    app = opened(name, **({"model": hostile.runs[0][:8]} if name == "predict" else {}))
    assert not app.exception
    found = list(shown(app))
    assert [row for row in found if does_something(*row)] == []
    if name not in ("home", "study", "ladder"):
        assert any("onerror" in text for *_, text in found)  # else nothing was tried
