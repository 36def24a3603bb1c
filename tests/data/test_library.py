"""The data sets that a home knows: added once, found by key, never lost, and nothing trusted from outside."""

import io
import json
import subprocess
import sys
import zipfile
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import pytest

from mer.data.library import Entry, add, add_clips, add_demo, add_kaggle, add_zip, find, forget, known, note
from mer.data.load import load_dataset
from mer.utils.errors import DataError, StorageError


@pytest.fixture
def corpora(tmp_path):
    """Folders that look like data sets; nothing here decodes a clip."""

    def make(count):
        folders = [tmp_path / f"corpus {number}" for number in range(count)]
        for folder in folders:
            for label in ("Happy", "Sad"):
                (folder / label).mkdir(parents=True)
                (folder / label / "1.wav").touch()
        return folders

    return make


def zipped(*names):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, name)
    return file


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_a_new_home_knows_nothing_and_asking_leaves_no_trace(own_home):
    assert known() == []
    assert not own_home.exists()


def test_what_is_added_is_known_newest_first(corpora):
    first, second = corpora(2)
    add(first)
    add(second)
    assert [entry.name for entry in known()] == ["corpus 1", "corpus 0"]
    assert known()[0] == Entry("corpus 1", str(second))
    assert known()[0].exists


def test_adding_again_changes_nothing(corpora):
    first, second = corpora(2)
    entry = add(first)
    add(second)
    assert add(str(first)) == entry
    assert [entry.name for entry in known()] == ["corpus 1", "corpus 0"]


def test_the_same_file_with_other_columns_is_another_entry(corpora, tmp_path):
    (folder,) = corpora(1)
    manifest = folder / "list.csv"
    manifest.write_text("path,label,mood\nHappy/1.wav,a,c\nSad/1.wav,b,d\n")
    add(manifest)
    entry = add(manifest, label_column="mood")
    assert [other.label_column for other in known()] == ["mood", "label"]
    assert find(entry.key) == entry


def test_a_path_that_is_not_a_data_set_is_refused_with_the_reason(tmp_path):
    with pytest.raises(DataError, match="no such file or folder; check the path"):
        add(tmp_path / "gone")
    with pytest.raises(DataError, match="no class folder with audio"):
        add(tmp_path)
    assert known() == []


def test_a_key_is_short_and_stays_the_same():
    assert Entry("a", "/data/clips").key == Entry("b", "/data/clips", source="demo").key == "2963e9a3062f"
    assert Entry("a", "/data/clips", song_column="film").key != Entry("a", "/data/clips").key


def test_an_unknown_key_is_refused():
    with pytest.raises(DataError, match="no data set 'abc' in this library; choose one from the list"):
        find("abc")


def test_a_data_set_that_a_run_uses_is_noted_once(corpora):
    reading = {"label_column": "label", "song_column": "song", "song_pattern": "auto"}
    (corpus,) = corpora(1)
    for _ in range(2):
        note(corpus, **reading)
    (entry,) = known()
    assert (entry.path, entry.source) == (str(corpus), "folder")
    assert entry.key == add(corpus).key


def test_a_noted_data_set_is_no_reason_to_refuse_a_run(own_home, tmp_path):
    note(tmp_path / "nowhere")
    assert known() == []


def test_a_data_set_in_a_folder_that_cannot_be_read_does_not_exist_here(forbidden):
    assert not Entry("one", str(forbidden / "below" / "clips")).exists


def test_forgetting_removes_the_entry_and_no_file(corpora):
    first, second = corpora(2)
    entry = add(first)
    add(second)
    forget(entry.key)
    forget(entry.key)
    assert [entry.name for entry in known()] == ["corpus 1"]
    assert files(first) == ["Happy/1.wav", "Sad/1.wav"]


def test_an_entry_whose_folder_is_gone_stays_known_and_says_so(corpora):
    (folder,) = corpora(1)
    add(folder)
    folder.rename(folder.with_name("elsewhere"))
    assert not known()[0].exists


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"\xff",
        b"{}",
        b"[1]",
        b'[{"name": "a"}]',
        b'[{"name": 1, "path": "/a"}]',
        b'[{"name": "a", "path": "/a", "source": "moon"}]',
        b'[{"name": "a", "path": "/a", "synthetic": 1}]',
        b'[{"name": "a", "path": "/a", "size": 1}]',
        b"[" * 100_000,
    ],
)
def test_a_damaged_library_counts_as_empty_and_is_kept(content, own_home, corpora):
    own_home.mkdir()
    (own_home / "library.json").write_bytes(content)
    assert known() == []
    assert (own_home / "library.json.damaged").read_bytes() == content
    add(corpora(1)[0])
    assert len(known()) == 1


