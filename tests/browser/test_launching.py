"""Training from a page: launched, watched, left alone by a dying server, stopped and resumed."""

import re
import time

import psutil
import pytest

from tests.browser.conftest import settle, text_of

EPOCHS = 300  # of the whole network on few clips: longer than any test waits


@pytest.fixture
def launched(server, page):
    """A run launched with the mouse; cancelled at the end, whatever became of it."""
    before = server.runs().keys()
    page.goto(f"{server.url}/train?preset=full")
    page.get_by_role("button", name="Launch").wait_for()
    settle(page)
    page.get_by_text("Settings", exact=True).click()
    page.get_by_role("tab", name="Training").click()
    epochs = page.get_by_label("Epochs", exact=True)
    epochs.fill(str(EPOCHS))
    epochs.press("Enter")
    page.get_by_text(f"--epochs {EPOCHS}").wait_for()
    settle(page)
    page.get_by_role("button", name="Launch").click()
    page.wait_for_url("**/live?run=*")
    (run_id,) = server.runs().keys() - before
    yield run_id
    if status(server, run_id) in ("queued", "running"):
        server.mer("runs", "cancel", run_id)
    wait_until(lambda: status(server, run_id) not in ("running", "stopping"))


def status(server, run_id):
    """What the run store says; None if there is no such run any more."""
    run = server.runs().get(run_id)
    return run.status if run else None


def progress(server, run_id):
    """The share of its steps that a run has done."""
    return server.runs()[run_id].metrics["progress"]


def wait_until(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.5)


def ink(page):
    """How much is drawn in the chart of the loss: the length of its lines' paths."""
    return page.evaluate(
        "() => { const chart = document.querySelector('[data-testid=stVegaLiteChart]');"
        " if (!chart) return 0;"
        " return [...chart.querySelectorAll('path')].reduce((n, p) => n + p.getAttribute('d').length, 0) }"
    )


def labels(page):
    """What stands at the axes of the chart of the loss, in whichever order it was drawn."""
    return page.evaluate(
        "() => [...document.querySelectorAll('[data-testid=stVegaLiteChart]')[0]"
        ".querySelectorAll('.role-axis-label text')].map(label => label.textContent).sort().join(' ')"
    )


def training(page):
    """Wait until the curves are there."""
    page.get_by_text(re.compile(r"epoch \d+ of \d+")).first.wait_for()
    page.locator("[data-testid=stVegaLiteChart]").first.wait_for()
    page.wait_for_timeout(1500)


def process_of(run_id):
    return [p for p in psutil.process_iter(["cmdline"]) if run_id in (p.info["cmdline"] or [])]


def test_a_curve_grows_in_the_same_chart_which_stays_as_it_was_zoomed(launched, page):
    training(page)
    page.evaluate(
        "() => { document.querySelector('[data-testid=stVegaLiteChart] svg').dataset.mark = 'the same' }"
    )
    first = ink(page)
    wait_until(lambda: ink(page) > first)
    whole = labels(page)
    box = page.locator("[data-testid=stVegaLiteChart] svg").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 100)
    page.mouse.wheel(0, -600)
    page.wait_for_timeout(500)
    zoomed, steps = labels(page), text_of(page)
    assert zoomed != whole
    wait_until(lambda: text_of(page) != steps)  # the run has gone on
    page.wait_for_timeout(2000)
    assert labels(page) == zoomed
    assert page.evaluate(
        "() => document.querySelector('[data-testid=stVegaLiteChart] svg').dataset.mark === 'the same'"
    )


def test_a_run_survives_kill_9_of_the_server_and_is_found_again(server, launched, page):
    training(page)
    (before,) = {p.pid for p in process_of(launched)}
    server.kill()
    time.sleep(2)
    assert {p.pid for p in process_of(launched)} == {before}
    server.start()
    page.goto(f"{server.url}/live")  # without a hint: the page finds what is active
    training(page)
    assert launched[:8] in text_of(page)
    assert status(server, launched) == "running"
    assert {p.pid for p in process_of(launched)} == {before}


@pytest.mark.promise(
    "A run killed together with the dashboard's server is shown as interrupted and can be resumed."
)
def test_a_run_killed_together_with_the_server_is_shown_as_interrupted_and_resumed(server, launched, page):
    training(page)
    server.kill()
    for process in process_of(launched):
        process.kill()
    server.start()
    assert status(server, launched) == "interrupted"
    done = progress(server, launched)
    page.goto(f"{server.url}/live")
    page.get_by_text("interrupted").first.wait_for()
    page.get_by_role("button", name="Resume").first.click()
    wait_until(lambda: status(server, launched) == "running")
    wait_until(lambda: progress(server, launched) > done)


def test_a_run_is_stopped_and_resumed_with_the_mouse(server, launched, page):
    training(page)
    page.get_by_role("button", name="Stop").first.click()
    page.get_by_role("button", name="Resume").first.wait_for()
    assert status(server, launched) == "stopped"
    done = progress(server, launched)
    page.get_by_role("button", name="Resume").first.click()
    wait_until(lambda: status(server, launched) == "running")
    wait_until(lambda: progress(server, launched) > done)
    training(page)


def test_deleting_a_run_asks_first(server, launched, page):
    training(page)
    page.get_by_role("button", name="Stop").first.click()
    page.get_by_role("button", name="Resume").first.wait_for()
    settle(page)
    page.get_by_role("button", name="delete").first.click()
    page.get_by_text("It can be restored").wait_for()
    assert status(server, launched) == "stopped"
    page.get_by_role("button", name="Delete", exact=True).click()
    wait_until(lambda: status(server, launched) is None)
    page.get_by_text(f"{launched[:8]} was deleted").wait_for()
    page.get_by_role("button", name="Undo").click()
    wait_until(lambda: status(server, launched) == "stopped")
