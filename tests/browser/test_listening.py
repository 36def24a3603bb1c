"""Hearing: a first visit, an upload, a recording, a cell of a confusion matrix, each in a real browser."""

import io
import re

import numpy as np
import pytest
import soundfile

from mer.data.demo.example import example_clip
from tests.browser.conftest import settle, shows, text_of
from tests.media import CONTAINERS, encode

EMOTIONS = "Romantic|Happy|Sad|Devotional|Party"


@pytest.fixture(scope="module")
def melody(tmp_path_factory):
    """12 s of a slow tune, 44.1 kHz stereo: no emotion is expected of it, only an answer."""
    rate, notes = 44_100, (220, 262, 330, 392, 330, 262)
    parts = [
        np.sin(2 * np.pi * note * np.arange(2 * rate) / rate) * np.exp(-np.arange(2 * rate) / rate)
        for note in notes
    ]
    path = tmp_path_factory.mktemp("sound") / "धुन melody.wav"
    soundfile.write(path, 0.5 * np.stack([np.concatenate(parts)] * 2, axis=1), rate)
    return path


def verdict(page):
    """The headline of a prediction: an emotion and its percent."""
    found = page.get_by_role("heading", name=re.compile(rf"^({EMOTIONS}).*\d+%$"))
    found.first.wait_for()
    return found.first.inner_text()


def upload(page, address, clip):
    """Give a clip to the page, wait for its verdict, and return it."""
    page.goto(address)
    settle(page)
    page.locator("input[type=file]").set_input_files(str(clip))
    found = verdict(page)
    settle(page)
    return found


def test_a_first_visit_offline_gives_a_prediction_in_one_click(empty_server, page):
    strangers = []
    page.on("request", lambda request: strangers.append(request.url))
    page.goto(empty_server.url)
    page.get_by_role("button", name="Try a clip").click()
    assert verdict(page)
    page.locator("audio").first.wait_for()
    page.locator(".js-plotly-plot").nth(1).wait_for()
    assert not empty_server.home.exists() or not any(empty_server.home.iterdir())
    local = (empty_server.url, f"ws://localhost:{empty_server.port}", "data:", "blob:")
    assert [url for url in strangers if not url.startswith(local)] == []


def test_a_page_opened_before_the_home_page_has_the_navigation(empty_server, page):
    page.goto(f"{empty_server.url}/study")
    settle(page)
    for name in ("Home", "Predict", "Data", "Train", "Live", "Compare", "Confusion", "2022 study", "Ladder"):
        assert page.get_by_role("link", name=name, exact=False).count() >= 1
    assert "98 clips" in text_of(page)


def test_an_uploaded_clip_is_predicted_over_time_and_downloaded(server, page, melody):
    upload(page, f"{server.url}/predict?source=Upload&model=demo_mobilenet_v3_small", melody)
    page.get_by_text("Emotion over time").wait_for()  # 12 s are more than one window
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV").click()
    rows = download.value.path().read_text("utf-8").splitlines()
    assert rows[0].startswith("file,model,part,start_s,end_s")
    assert rows[1].startswith("धुन melody.wav")
    assert len(rows) == 1 + 1 + 2  # header, whole clip, two windows


@pytest.mark.parametrize("suffix", ["m4a", "opus", "webm"])
def test_a_clip_of_a_phone_messenger_or_browser_has_the_emotion_of_the_original(
    server, page, tmp_path, suffix
):
    samples, rate = soundfile.read(io.BytesIO(example_clip("Happy")))
    kind = next(kind for kind in CONTAINERS if kind.suffix == suffix)
    clip = tmp_path / f"clip.{suffix}"
    clip.write_bytes(encode(samples, rate, kind))
    found = upload(page, f"{server.url}/predict?source=Upload&model=demo_mobilenet_v3_small", clip)
    assert found.startswith("Happy")