def test_a_library_that_may_not_be_read_is_a_storage_error(own_home):
    (own_home / "library.json").mkdir(parents=True)
    with pytest.raises(StorageError, match=r"cannot read .*library\.json: Is a directory"):
        known()


def test_a_home_that_cannot_be_written_is_a_storage_error(own_home, corpora):
    own_home.touch()
    with pytest.raises(StorageError, match=r"cannot write .*File exists"):
        add(corpora(1)[0])


def test_processes_that_add_at_once_lose_nothing(corpora):
    folders = corpora(12)
    with ProcessPoolExecutor(3, mp_context=get_context("spawn")) as pool:
        list(pool.map(add, folders))
    assert sorted(entry.path for entry in known()) == sorted(map(str, folders))


def test_threads_that_add_at_once_lose_nothing(corpora):
    folders = corpora(12)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(add, folders * 2))
    assert sorted(entry.path for entry in known()) == sorted(map(str, folders))


def test_uploads_of_one_name_at_once_each_get_a_folder():
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: add_clips("mine", [("Sad", f"{number}.wav", b"x")]), range(4)))
    kept = [load_dataset(Path(entry.path)).clips[0].id for entry in known()]
    assert sorted(kept) == ["Sad/0.wav", "Sad/1.wav", "Sad/2.wav", "Sad/3.wav"]


def test_the_demo_corpus_is_made_once_and_marked_synthetic(own_home):
    seen = []
    entry = add_demo(2, 7, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (10, 10)
    assert (entry.name, entry.source, entry.synthetic) == ("demo-2-seed-7", "demo", True)
    assert entry.path == str(own_home / "data" / "demo" / "demo-2-seed-7")
    assert load_dataset(Path(entry.path)).synthetic
    assert add_demo(2, 7, seen.append) == entry


def test_numbers_that_make_no_corpus_are_refused():
    with pytest.raises(DataError, match="clips_per_class is 1: give a whole number, 2 or more"):
        add_demo(1, 0)
    assert known() == []


def test_kaggle_is_called_once(monkeypatch, tmp_path):
    (tmp_path / "cache" / "Sad").mkdir(parents=True)
    (tmp_path / "cache" / "Sad" / "1.wav").touch()
    asked = []
    fake = SimpleNamespace(dataset_download=lambda handle: asked.append(handle) or str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "kagglehub", fake)
    entry = add_kaggle("mer500")
    assert add_kaggle("mer500") == entry
    assert (entry.name, entry.source, asked) == ("mer500", "kaggle", ["makvel/mer500"])


@pytest.mark.parametrize("name", ["mer5000", "../mer500", ""])
def test_a_data_set_that_kaggle_has_not_is_refused(name):
    with pytest.raises(DataError, match=r"unknown data set .*; there are: mer500"):
        add_kaggle(name)


def test_an_uploaded_zip_is_unpacked_and_its_copy_removed(own_home):
    file = zipped("archive/Sad/1.wav", "archive/Happy/1.wav")
    file.seek(0, io.SEEK_END)
    entry = add_zip("my clips.zip", file)
    assert (entry.name, entry.source) == ("my clips", "upload")
    assert files(Path(entry.path)) == ["archive/Happy/1.wav", "archive/Sad/1.wav"]
    assert list((own_home / "uploads").iterdir()) == []
    assert add_zip("my clips.zip", file) == entry


def test_a_zip_s_name_cannot_lead_elsewhere(own_home):
    entry = add_zip("../../evil\0.zip", zipped("Sad/1.wav"))
    assert entry.name == "_.._evil".replace("..", ".")
    assert Path(entry.path).is_relative_to(own_home / "datasets")


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (io.BytesIO(b"no zip"), "is not a whole zip"),
        (zipped("../Sad/1.wav"), "points outside it"),
        (zipped("README"), "holds no audio"),
        (zipped("1.wav"), "no class folder with audio"),
    ],
)
def test_a_zip_that_is_no_data_set_is_refused_and_its_copy_removed(file, message, own_home):
    with pytest.raises(DataError, match=message):
        add_zip("clips", file)
    assert known() == []
    assert list((own_home / "uploads").iterdir()) == []


