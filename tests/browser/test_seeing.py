"""Looking at runs: the map, whose points can be heard, and runs that are joined into one."""

import re

import pytest

from tests.browser.conftest import settle, text_of

SPOTS = """plot => plot._fullData.flatMap(trace => Array.from(trace.x).map((x, i) => ({
    x: plot._fullLayout.xaxis._offset + plot._fullLayout.xaxis.l2p(x),
    y: plot._fullLayout.yaxis._offset + plot._fullLayout.yaxis.l2p(trace.y[i]),
    name: trace.name, text: trace.text && trace.text[i],
}))).filter(spot => spot.text)"""  # in pixels from the corner of the chart


def test_a_point_of_the_map_is_heard_when_it_is_clicked(server, page):
    page.goto(f"{server.url}/map")
    settle(page)
    plot = page.locator(".js-plotly-plot").first
    spots = plot.evaluate(SPOTS)
    (run,) = server.runs().values()
    assert len(spots) == run.metrics["n_clips"]
    page.get_by_test_id("stMain").get_by_text("right or wrong").click()
    page.wait_for_url("**/map?*colour=right*")
    settle(page)
    spots = plot.evaluate(SPOTS)
    assert {spot["name"] for spot in spots} <= {"right", "wrong"}
    assert page.locator("audio").count() == 0
    box = plot.bounding_box()
    page.mouse.move(box["x"] + spots[0]["x"], box["y"] + spots[0]["y"])
    page.mouse.click(box["x"] + spots[0]["x"], box["y"] + spots[0]["y"])
    player = page.locator("audio")
    player.wait_for()
    settle(page)
    assert spots[0]["text"].partition(":")[0] in text_of(page)
    length = player.evaluate(
        "audio => new Promise(done => { if (audio.readyState > 0) done(audio.duration);"
        " audio.onloadedmetadata = () => done(audio.duration); audio.load(); })"
    )
    assert length == pytest.approx(10, abs=0.2)


def test_two_runs_are_joined_with_the_mouse(server, page):
    data = server.home / "data" / "demo"
    server.mer("train", "--data", data, "--preset", "quick", "--epochs", "2", "--lr", "0.02")
    alone = server.runs().keys()
    page.goto(f"{server.url}/compare")
    settle(page)
    page.get_by_role("button", name="Make an ensemble of these").click()
    page.get_by_text(re.compile(r"rank \d of 3 above")).wait_for()
    settle(page)
    (joined,) = [run for run in server.runs().values() if run.id not in alone]
    assert joined.status == "finished"
    assert joined.id[:8] in text_of(page)
    forest = page.locator(".js-plotly-plot").first.evaluate("plot => Array.from(plot._fullData[0].y)")
    assert any(joined.id[:8] in name for name in forest)
    page.goto(f"{server.url}/predict?model={joined.id[:8]}")
    page.get_by_text("Probability of each emotion").wait_for()
    assert joined.id[:8] in page.url
