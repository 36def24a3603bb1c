"""Predict: from a clip to a prediction with its warnings, and to downloads."""

import csv
import io
import json

import numpy as np
import pytest
import soundfile

from mer.audio.formats import AUDIO_NAMES, AUDIO_SUFFIXES
from mer.audio.quality import of_music
from mer.inference.predictor import Prediction, Window
from mer.models.card import load_card
from pages._ui.cached.models import SHIPPED
from pages._ui.charts import base
from pages._ui.parts import clip, downloads
from tests.media import CONTAINERS, encode
from tests.page_helpers import as_read, by_label, errors, opened, page_at, said

CARD = load_card(SHIPPED / "demo_mobilenet_v3_small")
SURE = {"Devotional": 0.05, "Happy": 0.05, "Party": 0.1, "Romantic": 0.1, "Sad": 0.7}
SPLIT = {"Devotional": 0.0, "Happy": 0.05, "Party": 0.2, "Romantic": 0.35, "Sad": 0.4}
MODEL = "demo_mobilenet_v3_small"
OTHER = "emotify_music"


class FakePredictor:
    """A model that predicts the probabilities `shares` for every window, one every 5 s."""

    card = CARD

    def __init__(self):
        self.shares, self.heard = SURE, []

    def answer(self, waveform, remarks=()):
        self.heard.append(len(waveform) / 16_000)
        starts = range(0, max(1, int(self.heard[-1]) - 5), 5)
        windows = tuple(Window(float(start), start + 10.0, self.shares) for start in starts)
        return Prediction("Sad", self.shares, windows, (*remarks, *of_music(waveform, 16_000)))


@pytest.fixture(autouse=True)
def network(monkeypatch):
    fake = FakePredictor()
    monkeypatch.setattr(clip, "predictor", lambda model: fake)
    return fake


@pytest.fixture
def taken(monkeypatch):
    """Content of the download buttons, by file name."""
    found, real = {}, downloads.st.download_button

    def offer(label, data, file_name, *rest, **more):
        found[file_name] = data
        return real(label, data, file_name, *rest, **more)

    monkeypatch.setattr(downloads.st, "download_button", offer)
    return found


def wav(samples, rate=16_000):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV")
    return file.getvalue()


@pytest.fixture(scope="module")
def song(sound):
    """Changing chords, which give no warning."""
    chords = [sound.chord((220.0 * up, 277.2 * up, 330.0 * up), 1.0) for up in (1, 1.2, 0.8, 1.5, 1.1, 0.9)]
    return wav(np.concatenate([chord * np.linspace(1, 0.2, 16_000) for chord in chords]).astype(np.float32))


