"""Data: adding data sets, reading their report, and following a clip to the input of the network."""

import io
import shutil
import zipfile

import pytest

from mer.data.library import add, known
from mer.utils.errors import DataError, MerError
from pages._ui.cached import datasets
from pages._ui.cached.datasets import report
from pages._ui.parts import add_data as adding
from pages._ui.parts import browse, steps
from pages._ui.shell import changes
from tests.page_helpers import as_read, by_label, errors, links, opened, page_at, said
from tests.run_helpers import write_songs


@pytest.fixture
def corpus(own_home, tmp_path, checked):
    """A data set of 16 clips in a home of its own."""
    add(write_songs(tmp_path / "songs"))
    return tmp_path / "songs"


def figures(app):
    return {metric.label: metric.value for metric in app.metric}


def clips(app):
    return list(app.dataframe[0].value["clip"])


def warnings(app):
    return [warning.value for warning in app.warning]


def add_folder(path):
    app = page_at("data").run()
    by_label(app.text_input, "Path on the server").set_value(str(path))
    by_label(app.button, "Add").click()
    return app.run()


def test_a_folder_is_added_and_shown(own_home, tmp_path, checked):
    app = add_folder(write_songs(tmp_path / "songs"))
    assert errors(app) == []
    assert figures(app) == {"Clips": "16", "Classes": "2", "Songs": "8", "Duration": "19 s", "Left out": "0"}
    (entry,) = known()
    assert app.query_params["data"] == entry.key
    assert "train" in links(app)


def test_songs_from_file_names_are_shown_and_can_be_turned_off(own_home, tmp_path, checked):
    root = write_songs(tmp_path / "songs")
    (root / "manifest.csv").unlink()
    for path in list(root.rglob("*.wav")):
        path.rename(path.with_name(f"{path.parent.name}_{int(path.stem[0]):03}{path.stem[1]}.wav"))
    app = add_folder(root)
    assert errors(app) == []
    assert figures(app)["Songs"] == "8"
    assert "by the pattern {song}{letter}" in as_read(said(app))
    assert app.dataframe[0].value["song"][0] == "Happy_000"
    by_label(app.button, "Do not use it").click()
    app.run()
    assert errors(app) == []
    assert "guessed from sound" in said(app)
    assert [entry.song_pattern for entry in known()] == ["none", "auto"]


def test_a_second_folder_is_the_one_that_is_shown(corpus, tmp_path):
    app = add_folder(write_songs(tmp_path / "more", songs=2))
    assert figures(app)["Clips"] == "8"
    assert by_label(app.selectbox, "Data set").options == ["more", "songs"]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("nowhere", "no such file or folder"),
        ("empty", "no class folder with audio"),
        ("notes.txt", "not a data set"),
    ],
)
def test_a_path_that_is_not_a_data_set_gives_an_error_and_is_not_added(own_home, tmp_path, path, words):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("dear diary")
    app = add_folder(tmp_path / path)
    (error,) = errors(app)
    assert words in error
    assert known() == []


def test_an_empty_path_gives_a_warning(own_home):
    assert ["Give the path" in text for text in warnings(add_folder("  "))] == [True]


def test_a_zip_is_added(own_home, tmp_path, checked):
    file, songs = io.BytesIO(), write_songs(tmp_path / "songs", songs=2)
    with zipfile.ZipFile(file, "w") as archive:
        for path in songs.rglob("*.wav"):
            archive.write(path, path.relative_to(songs).as_posix())
    app = page_at("data").run()
    by_label(app.file_uploader, "A zip").upload("mine.zip", file.getvalue(), "application/zip")
    by_label(app.run().button, "Add this zip").click().run()
    assert errors(app) == []
    assert (figures(app)["Clips"], known()[0].name, known()[0].source) == ("8", "mine", "upload")


def test_a_damaged_zip_gives_an_error(own_home):
    app = page_at("data").run()
    by_label(app.file_uploader, "A zip").upload("mine.zip", b"PK, or not", "application/zip")
    by_label(app.run().button, "Add this zip").click().run()
    (error,) = errors(app)
    assert "mine.zip" in error
    assert known() == []


