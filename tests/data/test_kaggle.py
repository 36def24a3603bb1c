"""Fetching from Kaggle, with kagglehub replaced: no test touches the network."""

import sys
from types import SimpleNamespace

import pytest

from mer.data.clips import MER500_CLASSES
from mer.data.kaggle import KAGGLE_NAMES, fetch
from mer.data.load import load_dataset
from mer.utils.errors import DataError, StorageError


@pytest.fixture
def kaggle(monkeypatch, tmp_path):
    """A kagglehub whose download is a folder laid out as MER500 is; `asked` lists what was asked for."""
    cache = tmp_path / "cache"
    for label in MER500_CLASSES:
        (cache / label / label).mkdir(parents=True)
        (cache / label / label / "1.wav").write_text(label)
    fake = SimpleNamespace(asked=[], cache=cache)
    fake.dataset_download = lambda handle: fake.asked.append(handle) or str(cache)
    monkeypatch.setitem(sys.modules, "kagglehub", fake)
    return fake


def test_mer500_is_fetched_into_a_new_folder_that_is_a_data_set(kaggle, tmp_path):
    out = fetch("mer500", tmp_path / "data" / "mer500")
    assert out == tmp_path / "data" / "mer500"
    assert kaggle.asked == ["makvel/mer500"]
    assert load_dataset(out).class_counts() == dict.fromkeys(MER500_CLASSES, 1)
    assert (out / "Sad" / "Sad" / "1.wav").read_text() == "Sad"
    assert (kaggle.cache / "Sad" / "Sad" / "1.wav").is_file()
    assert [p.name for p in out.parent.iterdir()] == ["mer500"]


def test_an_unknown_name_is_refused_with_the_known_ones(kaggle, tmp_path):
    with pytest.raises(DataError, match="unknown data set 'mer5000'; there are: mer500"):
        fetch("mer5000", tmp_path / "out")
    assert kaggle.asked == []
    assert list(KAGGLE_NAMES) == ["mer500"]


def test_a_folder_in_use_is_refused_before_anything_is_downloaded(kaggle, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(StorageError, match="out exists and is not empty; choose another --out"):
        fetch("mer500", tmp_path / "out")
    assert kaggle.asked == []


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (ConnectionError("no route to host\nand a long story"), r"\(no route to host\)"),
        (OSError("x" * 500), r"\(x{120}\)"),
        (RuntimeError(), r"\(RuntimeError\)"),
    ],
)
def test_a_failed_download_says_how_to_do_it_by_hand_and_leaves_nothing(failure, reason, kaggle, tmp_path):
    def fail(handle):
        raise failure

    kaggle.dataset_download = fail
    by_hand = r"; download archive.zip from kaggle.com/datasets/makvel/mer500 by hand and give it as --data"
    with pytest.raises(DataError, match=rf"cannot fetch makvel/mer500 from Kaggle {reason}{by_hand}"):
        fetch("mer500", tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache"]


def test_a_download_that_is_no_data_set_leaves_nothing(kaggle, tmp_path):
    for clip in kaggle.cache.rglob("*.wav"):
        clip.unlink()
    with pytest.raises(DataError, match="no class folder with audio"):
        fetch("mer500", tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache"]


def test_a_place_that_cannot_be_written_is_a_storage_error(kaggle, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"cannot write .*/file/out: File exists; free some space"):
        fetch("mer500", tmp_path / "file" / "out")


def test_the_real_kagglehub_has_the_function_that_is_called():
    """The stand-in above would hide a renamed function."""
    kagglehub = pytest.importorskip("kagglehub")
    assert callable(kagglehub.dataset_download)
