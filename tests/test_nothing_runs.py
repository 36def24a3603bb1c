"""Nothing in the project can run what a file says: no unpickling, no eval, no shell, no HTML from outside."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = [
    ROOT / "streamlit_app.py",
    *(p for part in ("mer", "pages") for p in sorted((ROOT / part).rglob("*.py"))),
]
# Modules whose import is enough: each of them unpickles, or runs text.
IMPORTS = {
    "pickle",
    "cPickle",
    "_pickle",
    "dill",
    "cloudpickle",
    "joblib",
    "shelve",
    "marshal",
    "yaml",
    "jsonpickle",
}
# MLflow's flavours keep models as pickles.
FLAVOURS = {"mlflow.pytorch", "mlflow.sklearn", "mlflow.pyfunc", "mlflow.models"}
CALLS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "pandas.read_pickle", "torch.hub.load",
    "st.html", "components.html", "st.components.v1.html",
}  # fmt: skip
OWN = {"st.html(LOOK)"}  # the stylesheet of the pages, a file of this project
# A call that is safe only with this keyword at this value.
NEEDS = {
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
}
NEVER = {
    "weights_only": False,
    "shell": True,
    "unsafe_allow_html": True,
    "allow_pickle": True,
    "unsafe_allow_javascript": True,
}


def dangers(source: str) -> list[str]:
    """What in a piece of Python could run what a file says, each with its line."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom):
                names = [node.module or "", *(f"{node.module}.{name}" for name in names)]
            found += [
                f"{node.lineno}: import {n}" for n in names if n.split(".")[0] in IMPORTS or n in FLAVOURS
            ]
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            given = {word.arg: getattr(word.value, "value", ...) for word in node.keywords}
            if (name in CALLS and ast.unparse(node) not in OWN) or name.startswith(tuple(FLAVOURS)):
                found.append(f"{node.lineno}: {name}")
            if name in NEEDS and given.get(NEEDS[name][0]) is not NEEDS[name][1]:
                found.append(f"{node.lineno}: {name} without {NEEDS[name][0]}")
            found += [
                f"{node.lineno}: {word}={value}" for word, value in NEVER.items() if given.get(word) == value
            ]
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
@pytest.mark.promise("Nothing is unpickled or evaluated, and no shell is opened.")
def test_no_source_can_run_what_a_file_says(path):
    assert dangers(path.read_text("utf-8")) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "import mlflow.pytorch",
        "from mlflow import sklearn",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path)",
        "numpy.load(path, allow_pickle=True)",
        "eval(text)",
        "subprocess.run(words, shell=True)",
        "st.markdown(text, unsafe_allow_html=True)",
        "st.html(text)",
        "import yaml",
    ],
)
def test_each_danger_would_be_found(line):
    assert dangers(line)


def test_the_safe_forms_are_no_danger():
    assert not dangers("torch.load(path, weights_only=True); np.load(path, allow_pickle=False); model.eval()")