def test_files_are_collected_class_by_class_and_added_together(own_home, tmp_path, checked):
    songs = write_songs(tmp_path / "songs", songs=2)
    app = page_at("data").run()
    app.segmented_control(key="upload kind").set_value("Audio files").run()
    for label in ("Happy", "Sad"):
        app.selectbox(key="upload class").select(label).run()
        files = [
            (path.name, path.read_bytes(), "audio/wav") for path in sorted((songs / label).glob("*.wav"))
        ]
        by_label(app.file_uploader, "Clips of this class").set_value(files)
        app.run()
    assert "So far Happy: 4, Sad: 4" in said(app).replace("\\", "")
    app.text_input(key="upload name").set_value("हमारे गीत")
    by_label(app.button, "Add these clips").click().run()
    assert errors(app) == []
    assert known()[0].name == "हमारे गीत"
    assert figures(app)["Clips"] == "8"


def test_collected_files_can_be_discarded(own_home, tmp_path):
    songs = write_songs(tmp_path / "songs", songs=2)
    app = page_at("data").run()
    app.segmented_control(key="upload kind").set_value("Audio files").run()
    clip = next(songs.glob("*/*.wav"))
    uploader = by_label(app.file_uploader, "Clips of this class")
    uploader.set_value([(clip.name, clip.read_bytes(), "audio/wav")])
    app.run()
    by_label(app.button, "Start over").click().run()
    assert "A network needs at least two classes" in said(app)
    assert by_label(app.file_uploader, "Clips of this class").value == []
    assert known() == []


def test_the_demo_corpus_is_generated_by_a_command_once(own_home, monkeypatch, checked, tmp_path):
    ran = []

    def compose(*words, title):
        ran.append(words)
        write_songs(adding.demo_folder(adding.DEMO_CLIPS, 0))

    monkeypatch.setattr(changes, "run_mer", compose)
    for _ in range(2):
        app = page_at("data").run()
        by_label(app.button, "Make the demo corpus").click().run()
        assert errors(app) == []
    ((data, demo, _, out, clips),) = ran
    assert (data, demo, clips) == ("data", "demo", "--clips-per-class=40")
    assert known()[0].source == "demo"
    assert known()[0].path == out


def test_a_failure_of_the_generating_command_is_shown(own_home, monkeypatch):
    def fail(*words, title):
        raise MerError("no space left; free some")

    monkeypatch.setattr(changes, "run_mer", fail)
    app = page_at("data").run()
    by_label(app.button, "Make the demo corpus").click().run()
    assert errors(app) == ["no space left; free some"]


def test_if_kaggle_does_not_answer_the_page_explains_the_manual_download(own_home, monkeypatch):
    def fail(name):
        raise DataError("Kaggle cannot be reached; download archive.zip by hand")

    monkeypatch.setattr(adding, "add_kaggle", fail)
    app = page_at("data").run()
    by_label(app.button, "Fetch MER500").click().run()
    assert errors(app) == ["Kaggle cannot be reached; download archive.zip by hand"]


def test_a_forgotten_data_set_leaves_the_list_and_keeps_its_files(corpus):
    app = page_at("data").run()
    by_label(app.button, "Forget it").click().run()
    assert known() == []
    assert "was removed from the list. Its files are where they were" in said(app)
    assert len(list(corpus.rglob("*.wav"))) == 16
    assert "Data set" not in [box.label for box in app.selectbox]
    assert errors(app) == []


def test_each_question_to_forget_belongs_to_one_data_set(corpus, tmp_path, checked):
    add(write_songs(tmp_path / "others"))
    app = page_at("data").run()
    (before,) = app.get("popover")
    by_label(app.button, "Forget it").click().run()
    assert [entry.name for entry in known()] == ["songs"]
    (after,) = app.get("popover")
    assert before.proto.popover.id != after.proto.popover.id
    assert "**songs**" in said(after)


def test_a_missing_data_set_is_not_shown_first(corpus, tmp_path):
    gone = write_songs(tmp_path / "gone")
    add(gone)
    shutil.rmtree(gone)
    app = page_at("data").run()
    assert errors(app) == []
    assert app.selectbox(key="data").options[0] == "gone"


def test_a_missing_data_set_is_named_and_can_be_forgotten(corpus):
    corpus.rename(corpus.with_name("elsewhere"))
    app = page_at("data").run()
    (error,) = errors(app)
    assert f"{corpus} no longer exists" in error
    by_label(app.button, "Forget it").click().run()
    assert known() == []


def test_classes_and_words_filter_the_clips(corpus):
    app = page_at("data").run()
    assert len(clips(app)) == 16
    app.pills(key="classes").set_value(["Sad"]).run()
    assert len(clips(app)) == 8
    app.text_input(key="search").set_value("SAD 3").run()
    assert clips(app) == ["Sad/3a.wav", "Sad/3b.wav"]
    app.text_input(key="search").set_value("jazz").run()
    assert any("No clip matches" in info.value for info in app.info)
    assert errors(app) == []


