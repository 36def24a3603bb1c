"""Reading pages by every means: axe finds nothing serious, in both themes, on wide and narrow screens."""

import pytest

from tests.browser.conftest import settle
from tests.page_helpers import TITLES

LOOKS = (("light", 1440), ("dark", 390))
OTHER_LOOKS = (("light", 390), ("dark", 1440))
GRAVE = ("serious", "critical")
# Findings in what Streamlit 1.67 draws, which a page cannot change: rule of axe, CSS, reason.
STREAMLITS = (
    ("list", "[data-testid=stSidebarNavItems]", "groups of the menu are not list items"),
    ("listitem", "[data-testid=stSidebarNavItems] li", "links of a group lie in a div, not in the list"),
)


@pytest.fixture
def axe():
    """Axe-core, of the package axe-playwright-python."""
    found = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    return found.Axe()


def ours(page, finding):
    """The parts of a finding that are not Streamlit's own, as HTML with the measured fault."""
    for node in finding["nodes"]:
        (place,) = node["target"][-1:]
        known = [css for rule, css, _ in STREAMLITS if rule == finding["id"]]
        if not any(
            page.evaluate("([at, css]) => document.querySelector(at)?.matches(css)", [place, css])
            for css in known
        ):
            yield f"{finding['id']}: {node['html'][:200]} {[part['message'] for part in node['any']]}"


@pytest.mark.parametrize(
    "looks", [LOOKS, pytest.param(OTHER_LOOKS, marks=pytest.mark.long)], ids=["usual", "other"]
)
@pytest.mark.parametrize("name", sorted(TITLES))
def test_axe_finds_nothing_serious(server, page, axe, name, looks):
    page.goto(f"{server.url}/{'' if name == 'home' else name}")
    if name == "home":
        page.get_by_role("button", name="Try a clip").click()
        page.get_by_text("Probability of each emotion").wait_for()
    found = []
    for theme, width in looks:
        page.emulate_media(color_scheme=theme)
        page.set_viewport_size({"width": width, "height": 900})
        settle(page)
        answer = axe.run(page).response
        grave = [one for one in answer["violations"] if one["impact"] in GRAVE]
        found += [f"{theme} {width}: {text}" for one in grave for text in ours(page, one)]
    assert found == []


def test_every_chart_and_picture_has_words(server, page):
    page.goto(server.url)
    page.get_by_role("button", name="Try a clip").click()
    page.get_by_text("Probability of each emotion").wait_for()
    settle(page)
    assert (
        page.locator("[data-testid=stPlotlyChart]").count()
        == page.locator(
            "[data-testid=stPlotlyChart][aria-label], [data-testid=stPlotlyChart] [aria-label]"
        ).count()
    )
    assert page.locator("img:not([alt])").count() == 0