def test_a_file_that_is_cut_has_a_warning(song):
    page = uploaded(("cut.wav", song[: len(song) // 2]))
    (warning,) = warnings(page)
    assert warning.replace("\\", "") == "Do not rely on this. It is cut: 3.0 of its 6.0 s can be read."


def uploaded(*files, **query):
    app = page_at("predict", source="Upload", **query).run()
    app.file_uploader[0].set_value([(name, content, "audio/wav") for name, content in files])
    return app.run()


def warnings(app):
    return [warning.value for warning in app.warning]


def test_an_example_is_predicted_at_once(network):
    app = opened("predict")
    assert app.subheader[0].value == "Sad दुख, 70%"
    assert "synthetic music" in said(app)
    assert network.heard == [10]
    assert errors(app) == warnings(app) == []


def test_an_uploaded_file_is_predicted(song):
    app = uploaded(("दिल_1.wav", song))
    assert app.subheader[0].value == "Sad दुख, 70%"
    assert r"**दिल\_1\.wav**" in said(app)
    assert errors(app) == warnings(app) == []
    assert len(app.get("audio")) == 1


def test_a_file_that_is_removed_from_the_uploader_is_not_kept(song):
    app = uploaded(("a.wav", song))
    app.file_uploader[0].set_value([]).run()
    assert any("No clip yet" in info.value for info in app.info)
    assert "Kept" not in said(app)


def test_a_recording_is_kept_while_other_pages_are_visited(sound):
    app = page_at("predict", source="Record").run()
    app.audio_input[0].upload("recording.wav", wav(sound.chirp(seconds=3)))
    app.run().switch_page("study.py").run()
    del app.session_state["recording"]  # a browser forgets it, AppTest does not
    app.switch_page("predict.py").run()
    assert app.subheader[0].value == "Sad दुख, 70%"
    assert r"Kept: recording\.wav" in said(app)
    by_label(app.button, "Remove").click().run()
    assert any("No clip yet" in info.value for info in app.info)
    assert errors(app) == []


@pytest.mark.parametrize(
    ("kind", "played"), [("WAV", "audio/wav"), ("AIFF", "audio/flac"), ("AU", "audio/flac")]
)
def test_a_clip_is_played_in_a_format_that_every_browser_plays(sound, kind, played):
    file = io.BytesIO()
    soundfile.write(file, sound.chirp(seconds=3), 16_000, format=kind, subtype="PCM_16")
    app = uploaded((f"clip.{kind.lower()}", file.getvalue()))
    assert app.get("audio")[0].proto.url.endswith({"audio/wav": ".wav", "audio/flac": ".flac"}[played])


def test_before_an_upload_the_page_says_how_to_give_a_clip():
    app = opened("predict", source="Upload")
    assert any("No clip yet" in info.value for info in app.info)
    assert not app.download_button


def test_an_unsure_prediction_is_marked(network, song):
    network.shares = SPLIT
    assert any("Unsure" in info.value for info in uploaded(("a.wav", song)).info)
    network.shares = SURE
    assert not any("Unsure" in info.value for info in uploaded(("b.wav", song)).info)


@pytest.mark.parametrize(
    ("name", "words"), [("short", "too short to tell music by"), ("noise", "noise rather than music")]
)
def test_an_unreliable_prediction_has_a_warning(sound, name, words):
    content = {"short": wav(sound.chirp(seconds=0.7)), "noise": wav(sound.noise(4.0))}[name]
    app = uploaded(("a.wav", content))
    assert any("Do not rely on this" in text and words in text for text in warnings(app))
    assert app.subheader[0].value == "Sad दुख, 70%"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("silent.wav", wav(np.zeros(32_000, np.float32)), "silent.wav: silent, nothing above -80 dBFS"),
        ("empty.wav", b"", "empty.wav: empty, 0 bytes"),
        ("words.wav", b"no sound at all", "words.wav: text, not audio"),
        ("cut.wav", wav(np.full(1600, 0.5, np.float32)), "cut.wav: 0.10 s, shorter than 0.5 s"),
    ],
)
def test_a_file_that_cannot_be_decoded_gives_one_error(name, content, words):
    app = uploaded((name, content))
    (error,) = errors(app)
    assert words in error
    assert not app.download_button


def test_a_broken_file_does_not_stop_the_other_predictions(song):
    app = uploaded(("broken.wav", b"RIFF, or not"), ("good.wav", song), ("better.wav", song))
    (error,) = errors(app)
    assert error.startswith("broken.wav: text, not audio")
    assert app.selectbox(key="clip").options == ["good.wav", "better.wav"]
    assert r"**good\.wav**" in said(app)


def test_a_broken_file_gives_one_error_for_all_models(song):
    app = uploaded(("broken.wav", b"RIFF, or not"), ("good.wav", song), model=[MODEL, OTHER])
    assert len(errors(app)) == 1
    assert len([text for text in app.subheader if "70%" in text.value]) == 2


def test_only_the_first_twenty_files_are_used(network, song):
    app = uploaded(*((f"{n}.wav", song) for n in range(21)))
    assert any("21 files; only the first 20 are used" in text for text in warnings(app))
    assert len(app.selectbox(key="clip").options) == 20


def test_a_longer_clip_shows_its_emotion_over_time(sound):
    app = uploaded(("long.wav", wav(sound.chirp(seconds=25))))
    assert any("Each point at the bottom is one window" in caption.value for caption in app.caption)
    assert "emotion over time" in app.get("plotly_chart")[0].proto.spec
    app = uploaded(("short.wav", wav(sound.chirp(seconds=5))))
    assert "emotion over time" not in app.get("plotly_chart")[0].proto.spec


@pytest.mark.parametrize(
    ("points", "start"), [([{"customdata": 2}], 10), ([], 0), ([{"customdata": 7}], 0), ([{"x": 3}], 0)]
)
def test_a_click_on_a_window_starts_the_player_there(points, start, monkeypatch, sound):
    real = base.st.plotly_chart

    def click(chart, **options):
        shown = real(chart, **options)
        return {"selection": {"points": points}} if "on_select" in options else shown

    monkeypatch.setattr(base.st, "plotly_chart", click)
    app = uploaded(("long.wav", wav(sound.chirp(seconds=25))))
    assert app.get("audio")[0].proto.start_time == start


def test_the_csv_has_a_row_for_the_clip_and_for_each_window(taken, sound):
    uploaded(("=1+1.wav", wav(sound.chirp(seconds=25))), model=MODEL)
    rows = list(csv.DictReader(io.StringIO(taken["predictions.csv"])))
    assert [row["part"] for row in rows] == ["whole clip", "window", "window", "window", "window"]
    assert rows[0]["file"] == "'=1+1.wav"
    assert (rows[0]["start_s"], rows[0]["end_s"], rows[0]["Sad"]) == ("0.0", "25.0", "0.7")
    assert sum(float(rows[1][name]) for name in SURE) == pytest.approx(1)
    assert rows[0]["model"] == CARD.title


def test_the_json_holds_whole_predictions(taken, song, sound):
    uploaded(("दिल.wav", song), ("noise.wav", wav(sound.noise(4.0))))
    first, second = json.loads(taken["predictions.json"])
    assert (first["file"], first["emotion"], first["probabilities"]) == ("दिल.wav", "Sad", SURE)
    assert first["windows"][0]["probabilities"] == SURE
    assert first["remarks"] == []
    assert "noise" in second["remarks"][0]
    assert "दिल" in taken["predictions.json"]


def test_a_recording_is_cut_to_a_minute_and_predicted(network, sound):
    app = page_at("predict", source="Record").run()
    app.audio_input[0].upload("recording.wav", wav(sound.chirp(seconds=70)))
    app.run()
    assert network.heard == [60]
    assert app.subheader[0].value == "Sad दुख, 70%"


@pytest.mark.parametrize("suffix", ["m4a", "opus", "webm", "wma"])
def test_what_phones_and_browsers_record_can_be_uploaded(suffix, network, sound):
    kind = next(one for one in CONTAINERS if one.suffix == suffix)
    app = uploaded((f"clip.{suffix}", encode(sound.chirp(seconds=3), 16_000, kind)))
    assert network.heard == [pytest.approx(3, abs=0.2)]
    assert app.subheader[0].value == "Sad दुख, 70%"


def test_the_uploader_names_and_accepts_every_format():
    uploader = page_at("predict", source="Upload").run().file_uploader[0]
    assert AUDIO_NAMES in uploader.label
    assert set(uploader.proto.type) >= AUDIO_SUFFIXES


def test_a_recording_of_a_browser_is_cut_to_a_minute(network, sound):
    webm = next(one for one in CONTAINERS if one.suffix == "webm")
    app = page_at("predict", source="Record").run()
    app.audio_input[0].upload("recording.wav", encode(sound.chirp(seconds=70), 16_000, webm))
    app.run()
    assert network.heard == [60]


def test_a_short_recording_is_not_cut(network, sound):
    app = page_at("predict", source="Record").run()
    app.audio_input[0].upload("recording.wav", wav(sound.chirp(seconds=3)))
    app.run()
    assert network.heard == [3]


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("http://192.168.0.7:8501/predict", True), ("http://music.example/predict", True),
        ("https://music.example/predict", False), ("http://localhost:8501/predict", False),
        ("http://127.0.0.1:8501/predict", False), ("http://[::1]:8501/predict", False),
    ],
)  # fmt: skip
def test_a_warning_is_shown_if_the_browser_gives_no_microphone(url, warned):
    app = page_at("predict", source="Record")
    app.context["url"] = url
    assert any("microphone" in text for text in warnings(app.run())) == warned


