"""What a class stumbles over: narrow screens, lost settings and clips, a player that stops or is mute."""

import io

import pytest
import soundfile

from mer.data.demo.example import example_clip
from tests.browser.conftest import settle, shows, text_of

MODEL = "demo_mobilenet_v3_small"
PHONE, TABLET = {"width": 390, "height": 844}, {"width": 1024, "height": 700}
CUT = """() => [...document.querySelectorAll(
    '[data-testid=stMetricValue], [data-testid=stMetricValue] *, [data-testid=stButtonGroup] > *')]
    .filter(one => one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).overflow !== 'visible')
    .map(one => one.innerText)"""
SPOTS = """plot => plot._fullData.filter(trace => trace.stackgroup).flatMap(trace => Array.from(trace.x).map(
    (x, i) => ({x: plot._fullLayout.xaxis._offset + plot._fullLayout.xaxis.l2p(x),
                y: plot._fullLayout.yaxis3._offset + plot._fullLayout.yaxis3.l2p(trace.y[i])})))"""


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """25 s of examples in WAV and in AIFF."""
    folder = tmp_path_factory.mktemp("clips")
    parts = [soundfile.read(io.BytesIO(example_clip(label)))[0] for label in ("Sad", "Party", "Happy")]
    samples = [sample for part in parts for sample in part][: 25 * 16_000]
    for suffix in ("wav", "aiff"):
        soundfile.write(folder / f"long.{suffix}", samples, 16_000)
    return folder


def go(page, name):
    """Take another page from the menu."""
    page.get_by_test_id("stSidebarNav").get_by_role("link", name=name).click()
    page.wait_for_url(f"**/{name.lower()}*")
    settle(page)


def upload(page, server, clip):
    page.goto(f"{server.url}/predict?source=Upload&model={MODEL}")
    settle(page)
    page.locator("input[type=file]").set_input_files(str(clip))
    page.get_by_text("Similar bars mean").wait_for()
    settle(page)


def playing(page):
    """Start the first player without sound and mark it; `still_playing` asks for it."""
    page.locator("audio").first.evaluate(
        "audio => { Object.assign(audio, {muted: true, loop: true}); audio.dataset.mark = 'same';"
        " return audio.play(); }"
    )


def still_playing(page):
    return page.locator("audio").first.evaluate("audio => !audio.paused && audio.dataset.mark === 'same'")


def test_changed_settings_outlive_another_page_and_a_reload_and_back_needs_one_press(server, page):
    page.goto(f"{server.url}/train?preset=full")
    settle(page)
    page.get_by_text("Settings", exact=True).click()
    page.get_by_role("tab", name="Training").click()
    entries = page.evaluate("history.length")
    for label, value in (("Epochs", "7"), ("Batch size (windows)", "8"), ("Epochs", "9")):
        field = page.get_by_label(label, exact=True)
        field.fill(value)
        field.press("Enter")
        settle(page)
    assert page.evaluate("history.length") == entries
    assert "--batch-size 8 --epochs 9" in text_of(page)
    go(page, "Compare")
    go(page, "Train")
    assert "--batch-size 8 --epochs 9" in text_of(page)
    page.reload()
    settle(page)
    assert "--batch-size 8 --epochs 9" in text_of(page)


def test_an_uploaded_clip_is_kept_while_another_page_is_visited(server, page, clips):
    upload(page, server, clips / "long.wav")
    go(page, "Compare")
    go(page, "Predict")
    page.get_by_text("Kept: long.wav").wait_for()
    assert "Similar bars mean" in text_of(page)
    page.get_by_role("button", name="Remove", exact=True).click()
    page.get_by_text("No clip yet").wait_for()


def test_a_clip_goes_on_playing_while_it_is_explained_and_described(server, page, clips):
    upload(page, server, clips / "long.wav")
    shows(page, 1, "audio")
    playing(page)
    page.get_by_text("Explain", exact=True).click()
    page.get_by_text("Everything else").wait_for()
    settle(page)
    assert still_playing(page)
    page.get_by_text("Tags", exact=True).click()
    page.get_by_text("Tags that listeners and editors").wait_for()
    assert still_playing(page)


def test_the_window_that_is_clicked_is_played_and_explained(server, page, clips):
    upload(page, server, clips / "long.wav")
    page.get_by_text("Explain", exact=True).click()
    page.get_by_text("Everything else").wait_for()
    settle(page)
    plot = page.locator(".js-plotly-plot").first
    spot, box = plot.evaluate(SPOTS)[2], plot.bounding_box()
    page.mouse.move(box["x"] + spot["x"], box["y"] + spot["y"])
    page.mouse.click(box["x"] + spot["x"], box["y"] + spot["y"])
    page.wait_for_function("[...document.querySelectorAll('input')].some(one => one.value === '10 to 20 s')")
    settle(page)
    assert page.locator("audio").first.evaluate("audio => audio.currentTime") >= 10


def test_a_clip_of_a_cell_goes_on_playing_while_it_is_explained(server, page):
    page.goto(f"{server.url}/confusion")
    settle(page)
    playing(page)
    page.get_by_text("Spectrogram", exact=True).first.click()
    page.get_by_text("Log-mel spectrogram").wait_for()
    page.get_by_text("Explain", exact=True).first.click()
    page.get_by_text("Evidence for").first.wait_for()
    settle(page)
    assert still_playing(page)


def test_aiff_can_be_played(server, page, clips):
    upload(page, server, clips / "long.aiff")
    length = page.locator("audio").first.evaluate(
        "audio => new Promise((done, fail) => { if (audio.readyState > 0) done(audio.duration);"
        " audio.onloadedmetadata = () => done(audio.duration);"
        " audio.onerror = () => fail(audio.error.message); audio.load(); })"
    )
    assert length == pytest.approx(25, abs=0.1)


@pytest.mark.parametrize("name", ["home", "predict", "data"])
def test_nothing_is_cut_on_a_narrow_window_and_no_chart_is_covered(server, page, name):
    page.set_viewport_size(TABLET)
    page.goto(f"{server.url}/{'' if name == 'home' else name}")
    for size in (TABLET, {"width": 960, "height": 600}, PHONE):
        page.set_viewport_size(size)
        settle(page)
        assert page.evaluate(CUT) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator(".modebar").count() == 0
    assert page.locator(".js-plotly-plot :is(a, button, [tabindex='0'])").count() == 0
