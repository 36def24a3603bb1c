"""The docs: commands parse, links lead somewhere, versions are pinned, promises have tests."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest

import mer
from mer.cli.parser import build_parser
from tests import promises

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("checkpoints/*/card.md")])
REQUIREMENTS = sorted(path.name for path in ROOT.glob("requirements*.txt"))
CARDS = [page for page in PAGES if page.name == "card.md"]


def commands(page):
    """Each `python -m mer ...` of a page, in a block or in a line, without its comment."""
    for line in page.read_text("utf-8").splitlines():
        for found in re.findall(r"python -m mer [^`#]+", line):
            yield found.strip()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_in_the_docs_is_understood(page):
    for command in commands(page):
        words = shlex.split(command)[3:]
        if words[-1] not in ("--help", "..."):
            assert callable(build_parser().parse_args(words).run), command


def test_the_readme_has_both_commands_of_the_first_minute():
    text = (ROOT / "README.md").read_text("utf-8")
    assert "pip install -r requirements.txt && streamlit run streamlit_app.py" in text
    assert "pip install -r requirements-dev.txt && pytest" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text("utf-8")):
        assert "://" in target or (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_versions_are_pinned_exactly(name):
    for line in (ROOT / name).read_text().splitlines():
        assert re.fullmatch(r"-r requirements(-\w+)?\.txt|[\w-]+==[\d.]+", line), line


def test_every_requirement_has_its_reason():
    reasons = (ROOT / "docs" / "dependencies.md").read_text("utf-8")
    for name in REQUIREMENTS:
        for package in re.findall(r"^([\w-]+)==", (ROOT / name).read_text(), re.M):
            assert re.search(rf"^\| [^|]*\b{package}\b", reasons, re.M), package


def test_one_version_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    cited = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text("utf-8"), re.M)[1]
    assert project["version"] == cited == mer.__version__


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.parent.name)
def test_a_shipped_checkpoint_is_small_and_says_how_it_was_made(card):
    assert sum(file.stat().st_size for file in card.parent.iterdir()) < 12_000_000
    text = card.read_text("utf-8")
    assert "python -m mer train" in text
    assert "95% interval" in text


def test_the_table_of_promises_is_that_of_the_markers():
    text = promises.PAGE.read_text("utf-8")
    assert text == promises.page(text), "out of date: python -m tests.promises"


def test_a_promise_is_a_sentence_that_fits_into_a_table():
    found = promises.promises()
    assert found
    for promise in found:
        assert re.fullmatch(r"[A-Z`][^|\n]+\.", promise.sentence), promise.sentence
        assert not re.search(r"[|\n]", promise.measured), promise.sentence


def test_three_checkpoints_are_shipped():
    assert len(CARDS) == 3