def test_uploaded_clips_are_sorted_into_class_folders(own_home):
    entry = add_clips("मेरे गाने", [("Sad", "a.wav", b"1"), ("Happy", "b.MP3", b"2"), ("उदास", "दर्द.ogg", b"3")])
    folder = own_home / "data" / "upload" / "मेरे गाने"
    assert entry == Entry("मेरे गाने", str(folder), source="upload")
    assert files(folder) == ["Happy/b.MP3", "Sad/a.wav", "उदास/दर्द.ogg"]
    assert (folder / "Happy" / "b.MP3").read_bytes() == b"2"


def test_a_name_that_comes_twice_in_a_class_gets_a_number():
    clips = [("Sad", name, name.encode()) for name in ("a.wav", "a.wav", "A.wav", "a (2).wav")]
    folder = Path(add_clips("mine", [*clips, ("Happy", "a.wav", b"")]).path)
    assert files(folder) == [
        "Happy/a.wav",
        "Sad/A (3).wav",
        "Sad/a (2) (2).wav",
        "Sad/a (2).wav",
        "Sad/a.wav",
    ]
    assert (folder / "Sad" / "A (3).wav").read_bytes() == b"A.wav"


def test_more_clips_under_the_same_name_go_to_a_folder_of_their_own():
    paths = [Path(add_clips("mine", [("Sad", "a.wav", bytes([n]))]).path) for n in range(3)]
    assert [path.name for path in paths] == ["mine", "mine 2", "mine 3"]
    assert [(path / "Sad" / "a.wav").read_bytes() for path in paths] == [b"\0", b"\1", b"\2"]


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/a.wav", "_._etc_a.wav"),
        ("..\\a.wav", "_a.wav"),
        ("/a.wav", "_a.wav"),
        ("C:a.wav", "C_a.wav"),
        (".hidden.wav", "hidden.wav"),
        ("a..wav", "a.wav"),
        ("a\n\tb\0\x1b\u202e.wav", "a b.wav"),
        ("a\ud800.wav", "a.wav"),
        ("क्\u200dष.wav", "क्\u200dष.wav"),
        ("x" * 300 + ".wav", "x" * 116 + ".wav"),
        ("म" * 100 + ".flac", "म" * 38 + ".flac"),
    ],
)
def test_names_lose_what_no_file_name_may_have(name, kept):
    folder = Path(add_clips("mine", [("Sad", name, b"x"), (name, "a.wav", b"x")]).path)
    found = files(folder)
    assert f"Sad/{kept}" in found
    assert len(found) == 2
    assert all(len(part.encode()) <= 120 for path in found for part in path.split("/"))


@pytest.mark.parametrize(
    ("name", "clips", "message"),
    [
        ("mine", [], "no clips; choose some files"),
        ("...", [("Sad", "a.wav", b"x")], "the upload has no name; give it one"),
        ("mine", [("..", "a.wav", b"x")], "'a.wav' has the class '..'; give each clip the name of a class"),
        ("mine", [("Sad", "a.exe", b"x")], r"'a\.exe' is not audio by its name; use WAV, FLAC"),
        ("mine", [("Sad", ".wav", b"x")], r"'\.wav' is not audio by its name"),
        ("mine", [("__MACOSX", "a.wav", b"x")], "no class folder with audio"),
    ],
)
def test_an_upload_that_is_no_data_set_is_refused_as_a_whole(name, clips, message, own_home):
    with pytest.raises(DataError, match=message):
        add_clips(name, clips)
    assert known() == []
    assert not list((own_home / "data").rglob("*.wav"))


def test_the_library_needs_no_torch():
    code = "import sys, mer.data.library; print(sorted({'torch', 'scipy', 'mlflow'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_file_is_plain_json(corpora, own_home):
    add(corpora(1)[0])
    row = json.loads((own_home / "library.json").read_text())["entries"][0]
    columns = {"label_column", "song_column", "song_pattern", "drop_conflicts"}
    assert set(row) == {"name", "path", "source", "synthetic"} | columns
