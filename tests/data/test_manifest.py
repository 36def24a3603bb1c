"""CSV manifests: columns, encodings, splits, and paths that may not leave the folder."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mer.data import manifest
from mer.data.clips import Clip
from mer.data.load import load_dataset
from mer.data.manifest import read_manifest
from mer.data.vote_columns import Votes
from mer.utils.errors import DataError


@pytest.fixture
def write(tmp_path):
    """`write(text) -> csv`: a manifest beside the empty clips a.wav, b.wav and sub/c.flac."""
    for name in ("a.wav", "b.wav", "sub/c.flac"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    def write(text, encoding="utf-8"):
        path = tmp_path / "list.csv"
        path.write_bytes(text.encode(encoding))
        return path

    return write


def test_each_line_is_a_clip_with_its_label_song_and_split(write, tmp_path):
    path = write("path,label,song,split\na.wav,Sad,One,train\nsub/c.flac,Happy,Two,test\nb.wav,Sad,,\n")
    dataset = read_manifest(path)
    assert dataset.clips == (
        Clip("a.wav", tmp_path / "a.wav", "Sad", "One", "train"),
        Clip("sub/c.flac", tmp_path / "sub/c.flac", "Happy", "Two", "test"),
        Clip("b.wav", tmp_path / "b.wav", "Sad", None, None),
    )
    assert (dataset.name, dataset.root, dataset.left_out) == (tmp_path.name, path, ())


def test_label_alone_is_enough(write):
    (clip,) = read_manifest(write("path,label\na.wav,Sad\n")).clips
    assert (clip.label, clip.song, clip.split) == ("Sad", None, None)


def test_the_card_beside_the_manifest_is_used(write, tmp_path):
    (tmp_path / "dataset.json").write_text('{"name": "mine", "synthetic": true}')
    dataset = read_manifest(write("path,label\na.wav,Sad\n"))
    assert (dataset.name, dataset.synthetic) == ("mine", True)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_byte_order_mark_and_line_ends_of_excel_are_accepted(encoding, newline, write):
    path = write(newline.join(["path,label", "a.wav,दुःखद", 'b.wav,"Sad, slow"', "", ""]), encoding)
    assert [clip.label for clip in read_manifest(path).clips] == ["दुःखद", "Sad, slow"]


def test_spaces_around_values_and_backslashes_in_paths_are_accepted(write):
    dataset = read_manifest(
        write("path,label,song,split\n a.wav , Sad , One , TRAIN \nsub\\c.flac,Happy,  ,Val\n")
    )
    assert [(c.id, c.label, c.song, c.split) for c in dataset.clips] == [
        ("a.wav", "Sad", "One", "train"),
        ("sub/c.flac", "Happy", None, "validation"),
    ]


def test_hindi_file_names_are_found(write, tmp_path):
    (tmp_path / "गीत १.wav").touch()
    assert [c.id for c in read_manifest(write("path,label\nगीत १.wav,Sad\n")).clips] == ["गीत १.wav"]


# Columns


def test_other_columns_can_be_named(write):
    path = write("id,path,mood,film,label,song\n1,a.wav,Blue,Sholay,x,y\n")
    for dataset in (
        read_manifest(path, label_column="mood", song_column="film"),
        load_dataset(path, label_column="mood", song_column="film"),
    ):
        assert [(c.label, c.song) for c in dataset.clips] == [("Blue", "Sholay")]


@pytest.mark.parametrize(
    ("header", "options", "message"),
    [
        ("file,label", {}, "list.csv: no column 'path'; it has: file, label"),
        ("path,class", {}, "list.csv: no column 'label'; it has: path, class"),
        ("path;label", {}, "list.csv: no column 'path'; it has: path;label"),
        ("path,label", {"label_column": "mood"}, "no column 'mood'; it has: path, label"),
        ("path,label", {"song_column": "film"}, "no column 'film'; it has: path, label"),
    ],
)
def test_a_missing_column_is_refused_with_those_there_are(header, options, message, write):
    with pytest.raises(DataError, match=message):
        read_manifest(write(f"{header}\na.wav,Sad\n"), **options)


def test_an_empty_file_has_no_columns(write):
    with pytest.raises(DataError, match="no column 'path'; it has: none"):
        read_manifest(write(""))


def test_lines_with_too_few_or_too_many_values_are_read_as_far_as_they_go(write):
    dataset = read_manifest(write("path,label,song\na.wav,Sad\nb.wav,Sad,One,extra,more\nsub/c.flac\n"))
    assert [(c.id, c.song) for c in dataset.clips] == [("a.wav", None), ("b.wav", "One")]
    assert dataset.left_out == (("sub/c.flac", "no label"),)


@pytest.mark.parametrize(
    "content",
    [
        "path,label\na.wav,Überschwang\n".encode("latin-1"),
        b"path,label\na.wav," + b"x" * 200_000,
        "path,label\na.wav,Sad\n".encode("utf-16"),
    ],
    ids=["latin-1", "field too long", "utf-16"],
)
def test_a_file_that_is_not_csv_in_utf_8_is_refused(content, tmp_path):
    (tmp_path / "a.wav").touch()
    (tmp_path / "list.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"list.csv is not a CSV file in UTF-8 \(.+\); save it as one"):
        read_manifest(tmp_path / "list.csv")


# Paths as people write them


def test_absolute_paths_inside_the_folder_are_found(write, tmp_path):
    dataset = read_manifest(write(f"path,label\n{tmp_path}/a.wav,Sad\n{tmp_path}/sub/c.flac,Happy\n"))
    assert [(c.id, c.path, c.label) for c in dataset.clips] == [
        ("a.wav", tmp_path / "a.wav", "Sad"),
        ("sub/c.flac", tmp_path / "sub" / "c.flac", "Happy"),
    ]


def test_an_absolute_path_through_a_link_to_the_folder_is_found(write, tmp_path):
    path = write(f"path,label\n{tmp_path.parent}/another name of it/a.wav,Sad\n")
    link = tmp_path.parent / "another name of it"
    link.symlink_to(tmp_path)
    assert [c.id for c in read_manifest(path).clips] == ["a.wav"]
    assert [c.id for c in read_manifest(link / path.name).clips] == ["a.wav"]


def test_bare_names_of_files_below_are_found_if_only_one_has_the_name(write, tmp_path):
    for name in ("x/गीत १.wav", "x/twice.wav", "y/deep/twice.wav", "y/.hidden/h.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    dataset = read_manifest(
        write("path,label\nगीत १.wav,Sad\nc.flac,Sad\ntwice.wav,Sad\nh.wav,Sad\nz/c.flac,Sad\n")
    )
    assert [c.id for c in dataset.clips] == ["x/गीत १.wav", "sub/c.flac"]
    assert dict(dataset.left_out) == {
        "twice.wav": "no such file here, but 2 with this name below; give the path",
        "h.wav": "no such file",
        "z/c.flac": "no such file",
    }


# Lines that give no clip


def test_lines_without_a_usable_file_are_left_out_with_the_reason(write):
    dataset = read_manifest(
        write("path,label\na.wav,Sad\ngone.wav,Sad\nb.wav,\n,Sad\nnotes.txt,Sad\nnoext,Sad\nsub,Sad\n")
    )
    assert [c.id for c in dataset.clips] == ["a.wav"]
    assert dataset.left_out == (
        ("gone.wav", "no such file"),
        ("b.wav", "no label"),
        ("", "no path"),
        ("notes.txt", "not audio (.txt)"),
        ("noext", "not audio (no extension)"),
        ("sub", "not audio (no extension)"),
    )


def test_a_path_that_is_a_folder_is_no_file(write, tmp_path):
    (tmp_path / "folder.wav").mkdir()
    dataset = read_manifest(write("path,label\na.wav,Sad\nfolder.wav,Sad\n"))
    assert dataset.left_out == (("folder.wav", "no such file"),)


def test_a_path_longer_than_any_file_name_is_left_out(write):
    """As an unclosed quote makes of several lines."""
    name = "x" * 300 + ".wav"
    dataset = read_manifest(write(f"path,label\na.wav,Sad\n{name},Sad\n"))
    assert dataset.left_out == ((name, "unreadable: File name too long"),)


def test_a_manifest_without_a_usable_line_is_refused(write, tmp_path):
    with pytest.raises(
        DataError,
        match=rf"no usable line among 4; paths are relative to {tmp_path}; left out: 'gone.wav' "
        r"\(no such file\), 'b.wav' \(no label\), 'c.mid' \(not audio \(.mid\)\) and 1 more",
    ):
        read_manifest(write("path,label\ngone.wav,Sad\nb.wav,\nc.mid,Sad\nd.wav,Sad\n"))


# Paths and labels that contradict


def test_a_path_twice_with_one_label_is_one_clip(write):
    dataset = read_manifest(write("path,label\na.wav,Sad\na.wav,Sad\n"))
    assert len(dataset.clips) == 1
    assert dataset.left_out == ()


def test_a_path_twice_with_two_labels_is_refused(write):
    with pytest.raises(DataError, match=r"list.csv: 'a.wav' is 'Sad' and 'Happy'; keep one of the lines"):
        read_manifest(write("path,label\na.wav,Sad\nb.wav,Sad\na.wav,Happy\n"))


def test_an_unknown_split_is_refused_with_its_line(write):
    with pytest.raises(
        DataError, match=r"list.csv, line 3: split 'dev' is not one of train, validation, test or empty"
    ):
        read_manifest(write("path,label,split\na.wav,Sad,train\nb.wav,Sad,dev\n"))


@pytest.mark.parametrize(
    "name", ["../outside.wav", "sub/../../outside.wav", "/etc/outside.wav", "..\\outside.wav"]
)
@pytest.mark.promise("Neither a manifest nor a link can lead out of the folder of a data set.")
def test_a_path_that_leaves_the_folder_is_refused_with_its_line(name, write, tmp_path):
    (tmp_path.parent / "outside.wav").touch()
    with pytest.raises(
        DataError, match=r"list.csv, line 3: '.*outside.wav' points outside .*; put the clips beside"
    ):
        read_manifest(write(f"path,label\na.wav,Sad\n{name},Sad\n"))


def test_a_path_that_returns_into_the_folder_is_accepted(write):
    assert len(read_manifest(write("path,label\nsub/../a.wav,Sad\n")).clips) == 1


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_symlink_that_points_outside_is_refused(kind, write, tmp_path, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret.wav").touch()
    if kind == "file":
        (tmp_path / "link.wav").symlink_to(outside / "secret.wav")
    else:
        (tmp_path / "link").symlink_to(outside)
    name = "link.wav" if kind == "file" else "link/secret.wav"
    with pytest.raises(
        DataError, match=f"line 2: '{name}' points outside {tmp_path}; put the clips beside the CSV"
    ):
        read_manifest(write(f"path,label\n{name},Sad\n"))


def test_a_symlink_within_the_folder_is_followed(write, tmp_path):
    (tmp_path / "link.wav").symlink_to(tmp_path / "a.wav")
    assert len(read_manifest(write("path,label\nlink.wav,Sad\n")).clips) == 1


def test_symlinks_in_a_circle_are_no_file(write, tmp_path):
    (tmp_path / "one.wav").symlink_to(tmp_path / "two.wav")
    (tmp_path / "two.wav").symlink_to(tmp_path / "one.wav")
    dataset = read_manifest(write("path,label\na.wav,Sad\none.wav,Sad\n"))
    assert dataset.left_out == (("one.wav", "no such file"),)


def test_a_path_with_a_null_byte_is_refused(write):
    with pytest.raises(DataError, match=r"line 2: 'a\\x00.wav' points outside"):
        read_manifest(write("path,label\na\0.wav,Sad\n"))


# --- votes ------------------------------------------------------------------------------------------

VOTES = "path,song,calm,tense,sad\na.wav,One,0.5,0.25,0.25\nb.wav,Two,1,3,0\nsub/c.flac,Three,0,0,0\n"


def test_columns_of_votes_give_shares_and_the_top_class_as_label(write):
    dataset = read_manifest(write(VOTES), label_column="calm,tense,sad")
    assert dataset.classes == ("calm", "tense", "sad")
    assert [(clip.label, clip.votes) for clip in dataset.clips] == [
        ("calm", (0.5, 0.25, 0.25)),
        ("tense", (0.25, 0.75, 0.0)),
    ]
    assert dataset.left_out == (("sub/c.flac", "no label"),)


def test_classes_of_votes_may_have_names_and_an_order_of_their_own(write):
    dataset = read_manifest(write(VOTES), label_column="Sad = sad, Happy=calm")
    assert dataset.classes == ("Sad", "Happy")
    assert dataset.clips[0].votes == pytest.approx((1 / 3, 2 / 3))


def test_relative_votes_count_by_how_far_they_are_above_what_a_class_usually_gets(write):
    # Three clips of one song weigh as much as one of another: calm has 0.8 on average, and 0.2 about it.
    text = "path,song,calm,sad\na.wav,One,1,0.1\nsub/c.flac,One,1,0.1\nb.wav,Two,0.6,0.3\n"
    dataset = read_manifest(write(text), label_column="relative:calm,sad")
    ratio = math.exp(2)  # 1 above against 1 below, on either side
    assert [clip.label for clip in dataset.clips] == ["calm", "calm", "sad"]  # though calm has most votes
    assert dataset.clips[0].votes == pytest.approx((ratio / (1 + ratio), 1 / (1 + ratio)))
    assert dataset.clips[2].votes == pytest.approx((1 / (1 + ratio), ratio / (1 + ratio)))


def test_a_class_with_equal_votes_on_all_clips_has_no_relative_votes(write):
    dataset = read_manifest(
        write("path,calm,sad\na.wav,1,0.5\nb.wav,3,0.5\n"), label_column="relative:calm,sad"
    )
    low, high = 1 / (1 + math.e), math.e / (1 + math.e)
    found = [clip.votes for clip in dataset.clips]
    assert found == [pytest.approx((low, high)), pytest.approx((high, low))]


@given(
    arrays(float, st.tuples(st.integers(1, 12), st.integers(2, 5)), elements=st.integers(1, 50)),
    st.floats(0.5, 8),
    st.booleans(),
)
def test_relative_votes_ignore_the_scale_of_a_class_and_shares_that_of_a_clip(votes, factor, relative):
    by_vote = Votes({str(i): str(i) for i in range(votes.shape[1])}, relative)
    songs = [str(i // 2) for i in range(len(votes))]
    rows, scaled = by_vote.distributions(votes, songs), votes.copy()
    scaled[(slice(None), 0) if relative else 0] *= factor
    assert np.allclose(rows.sum(axis=1), 1)
    assert np.allclose(by_vote.distributions(scaled, songs), rows)


def test_a_line_that_comes_twice_with_other_votes_is_an_error(write):
    with pytest.raises(DataError, match=r"'a\.wav' is 1, 2 and 2, 1; keep one of the lines"):
        read_manifest(write("path,calm,sad\na.wav,1,2\na.wav,2,1\n"), label_column="calm,sad")


def test_a_column_whose_name_has_a_comma_is_an_ordinary_label(write):
    dataset = read_manifest(write('path,"calm,tense"\na.wav,Sad\n'), label_column="calm,tense")
    assert (dataset.clips[0].label, dataset.clips[0].votes, dataset.order) == ("Sad", None, ())


@pytest.mark.parametrize(
    ("label_column", "message"),
    [
        ("calm,joy", "no column 'joy'; there are: path, song, calm, tense, sad"),
        ("calm,calm", "name each class once"),
        ("A=calm,A=sad", "name each class once"),
        ("calm,", "name each class once"),
        ("A=calm", "at least two classes"),
    ],
)
def test_impossible_vote_columns_are_refused(write, label_column, message):
    with pytest.raises(DataError, match=message):
        read_manifest(write(VOTES), label_column=label_column)


@pytest.mark.parametrize("value", ["many", "-1", "nan", "inf"])
def test_votes_that_are_no_numbers_are_refused_with_their_line(write, value):
    with pytest.raises(DataError, match=f"line 2: calm='{value}' should be a number of votes"):
        read_manifest(write(f"path,calm,sad\na.wav,{value},1\n"), label_column="calm,sad")


def test_an_empty_cell_is_no_vote(write):
    dataset = read_manifest(write("path,calm,sad\na.wav,,2\n"), label_column="calm,sad")
    assert dataset.clips[0].votes == (0, 1)


# --- hostile tables ---------------------------------------------------------------------------------


@pytest.mark.promise("A CSV of a million lines, or with a field of 200 MB, is refused.")
def test_a_table_that_is_too_large_is_not_read(write, monkeypatch):
    monkeypatch.setattr(manifest, "MAX_BYTES", 2**20)
    path = write("path,label\na.wav," + "x" * 2**20)
    monkeypatch.setattr(Path, "open", None)
    with pytest.raises(DataError, match=r"list.csv is larger than 1 MB; split it"):
        read_manifest(path)


@pytest.mark.promise(
    "A CSV of a million lines, or with a field of 200 MB, is refused.",
    measured="1.8 s, 70 MB; the field is not read",
)
def test_a_million_lines_are_refused_before_a_file_is_looked_for(write):
    """Were files looked for first, the error would be that a.wav is missing."""
    path = write("path,label\n" + "a.wav,Sad\n" * 1_000_000)
    with pytest.raises(DataError, match=r"list.csv has more than 200000 lines; split it"):
        read_manifest(path)


@pytest.mark.parametrize("line", ["b.wav,{}\n", 'b.wav,Sad,"{}"\n'])
def test_a_label_or_song_that_is_too_long_is_left_out(line, write):
    dataset = read_manifest(write("path,label,song\na.wav,Sad,one\n" + line.format("x" * 100_000)))
    assert [clip.id for clip in dataset.clips] == ["a.wav"]
    assert dataset.left_out == (("b.wav", "its label or song is longer than 200 letters"),)


def test_labels_and_songs_that_look_the_same_are_the_same(write):
    rows = "a.wav,प\u0922\u093cा,caf\u00e9\nb.wav,प\u095dा,cafe\u0301\n"
    first, second = read_manifest(write("path,label,song\n" + rows)).clips
    assert (first.label, first.song) == (second.label, second.song)


def test_a_file_is_found_under_its_decomposed_name_as_macos_writes_it(write, tmp_path):
    (tmp_path / "cafe\u0301.wav").touch()
    (clip,) = read_manifest(write("path,label\ncaf\u00e9.wav,Sad\n")).clips
    assert clip.path.is_file()


def test_a_label_may_look_like_a_formula(write):
    (clip,) = read_manifest(write("path,label\na.wav,=cmd|'/c calc'!A0\n")).clips
    assert clip.label == "=cmd|'/c calc'!A0"


@pytest.mark.parametrize("key", ["name", "licence"])
def test_a_card_with_an_endless_name_is_refused(key, write, tmp_path):
    (tmp_path / "dataset.json").write_text(json.dumps({key: "x" * 300}))
    with pytest.raises(DataError, match=r"dataset.json: 'x{40}'... is longer than 200 letters; shorten it"):
        read_manifest(write("path,label\na.wav,Sad\n"))


@pytest.mark.parametrize(
    ("content", "message"),
    [("[" * 200_000, "is not JSON"), (" " * 2**21, r"has 2097152 bytes, of at most 1048576; shorten it")],
)
def test_a_card_too_deep_or_too_large_is_refused(content, message, write, tmp_path):
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(DataError, match=message):
        read_manifest(write("path,label\na.wav,Sad\n"))
