"""The table of promises in docs/reliability.md, made from markers on the tests.

A test that holds a promise has the marker `@pytest.mark.promise("One sentence.", measured="a figure")`;
`measured` may be left out. Several tests may hold the same promise: they repeat its sentence.
`python -m tests.promises` writes the table from the source of the tests, without importing or running them.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "reliability.md"
BEGIN, END = "<!-- promises: written by python -m tests.promises -->", "<!-- end of promises -->"
SLOW = {"slow", "long"}
ALL_SLOW = ("browser",)  # folders whose conftest marks every test as slow


@dataclass
class Promise:
    """A sentence, the tests that hold it, as (path::name, slow or not), and a measured figure."""

    sentence: str
    tests: list[tuple[str, bool]] = field(default_factory=list)
    measured: str = ""

    @property
    def row(self) -> str:
        """The row of the table."""
        tests = ", ".join(f"`{test}`{' (slow)' if slow else ''}" for test, slow in self.tests)
        return f"| {self.sentence} | {tests} | {self.measured} |"


def marks(node: ast.AST) -> dict[str, ast.expr]:
    """The pytest markers among some expressions, by name; a marker within a parameter does not count."""
    expressions = node.elts if isinstance(node, ast.List | ast.Tuple) else [node]
    names = {one: one.func if isinstance(one, ast.Call) else one for one in expressions}
    return {
        name.attr: one
        for one, name in names.items()
        if isinstance(name, ast.Attribute) and ast.unparse(name.value) == "pytest.mark"
    }


def marked(path: Path) -> Iterator[tuple[str, bool, ast.Call]]:
    """Each test of a file that has the marker: its name, whether it is slow, and the marker."""
    module = ast.parse(path.read_text("utf-8"))
    everywhere = set(ALL_SLOW) & set(path.relative_to(TESTS).parts)
    for node in module.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
            everywhere |= marks(node.value).keys() & SLOW
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found = marks(ast.Tuple(node.decorator_list))
            if "promise" in found:
                yield node.name, bool(everywhere or found.keys() & SLOW), found["promise"]


def promises() -> list[Promise]:
    """All promises, in the order of the files and of the tests in them."""
    found: dict[str, Promise] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        for name, slow, call in marked(path):
            sentence = ast.literal_eval(call.args[0])
            promise = found.setdefault(sentence, Promise(sentence))
            promise.tests.append((f"{path.relative_to(TESTS).as_posix()}::{name}", slow))
            for keyword in call.keywords:
                promise.measured = ast.literal_eval(keyword.value)
    return list(found.values())


def page(text: str) -> str:
    """The page with a new table between its two comment lines."""
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"error: {PAGE.name} lacks '{BEGIN}' or '{END}'; put both back")
    rows = ["| promise | test | measured |", "|---|---|---|", *(promise.row for promise in promises())]
    return "\n".join([f"{before}{BEGIN}", *rows, f"{END}{after}"])


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
