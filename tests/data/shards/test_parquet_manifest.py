"""Manifests as Parquet: the lines of a CSV, some at a time, and nothing outside the folder."""

import pandas as pd
import pytest

from mer.data.load import load_dataset
from mer.data.shards import manifest as parquet
from mer.data.shards.manifest import read_lines
from mer.data.shards.sources import Sources
from mer.utils.errors import DataError


@pytest.fixture
def write(tmp_path):
    def write(**columns):
        path = tmp_path / "manifest.parquet"
        pd.DataFrame(columns).to_parquet(path)
        return path

    return write


def lines(path, *allowed, label_column="label", song_column="song"):
    found = list(
        read_lines(path, Sources.of(path.parent, allowed), label_column=label_column, song_column=song_column)
    )
    names = ("names", "labels", "songs", "splits", "left_out")
    return {name: [value for part in found for value in getattr(part, name)] for name in names}


def test_each_line_is_a_clip_with_its_label_song_and_split(write):
    path = write(
        path=["a.wav", "sub\\b.flac "], label=["Sad", " Happy"], song=["One", None], split=["val", ""]
    )
    assert lines(path) == {
        "names": ["a.wav", "sub/b.flac"],
        "labels": ["Sad", "Happy"],
        "songs": ["One", None],
        "splits": ["validation", None],
        "left_out": [],
    }


def test_lines_are_read_in_batches(write, monkeypatch):
    monkeypatch.setattr(parquet, "AT_ONCE", 3)
    path = write(path=[f"{n}.wav" for n in range(8)], label=["Sad"] * 8)
    parts = list(read_lines(path, Sources.of(path.parent), label_column="label", song_column="song"))
    assert [len(part.names) for part in parts] == [3, 3, 2]
    assert lines(path)["names"] == [f"{n}.wav" for n in range(8)]


def test_other_columns_can_be_named_and_numbers_are_labels_too(write):
    found = lines(write(path=["a.wav"], mood=[3], film=["Sholay"]), label_column="mood", song_column="film")
    assert (found["labels"], found["songs"]) == (["3"], ["Sholay"])


@pytest.mark.parametrize(
    ("name", "label", "reason"),
    [
        ("", "Sad", "no path"),
        ("a.wav", None, "no label"),
        ("a.txt", "Sad", "not audio (.txt)"),
        ("a.wav", "x" * 201, "its label or song is longer than 200 letters"),
    ],
)
def test_lines_that_name_no_clip_are_left_out_with_the_reason(name, label, reason, write):
    found = lines(write(path=[name, "b.wav"], label=[label, "Happy"]))
    assert found["left_out"] == [(name, reason)]
    assert found["names"] == ["b.wav"]


def test_a_missing_column_is_refused_with_those_there_are(write):
    with pytest.raises(DataError, match="no column 'mood'; it has: path, label"):
        lines(write(path=["a.wav"], label=["Sad"]), label_column="mood")


def test_a_file_that_is_not_parquet_is_refused(tmp_path):
    (tmp_path / "manifest.parquet").write_text("path,label\na.wav,Sad\n")
    with pytest.raises(DataError, match=r"cannot be read as Parquet .*; write it again"):
        lines(tmp_path / "manifest.parquet")


def test_an_unknown_split_is_refused_with_its_line(write, monkeypatch):
    monkeypatch.setattr(parquet, "AT_ONCE", 1)
    path = write(path=["a.wav", "b.wav"], label=["Sad", "Sad"], split=["test", "dev"])
    with pytest.raises(DataError, match="line 2: split 'dev' is not one of"):
        lines(path)


@pytest.mark.parametrize(
    "name", ["/etc/a.wav", "../a.wav", "sub/../../a.wav", "..\\a.wav", "C:/a.wav", "a\0.wav", "~/../../a.wav"]
)
def test_a_path_that_leaves_the_folder_is_refused_with_its_line(name, write):
    with pytest.raises(DataError, match=r"line 2: .* points outside"):
        lines(write(path=["a.wav", name], label=["Sad", "Sad"]))


def test_a_url_is_refused_unless_it_is_allowed(write):
    path = write(path=["s3://bucket/music/a.wav"], label=["Sad"])
    with pytest.raises(DataError, match=r"line 1: .* may be read; .* with --from s3://bucket/"):
        lines(path)


def test_a_parquet_manifest_is_prepared_before_it_is_used(write):
    with pytest.raises(DataError, match=r"prepare a Parquet manifest first: mer prepare .* --shards"):
        load_dataset(write(path=["a.wav"], label=["Sad"]))
