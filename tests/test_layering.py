"""The core imports in one direction only, and never the dashboard."""

import ast
from pathlib import Path

import pytest

CORE = Path(__file__).parents[1] / "mer"

# Each name may import those above it; names on one line do not import each other.
ORDER = """
names probabilities
errors
formats
settings
banded calibration cluster config controls files machine pace quality sources tables tensors
access arrays parallel presets resampling stamps
audio
features spreading
masking preview store
augment descriptors
upkeep
datasets
library splits
bags hashed heads weights
backbones
deletion gathering metrics losses norms ranks windows
agreement comparison feeds gradcam published shards
combining frozen
answers frozen_shards sharded
training
runs schema server
artifacts connection listing resume
tracking cards
beats callbacks checkpoints material outcomes results
baseline judging ladder outset
records inference
ensembles joining
estimate evaluation experiments explain following landscape leaks portable serving stimuli timeline verdicts
drawing jobs
hands
fleet
cli
"""
LEVEL = {name: level for level, line in enumerate(ORDER.strip().splitlines()) for name in line.split()}


def modules():
    return sorted(
        p for p in CORE.rglob("*.py") if p.name not in ("__main__.py",) and p != CORE / "__init__.py"
    )


def part(path: Path) -> str:
    return path.relative_to(CORE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
    return names


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(CORE)))
def test_a_module_imports_only_from_layers_below_it(path):
    own = part(path)
    below = {name.split(".")[1] for name in imported(path) if name.startswith("mer.")} - {own}
    upward = {name for name in below if LEVEL[name] >= LEVEL[own]}
    assert not upward, f"mer/{own} imports {', '.join(sorted(upward))}"


def test_every_module_has_its_layer():
    assert {part(path) for path in modules()} == set(LEVEL)


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(CORE)))
def test_the_core_never_imports_the_dashboard(path):
    assert not {name.split(".")[0] for name in imported(path)} & {"streamlit", "pages", "plotly"}


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(CORE)))
def test_mlflow_is_known_to_few_modules_alone(path):
    knows = any(name.split(".")[0] == "mlflow" for name in imported(path))
    assert not knows or part(path) in ("artifacts", "connection", "runs", "schema", "server", "tracking")


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(CORE)))
def test_all_is_sorted_where_it_is_given(path):
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            names = [element.value for element in node.value.elts]
            constants = [n for n in names if n.isupper()]
            classes = [n for n in names if not n.isupper() and n[0].isupper()]
            functions = [n for n in names if n[0].islower()]
            assert names == sorted(constants) + sorted(classes) + sorted(functions)