def test_an_upload_goes_to_the_model_that_was_trained_on_real_music(server, page, melody):
    upload(page, f"{server.url}/predict?source=Upload", melody)
    assert "4 joined networks · Emotify" in text_of(page)


def test_a_recording_is_predicted(server, browsing, melody):
    microphone = (
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={melody}",
    )
    with browsing(*microphone, permissions=["microphone"]) as page:
        page.goto(f"{server.url}/predict?source=Record&model=demo_mobilenet_v3_small")
        settle(page)
        page.get_by_role("button", name="Record", exact=True).last.click()
        page.wait_for_timeout(4000)
        page.get_by_role("button", name=re.compile("Stop recording")).click()
        assert verdict(page)
        assert "silent" not in text_of(page)


def test_the_marked_part_of_a_clip_and_the_rest_can_be_played(server, page, melody):
    page.goto(f"{server.url}/predict?source=Upload&model=demo_mobilenet_v3_small")
    settle(page)
    page.locator("input[type=file]").set_input_files(str(melody))
    assert verdict(page)
    settle(page)
    shows(page, 1, "audio")
    page.get_by_text("Explain", exact=True).click()
    page.get_by_text("Everything else").wait_for()
    settle(page)
    shows(page, 3, "audio")
    assert "Evidence for" in text_of(page)
    assert "area under the curve" in text_of(page)
    for number in (1, 2):
        heard = (
            page.locator("audio")
            .nth(number)
            .evaluate(
                "audio => new Promise((done, fail) => {"
                " audio.onerror = () => fail(audio.error.message); audio.muted = true;"
                " audio.ontimeupdate = () => { if (audio.currentTime > 0.3) {"
                "  audio.pause(); done({at: audio.currentTime, length: audio.duration}); } };"
                " audio.play().catch(fail); })"
            )
        )
        assert heard["at"] > 0.3
        assert heard["length"] == pytest.approx(12, abs=0.2)


def test_a_click_on_a_confusion_cell_lists_its_clips(server, page):
    page.goto(f"{server.url}/confusion")
    settle(page)
    plot = page.locator(".js-plotly-plot").first
    page.wait_for_function("() => document.querySelector('.js-plotly-plot')?._fullData?.[0]?.z")
    cells = plot.evaluate(
        "plot => plot._fullData[0].z.flatMap((row, i) => Array.from(row).map((n, j) =>"
        " [n, plot._fullData[0].y[i], plot._fullData[0].x[j], i, j]))"
    )
    count, true, said, i, j = max(cells, key=lambda cell: (cell[1] == cell[2], cell[0]))  # not the default
    box = plot.locator(".nsewdrag").first.bounding_box()
    x = box["x"] + (j + 0.5) * box["width"] / 5
    y = box["y"] + (i + 0.5) * box["height"] / 5
    page.mouse.move(x, y)
    page.mouse.click(x, y)
    page.get_by_text(re.compile(rf"{count:.0f} clips? of {true} predicted as {said}")).wait_for()
    settle(page)
    shows(page, min(count, 5), "audio")
    assert f"true={true}" in page.url
    assert f"said={said}" in page.url
    loaded = page.locator("audio").first.evaluate(
        "audio => new Promise(done => { if (audio.readyState > 0) done(audio.duration);"
        " audio.onloadedmetadata = () => done(audio.duration); audio.load(); })"
    )
    assert loaded == pytest.approx(10, abs=0.2)


def test_a_link_opens_the_same_view_in_another_browser(server, browsing, page):
    page.goto(f"{server.url}/confusion?true=Sad&said=Sad&show=row+%25")
    last = "The six matrices of the 2022 study"
    page.get_by_text(last).wait_for()
    settle(page)
    with browsing() as other:
        other.goto(page.url)
        other.get_by_text(last).wait_for()
        settle(other)
        assert other.url == page.url
        assert text_of(other) == text_of(page)
        assert other.get_by_role("radio", name="row %").is_checked()
