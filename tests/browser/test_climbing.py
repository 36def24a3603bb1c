"""The page Ladder from the button to its last rung, in a real browser. Minutes: twelve runs."""

import re
import time

import pytest

from mer.experiments.study2022.ladder import rungs
from tests.browser.conftest import settle, text_of

MINUTES = 15  # on two cores that others use too; six or so on idle ones


@pytest.mark.long
@pytest.mark.timeout(60 * (MINUTES + 3))
def test_a_ladder_is_launched_and_watched_to_its_result(server, page):
    page.goto(f"{server.url}/ladder?network=mobilenet_v3_small&weights=none")
    page.get_by_role("button", name="Launch the ladder").wait_for()
    settle(page)
    page.get_by_role("button", name="Launch the ladder").click()
    count = len(rungs())
    page.get_by_text(re.compile(rf"\d+ of {count} rungs finished")).wait_for()
    page.wait_for_url("**/ladder?*ladder=*")
    deadline = time.monotonic() + 60 * MINUTES
    while page.get_by_role("button", name="Stop the ladder").count():
        assert time.monotonic() < deadline, text_of(page)
        time.sleep(2)
    settle(page)
    words = text_of(page).replace("\u00a0", " ")
    runs = [run for run in server.mer("runs", "list")["runs"] if " · " in run["name"]]
    assert {run["status"] for run in runs} == {"finished"}
    assert len(runs) == count
    for rung in rungs():
        assert rung.title in words
    assert words.count("p = ") + words.count("p < ") >= count - 3  # all but the lowest and the two beside it
    assert "other test clips" in words
    chart = page.locator(".js-plotly-plot").first
    assert len(chart.evaluate("plot => Array.from(plot._fullData[0].y)")) == count
    assert "Published: mobilenet_v3_small on MER500" in page.locator(".js-plotly-plot").nth(2).inner_text()
    with_link = page.url
    page.goto(with_link)
    settle(page)
    assert page.url == with_link
