"""A class votes: one listener in a real browser, and thirty at once."""

import asyncio
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from streamlit.proto.WidgetStates_pb2 import WidgetState

from mer.data.listening import create, find
from mer.data.load import load_dataset
from tests.browser.conftest import ROOT
from tests.browser.tab import Tab
from tests.run_helpers import write_songs

CLASS, CLIPS = 30, 4


@pytest.fixture(scope="module")
def school(empty_server, tmp_path_factory):
    """The server, whose library has eight clips."""
    corpus = write_songs(tmp_path_factory.mktemp("school") / "songs", songs=2)
    code = f"from mer.data.library import add; add({str(corpus)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=empty_server.settings, check=True)
    return empty_server, corpus


@pytest.fixture
def in_its_home(school, monkeypatch):
    """This process uses the home of the server."""
    monkeypatch.setenv("MER_HOME", str(school[0].home))


def test_a_vote_goes_from_a_link_to_a_data_set(school, in_its_home, browsing, page):
    server, _ = school
    page.goto(f"{server.url}/vote")
    page.get_by_role("button", name="Open the vote").click()
    link = page.locator("code").filter(has_text="session=").inner_text()
    session = find(link.partition("=")[2])
    with browsing(has_touch=True, is_mobile=True) as phone:
        phone.set_viewport_size({"width": 390, "height": 844})
        phone.goto(link)
        phone.get_by_label("Nickname").fill("आशा")
        phone.get_by_role("button", name="Begin").click()
        for number in range(len(session.pieces)):
            phone.get_by_role("heading", name=f"Clip {number + 1}", exact=True).wait_for()
            phone.get_by_role("radio", name=re.compile("^(Happy|Sad)")).nth(number % 2).click()
            phone.get_by_role("button", name="Save and go on").click()
            if number == 0:
                phone.get_by_role("heading", name="Clip 2", exact=True).wait_for()
                phone.reload()
        phone.get_by_text("All your choices are saved").wait_for()
    assert {vote.listener for vote in session.votes()} == {"आशा"}
    page.get_by_text(f"1 listener, {len(session.pieces)} of {len(session.pieces)} votes").wait_for()
    page.get_by_text("Show the results").click()
    page.get_by_role("button", name="Make a data set of the votes").click()
    page.get_by_text("Train on the votes").wait_for()
    assert page.get_by_test_id("stException").count() == 0
    data = load_dataset(session.folder / "labels.csv", label_column=session.label_column)
    assert len(data.clips) == len(session.pieces)


async def listen(server, key: str, number: int) -> list[str]:
    """Join and vote on every clip; returns the errors that were shown."""
    tab = Tab(server.url)
    await tab.open("vote", f"session={key}")
    (name,), (button,) = tab.found("text_input"), tab.found("button")
    joined = [WidgetState(id=name.id, string_value=f"listener {number}")]
    await tab.run(*joined, WidgetState(id=button.id, trigger_value=True), kind="join")
    for _ in range(CLIPS):
        emotion = next(group for group in tab.found("button_group") if "emotion" in group.label)
        choice = WidgetState(id=emotion.id)
        choice.string_array_value.data.append(emotion.options[number % 2].content)
        await tab.run(choice, kind="choose")
        (save,) = [button for button in tab.found("button") if button.label == "Save and go on"]
        await tab.run(choice, WidgetState(id=save.id, trigger_value=True), kind="vote")
    await tab.close()
    return tab.errors


@pytest.mark.promise("Thirty listeners who vote at once lose no vote.")
def test_thirty_listeners_at_once_lose_no_vote(school, in_its_home):
    server, corpus = school
    session = create("all at once", load_dataset(corpus).clips[:CLIPS], ("Happy", "Sad"))

    async def everyone() -> list[list[str]]:
        return await asyncio.gather(*(listen(server, session.key, number) for number in range(CLASS)))

    with ThreadPoolExecutor(1) as other:  # Playwright's own loop runs in this thread
        assert not any(other.submit(asyncio.run, everyone()).result())
    assert session.counts() == [{"Happy": CLASS // 2, "Sad": CLASS // 2}] * CLIPS
