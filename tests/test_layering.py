"""The core imports in one direction only, and never the dashboard.

docs/architecture.md holds the order of the wings.
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = ROOT / "mer"
PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
WINGS = re.findall(r"^\| `(\w+)` \|", PAGE, re.M)
MODULES = sorted(CORE.rglob("*.py"))
PAGES = sorted((ROOT / "pages").rglob("*.py"))
MOST_LINES = 400
MOST_LINES_OF_A_FUNCTION = 40  # without its docstring


def wing(path: Path) -> str:
    """The first folder below mer/; empty for mer/__init__.py and mer/__main__.py."""
    return path.relative_to(CORE).parts[0].removesuffix(".py") if path.parent != CORE else ""


def imported(path: Path) -> set[str]:
    """Full names of all modules, and of names that may be modules, that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def wings_of(path: Path) -> set[str]:
    """Other wings that a file imports from."""
    found = {name.split(".")[1] for name in imported(path) if name.startswith("mer.")}
    return found & set(WINGS) - {wing(path)}


def name(path: Path) -> str:
    return str(path.relative_to(CORE))


def test_the_core_holds_its_wings_and_nothing_else():
    found = {path.name for path in CORE.iterdir() if path.name != "__pycache__"}
    assert found == {"__init__.py", "__main__.py", *WINGS}


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_wing_imports_only_from_wings_above_it(path):
    above = WINGS[: WINGS.index(wing(path))] if wing(path) else WINGS
    assert wings_of(path) <= set(above)


def test_the_picture_in_the_docs_shows_the_imports():
    direct = {one: set().union(*(wings_of(p) for p in MODULES if wing(p) == one)) for one in WINGS}
    behind = {}
    for one in WINGS:  # from the top of the table: what it imports from, also by way of others
        behind[one] = direct[one].union(*(behind[other] for other in direct[one]))
    needed = {
        (other, one)
        for one in WINGS
        for other in direct[one]
        if not any(other in behind[third] for third in direct[one])
    }
    drawn = set(re.findall(r"^ +(\w+) --> (\w+)$", PAGE, re.M))
    assert drawn == needed


def test_modules_import_each_other_in_one_direction():
    names = {".".join(("mer", *p.relative_to(CORE).with_suffix("").parts)): p for p in MODULES}
    names = {key.removesuffix(".__init__"): p for key, p in names.items()}
    open_, done = [], set()

    def visit(module):
        assert module not in open_, f"{' -> '.join(open_)} -> {module} is a circle"
        if module in done:
            return
        open_.append(module)
        for other in imported(names[module]) & set(names) - {module}:
            if names[other].name != "__init__.py":
                visit(other)
        done.add(open_.pop())

    for module in names:
        visit(module)


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_the_core_never_imports_the_dashboard(path):
    assert not {name.split(".")[0] for name in imported(path)} & {"streamlit", "pages", "plotly"}


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_only_the_record_of_runs_knows_mlflow(path):
    assert wing(path) == "runs" or "mlflow" not in {name.split(".")[0] for name in imported(path)}


def functions(path: Path) -> dict[str, int]:
    """Lines of each function of a file, without its docstring."""
    found = {}
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            words = node.body[0] if ast.get_docstring(node) is not None else None
            told = words.end_lineno - words.lineno + 1 if words else 0
            found[node.name] = node.end_lineno - node.lineno + 1 - told
    return found


@pytest.mark.parametrize(
    "path", [*MODULES, *sorted((ROOT / "pages").rglob("*.py"))], ids=lambda path: path.name
)
def test_no_function_has_more_than_40_lines(path):
    assert {name: lines for name, lines in functions(path).items() if lines > MOST_LINES_OF_A_FUNCTION} == {}


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_module_is_longer_than_its_budget(path):
    assert len(path.read_text("utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_all_is_sorted_where_it_is_given(path):
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            names = [element.value for element in node.value.elts]
            constants = [n for n in names if n.isupper()]
            classes = [n for n in names if not n.isupper() and n[0].isupper()]
            functions = [n for n in names if n[0].islower()]
            assert names == sorted(constants) + sorted(classes) + sorted(functions)