def test_a_link_opens_its_clip_and_a_wrong_link_opens_the_first(corpus):
    assert opened("data", clip="Sad/2a.wav").selectbox(key="clip").value == "Sad/2a.wav"
    assert opened("data", clip="Angry/1.wav").selectbox(key="clip").value == "Happy/0a.wav"


def test_a_click_on_a_row_shows_its_clip(monkeypatch):
    state = {"table": {"selection": {"rows": [1]}}, "table names": ["a.wav", "b.wav"], "clip": "a.wav"}
    monkeypatch.setattr(browse.st, "session_state", state)
    browse.take_from_table()
    assert state["clip"] == "b.wav"
    state["table"]["selection"]["rows"] = [5]
    browse.take_from_table()
    state["table"]["selection"]["rows"] = []
    browse.take_from_table()
    assert state["clip"] == "b.wav"


def test_a_clip_that_was_removed_is_named(corpus):
    app = page_at("data").run()
    (corpus / "Sad" / "2a.wav").unlink()
    app.selectbox(key="clip").select("Sad/2a.wav").run()
    assert errors(app) == ["Sad/2a.wav can no longer be read; press Check again to update the list"]


def test_clips_that_were_left_out_are_listed_with_the_reason(corpus):
    (corpus / "Sad" / "2a.wav").write_bytes(b"no sound")
    (corpus / "Sad" / "2b.wav").write_bytes((corpus / "Sad" / "3b.wav").read_bytes())
    app = opened("data")
    assert figures(app)["Left out"] == "2"
    table = app.dataframe[0].value
    assert "text, not audio" in table["reason"][0]
    assert "same audio as Sad/" in table["reason"][1]


def test_the_check_is_run_once_and_again_on_request(corpus, monkeypatch):
    ran = []
    monkeypatch.setattr(datasets, "run_mer", lambda *words, title: ran.append(words))
    app = page_at("data").run()
    app.run()
    columns = ("--label-column=label", "--song-column=song", "--song-pattern=auto")
    assert ran == [("data", "check", str(corpus), *columns)]
    (corpus / "Sad" / "2a.wav").unlink()
    manifest = corpus / "manifest.csv"
    manifest.write_text(manifest.read_text().replace("Sad/2a.wav,Sad,Sad 2\n", ""))
    by_label(app.button, "Check again").click().run()
    assert len(ran) == 2
    assert figures(app)["Clips"] == "15"


def test_the_page_says_why_a_data_set_cannot_be_used(corpus, monkeypatch):
    def fail(*words, title):
        raise MerError("songs: no clip can be used")

    monkeypatch.setattr(datasets, "run_mer", fail)
    app = opened("data")
    assert errors(app) == ["songs: no clip can be used"]


def test_the_real_check_runs_in_a_separate_process(own_home, tmp_path):
    add(write_songs(tmp_path / "songs", songs=2))
    app = opened("data")
    assert errors(app) == []
    assert figures(app)["Clips"] == "8"
    assert len(report(known()[0]).facts) == 8


def test_a_clip_is_shown_in_six_steps(corpus):
    app = opened("data")
    found = [chart.proto.spec for chart in app.get("plotly_chart")][-6:]
    for number, spec in enumerate(found, 1):
        assert f'"text":"{number} · ' in spec or f'"text":"{number} \\u00b7 ' in spec


def test_sliders_change_the_picture_and_invalid_combinations_give_a_warning(corpus):
    app = page_at("data").run()
    app.select_slider(key="bands").set_value(64).run()
    assert "64 bands, FFT 1024" in said(app)
    assert errors(app) == warnings(app) == []


def test_an_invalid_setting_gives_a_warning_and_the_default(corpus, monkeypatch):
    monkeypatch.setattr(steps, "HOPS", (256, 10**6))
    app = page_at("data").run()
    app.select_slider(key="hop").set_value(10**6).run()
    assert "hop_length=1000000 is out of range" in as_read(warnings(app)[0])
    assert "hop 256" in said(app)


def test_a_long_clip_has_a_slider_for_its_windows(corpus, write_audio, sound):
    write_audio(corpus / "Sad" / "2a.wav", sound.chirp(seconds=25))
    app = page_at("data", clip="Sad/2a.wav").run()
    app.slider(key="window").set_value(3).run()
    assert "Window 3 of 4: 10 to 20 s" in said(app)
    app.selectbox(key="clip").select("Sad/2b.wav").run()
    assert "Window 1 of 1" in said(app)
    assert errors(app) == []