def test_an_address_opens_the_view_that_it_names():
    app = opened("predict", source="Example", example="Sad", model=OTHER)
    assert app.get("pills")[0].value == "Sad"
    assert app.multiselect[0].value == [OTHER]
    assert r"**example\_Sad\.wav** · 4 joined networks · Emotify" in said(app)


def test_unknown_values_in_the_address_are_not_used_and_unknown_models_are_named():
    app = opened("predict", source="Telepathy", example="Bored", model=["../../etc/passwd", "no such"])
    assert errors(app) == []
    assert app.multiselect[0].value == [MODEL]
    assert (app.session_state["source"], app.session_state["example"]) == ("Example", "Romantic")
    assert "No model '../../etc/passwd' or 'no such' here" in as_read(app.info[0].value)


def test_without_a_chosen_model_the_page_asks_for_one():
    app = page_at("predict").run()
    app.multiselect[0].set_value([]).run()
    assert [info.value for info in app.info] == ["Choose a model."]
    assert errors(app) == []


def test_without_any_model_the_page_links_to_train(monkeypatch, tmp_path):
    monkeypatch.setattr("pages._ui.cached.models.SHIPPED", tmp_path)
    app = opened("predict")
    assert any("No models yet" in info.value for info in app.info)
    assert [link.proto.page for link in app.main.page_link] == ["train"]


def test_models_trained_here_are_listed_after_the_shipped_ones(lab):
    options = opened("predict").multiselect[0].options
    assert len(options) == 6
    assert [title.rsplit(" · run ", 1)[-1] for title in options[3:]] == [
        lab.elsewhere[:8], lab.second[:8], lab.first[:8],
    ]  # fmt: skip


def test_a_model_is_shown_with_its_test_accuracy_and_licence():
    right = f"{CARD.metrics['song_accuracy']:.0%} ("
    assert f"Accuracy on test songs: {right}" in said(opened("predict", model=MODEL))
    assert "model trained on synthetic music" in said(opened("predict", model=MODEL))
    assert "trained on music under" in said(opened("predict", model=OTHER))


def test_a_model_trained_here_predicts_with_its_own_settings(lab, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("MER_HOME", str(lab.home))
    app = opened("predict", model=lab.first[:8])
    assert errors(app) == []
    assert app.subheader[0].value.split()[0] in ("Happy", "Sad")


def test_uploads_use_the_model_for_real_music_and_examples_the_other():
    app = opened("predict", source="Example")
    assert app.multiselect[0].value == [MODEL]
    app.segmented_control(key="source").set_value("Upload").run()
    assert app.multiselect[0].value == [OTHER]
    app.segmented_control(key="source").set_value("Example").run()
    assert app.multiselect[0].value == [MODEL]


def test_a_model_that_was_chosen_stays_for_every_sound():
    app = opened("predict", source="Example")
    app.multiselect[0].set_value([MODEL, OTHER]).run()
    app.segmented_control(key="source").set_value("Upload").run()
    assert app.multiselect[0].value == [MODEL, OTHER]


def test_tags_are_shown_on_demand(song):
    app = uploaded(("song.wav", song), model=MODEL)
    assert "MagnaTagATune" not in said(app)
    app.toggle(key="tags").set_value(True).run()
    assert errors(app) == []
    assert "MagnaTagATune: **" in said(app)
    assert "Million Song Dataset: **" in said(app)
