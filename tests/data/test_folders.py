"""A folder per class, or a zip of one: what becomes a clip, what is left out, and what is refused."""

import json
import zipfile
from pathlib import Path

import pytest

from mer.audio.formats import AUDIO_SUFFIXES
from mer.data import zips
from mer.data.clips import MER500_CLASSES, Clip, Dataset
from mer.data.folders import describe, read_tree
from mer.data.load import load_dataset
from mer.data.zips import unpack_zip
from mer.utils.errors import DataError, StorageError


def labels(dataset):
    return {clip.id: clip.label for clip in dataset.clips}


# Folders


def test_the_first_folder_is_the_class_however_deep_the_files_lie(grow):
    root = grow("Happy/a.wav", "Sad/Sad/b.wav", "Sad/disc 1/more/c.wav")
    dataset = read_tree(root)
    assert labels(dataset) == {"Happy/a.wav": "Happy", "Sad/Sad/b.wav": "Sad", "Sad/disc 1/more/c.wav": "Sad"}
    assert all(clip.path == root / clip.id and clip.path.is_file() for clip in dataset.clips)
    assert (dataset.name, dataset.root, dataset.synthetic, dataset.licence) == ("corpus", root, False, None)


def test_clips_come_in_the_order_of_their_names(grow):
    assert [c.id for c in read_tree(grow("b/2.wav", "a/10.wav", "b/1.wav", "a/9.wav")).clips] == [
        "a/10.wav",
        "a/9.wav",
        "b/1.wav",
        "b/2.wav",
    ]


@pytest.mark.parametrize("suffix", sorted(AUDIO_SUFFIXES) + [s.upper() for s in sorted(AUDIO_SUFFIXES)])
def test_every_audio_suffix_counts_in_capitals_too(suffix, grow):
    assert len(read_tree(grow(f"Sad/clip{suffix}")).clips) == 1


def test_hindi_names_are_kept(grow):
    assert labels(read_tree(grow("दुःखद/गीत १.wav", "खुश/२.wav"))) == {
        "दुःखद/गीत १.wav": "दुःखद",
        "खुश/२.wav": "खुश",
    }


def test_files_that_are_no_clips_are_left_out_with_the_reason(grow):
    dataset = read_tree(grow("Sad/a.wav", "Sad/cover.jpg", "Sad/notes", "loose.wav", "README.txt"))
    assert labels(dataset) == {"Sad/a.wav": "Sad"}
    assert dict(dataset.left_out) == {
        "Sad/cover.jpg": "not audio (.jpg)",
        "Sad/notes": "not audio (no extension)",
        "loose.wav": "not in a class folder",
        "README.txt": "not audio (.txt)",
    }


def test_files_of_operating_systems_are_ignored(grow):
    dataset = read_tree(
        grow("Sad/a.wav", "Sad/.DS_Store", "Sad/._a.wav", "__MACOSX/Sad/._a.wav", ".git/x/hook.wav")
    )
    assert labels(dataset) == {"Sad/a.wav": "Sad"}
    assert dataset.left_out == ()


def test_a_folder_around_the_class_folders_is_entered(grow):
    root = grow("mer500/Sad/a.wav", "mer500/Happy/b.wav", ".DS_Store", "__MACOSX/x")
    assert labels(read_tree(root)) == {"Sad/a.wav": "Sad", "Happy/b.wav": "Happy"}


def test_one_class_folder_within_itself_is_a_class_not_a_wrapper(grow):
    assert labels(read_tree(grow("Sad/Sad/a.wav", "Sad/Sad/b.wav"))) == {
        "Sad/Sad/a.wav": "Sad",
        "Sad/Sad/b.wav": "Sad",
    }


@pytest.mark.parametrize("names", [(), ("Sad/cover.jpg",), ("a.wav", "b.wav"), (".hidden/Sad/a.wav",)])
def test_a_folder_without_classes_is_refused_with_the_layout(names, grow):
    with pytest.raises(
        DataError, match=r"corpus: no class folder with audio; lay it out as corpus/<class>/<clip>"
    ):
        read_tree(grow(*names))


def test_names_that_are_not_unicode_are_left_out(grow):
    root = grow("Sad/a.wav")
    (root / "Sad" / "caf\udce9.wav").touch()
    dataset = read_tree(root)
    assert labels(dataset) == {"Sad/a.wav": "Sad"}
    assert dataset.left_out == (("Sad/caf?.wav", "file name is not Unicode; rename it"),)


# The card beside the clips


def test_the_card_gives_name_licence_and_the_synthetic_mark(grow):
    root = grow("Sad/a.wav")
    card = '{"name": "डेमो", "synthetic": true, "licence": "CC0", "notes": "made up"}'
    (root / "dataset.json").write_text(card, "utf-8")
    dataset = read_tree(root)
    assert (dataset.name, dataset.synthetic, dataset.licence) == ("डेमो", True, "CC0")
    assert dataset.notes == "made up"
    assert dataset.left_out == ()


@pytest.mark.parametrize("synthetic", ["yes", 1, "false", None])
def test_only_true_is_synthetic(synthetic, tmp_path):
    (tmp_path / "dataset.json").write_text(json.dumps({"synthetic": synthetic}))
    assert describe(tmp_path)["synthetic"] is False


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", r"dataset.json is not JSON \(.+\); repair or remove it"),
        (b"\xff\xfe\x00", r"dataset.json is not JSON \(.+\); repair or remove it"),
        (b"[1]", "dataset.json holds no object; repair or remove it"),
    ],
)
def test_a_damaged_card_is_refused(content, message, grow):
    root = grow("Sad/a.wav")
    (root / "dataset.json").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_tree(root)


# Zips


def test_a_zip_is_unpacked_under_mer_home_with_its_audio_only(pack, own_home):
    path = pack(
        "Sad/a.wav", "Happy/b.MP3", "Happy/cover.jpg", "dataset.json", "script.py", "__MACOSX/Sad/._a.wav"
    )
    folder = unpack_zip(path)
    assert folder.is_relative_to(own_home / "datasets")
    assert folder.name == "corpus"
    found = {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*") if p.is_file()}
    names = ("Sad/a.wav", "Happy/b.MP3", "dataset.json")
    assert found == {name: f"content of {name}\n" * 20 for name in names}


def test_the_same_zip_is_unpacked_once(pack, tmp_path, monkeypatch):
    first = unpack_zip(pack("Sad/a.wav"))
    monkeypatch.setattr(zips.zipfile, "ZipFile", None)
    assert unpack_zip(tmp_path / "corpus.zip") == first


def test_a_zip_with_new_content_is_unpacked_again(pack):
    first = unpack_zip(pack("Sad/a.wav"))
    second = unpack_zip(pack("Sad/a.wav", "Sad/b.wav"))
    assert first != second
    assert not (first / "Sad" / "b.wav").exists()
    assert (second / "Sad" / "b.wav").exists()


def test_mer500_s_own_zip_becomes_five_classes(pack):
    path = pack(*(f"{name}/{name}/{n}.wav" for name in MER500_CLASSES for n in range(2)), "__MACOSX/x.wav")
    dataset = load_dataset(path)
    assert dataset.class_counts() == dict.fromkeys(MER500_CLASSES, 2)
    assert dataset.left_out == ()


def test_a_zip_of_a_folder_is_that_folder(pack):
    dataset = load_dataset(pack("my songs/Sad/a.wav", "my songs/Happy/b.wav", "my songs/.DS_Store"))
    assert labels(dataset) == {"Sad/a.wav": "Sad", "Happy/b.wav": "Happy"}


@pytest.mark.parametrize("wrapper", ["", "my songs/"])
def test_a_zip_s_manifest_is_used_wherever_the_folder_starts(wrapper, tmp_path):
    """Else songs and splits would be lost without a word."""
    path = tmp_path / "corpus.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("clips/1.wav", "clips/2.wav"):
            archive.writestr(wrapper + name, "x")
        archive.writestr(
            wrapper + "manifest.csv", "path,label,song\nclips/1.wav,Sad,one\nclips/2.wav,Happy,two\n"
        )
    dataset = load_dataset(path)
    assert {clip.id: (clip.label, clip.song) for clip in dataset.clips} == {
        "clips/1.wav": ("Sad", "one"),
        "clips/2.wav": ("Happy", "two"),
    }


def test_a_zip_packed_on_windows_has_folders_too(pack):
    assert labels(load_dataset(pack("Sad\\a.wav", "Happy\\deep\\b.wav"))) == {
        "Sad/a.wav": "Sad",
        "Happy/deep/b.wav": "Happy",
    }


def test_hindi_names_in_a_zip_are_kept(pack):
    assert labels(load_dataset(pack("दुःखद/गीत १.wav"))) == {"दुःखद/गीत १.wav": "दुःखद"}


@pytest.mark.parametrize(
    "name",
    [
        "../evil.wav",
        "Sad/../../evil.wav",
        "/evil.wav",
        "..\\evil.wav",
        "\\evil.wav",
        "C:\\evil.wav",
        "C:evil.wav",
    ],
)
@pytest.mark.parametrize("suffix", ["", ".txt"])
@pytest.mark.promise("A zip writes nothing outside its folder.")
def test_a_zip_that_points_outside_is_refused_as_a_whole(name, suffix, pack, tmp_path, own_home):
    path = pack("Sad/a.wav", name + suffix)
    with pytest.raises(
        DataError, match=r"corpus.zip holds '.*evil.*', which points outside it; pack it again"
    ):
        unpack_zip(path)
    assert not list(own_home.rglob("*.wav"))
    assert not list(tmp_path.rglob("*evil*"))


def test_a_colon_within_a_name_is_no_drive(pack):
    assert labels(load_dataset(pack("Mood: Sad/a.wav"))) == {"Mood: Sad/a.wav": "Mood: Sad"}


def test_a_zip_without_audio_is_refused(pack):
    with pytest.raises(DataError, match=r"corpus.zip holds no audio; expected <class>/<clip>.wav inside"):
        unpack_zip(pack("Sad/readme.txt", "Sad/.hidden.wav"))


def test_a_zip_with_too_many_entries_is_refused(pack, monkeypatch):
    monkeypatch.setattr(zips, "MAX_ENTRIES", 2)
    with pytest.raises(DataError, match=r"corpus.zip has 3 entries; at most 2 are unpacked"):
        unpack_zip(pack("a/1.wav", "a/2.wav", "a/3.wav"))


def test_a_zip_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(pack, monkeypatch, own_home):
    monkeypatch.setattr(zips, "MAX_UNPACKED", 700)
    assert unpack_zip(pack("a/1.wav")).is_dir()
    with pytest.raises(DataError, match=r"corpus.zip unpacks to 0 GB; at most 0 are allowed"):
        unpack_zip(pack("a/1.wav", "a/2.wav"))
    assert len(list(own_home.rglob("*.wav"))) == 1


def damage_start(content):
    return b"x" * 40 + content[40:]


def damage_data(content):
    """Within the compressed bytes of the first file, behind its header and name."""
    return content[:45] + bytes(byte ^ 0xFF for byte in content[45:60]) + content[60:]


def damage_checksum(content):
    """The CRC in the central directory."""
    at = content.rindex(b"PK\x01\x02") + 16
    return content[:at] + b"\0\0\0\0" + content[at + 4 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda c: b"",
        lambda c: b"no zip",
        lambda c: c[: len(c) // 2],
        damage_start,
        damage_data,
        damage_checksum,
    ],
    ids=["empty", "text", "half", "start", "data", "checksum"],
)
def test_a_damaged_zip_is_refused_and_leaves_nothing(damage, pack, own_home):
    path = pack("Sad/a.wav")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=r"corpus.zip is not a whole zip \(.+\); fetch or pack it again"):
        unpack_zip(path)
    assert not [p for p in own_home.rglob("*") if p.is_file()]


def test_a_zip_with_a_password_is_refused(pack):
    path = pack("Sad/a.wav")
    content = bytearray(path.read_bytes())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + flags] |= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"not a whole zip \(.*encrypted.*\)"):
        unpack_zip(path)


def test_a_zip_with_a_name_in_broken_unicode_is_refused(pack):
    path = pack("Sad/é.wav")
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xff\xff"))
    with pytest.raises(DataError, match=r"not a whole zip \(.*utf-8.*\); fetch or pack it again"):
        unpack_zip(path)


def test_a_zip_whose_home_cannot_be_written_is_a_storage_error(pack, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MER_HOME", str(tmp_path / "file"))
    with pytest.raises(
        StorageError, match=r"cannot write .*/file/datasets/.*: Not a directory; free some space"
    ):
        unpack_zip(pack("Sad/a.wav"))


# Whatever is given


def test_a_missing_path_is_refused_with_two_remedies(tmp_path):
    with pytest.raises(
        DataError, match=r"gone: no such file or folder; check the path, or .*: mer data demo"
    ):
        load_dataset(tmp_path / "gone")


@pytest.mark.parametrize("name", ["clip.wav", "archive.tar.gz", "noext"])
def test_a_file_that_is_not_a_data_set_is_refused(name, tmp_path):
    (tmp_path / name).touch()
    with pytest.raises(DataError, match=f"{name}: not a data set; give a folder .* a .zip of one, or a .csv"):
        load_dataset(tmp_path / name)


def test_a_folder_that_may_not_be_read_is_refused(forbidden):
    for path in (forbidden, forbidden / "inner"):
        with pytest.raises(DataError, match=f"{path}.* cannot be read: Permission denied"):
            load_dataset(path)


def test_a_folder_s_own_manifest_is_used(grow):
    root = grow("Sad/a.wav", "Sad/b.wav")
    (root / "manifest.csv").write_text("path,label,song\nSad/a.wav,Blue,one\n")
    assert load_dataset(root).clips == (Clip("Sad/a.wav", root / "Sad/a.wav", "Blue", "one"),)


def test_a_manifest_in_a_wrapping_folder_is_used(grow):
    root = grow("wrapper/clips/a.wav")
    (root / "wrapper" / "manifest.csv").write_text("path,label\nclips/a.wav,Blue\n")
    assert labels(load_dataset(root)) == {"clips/a.wav": "Blue"}


def test_capitals_in_the_suffix_of_a_data_set_are_fine(pack, tmp_path, grow):
    assert len(load_dataset(pack("Sad/a.wav", to="ARCHIVE.ZIP")).clips) == 1
    root = grow("Sad/a.wav")
    (root / "LIST.CSV").write_text("path,label\nSad/a.wav,Sad\n")
    assert len(load_dataset(root / "LIST.CSV").clips) == 1


@pytest.mark.parametrize("column", ["label_column", "song_column"])
def test_columns_are_refused_for_a_folder(column, grow):
    with pytest.raises(
        DataError, match=r"corpus: a folder has no columns; give the CSV file in it instead, with"
    ):
        load_dataset(grow("Sad/a.wav"), **{column: "mood"})


# What is known of the clips as a whole


def dataset_of(*rows):
    return Dataset(
        "test", Path("root"), tuple(Clip(str(n), Path(str(n)), *row) for n, row in enumerate(rows))
    )


def test_the_classes_of_mer500_keep_its_order_and_others_are_alphabetical():
    assert dataset_of(("Sad",), ("Romantic",), ("Happy",)).classes == ("Romantic", "Happy", "Sad")
    assert dataset_of(("Sad",), ("Romantic",), ("Angry",)).classes == ("Angry", "Romantic", "Sad")
    assert dataset_of(("Sad",), ("Happy",), ("Sad",)).class_counts() == {"Happy": 1, "Sad": 2}


def test_songs_are_known_where_every_clip_names_one():
    assert dataset_of(("a", "x"), ("b", "y")).songs_known
    assert not dataset_of(("a", "x"), ("b", None)).songs_known
    assert not dataset_of().songs_known


def test_songs_filled_in_never_replace_a_known_one():
    filled = dataset_of(("a", "by hand"), ("b",), ("b",)).with_songs({"0": "group 0", "1": "group 1"})
    assert [clip.song for clip in filled.clips] == ["by hand", "group 1", None]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], r"root: 0 class with usable clips \(none\); at least 2 are needed: one folder"),
        ([("Sad",)] * 5, r"root: 1 class with usable clips \(Sad\); at least 2 are needed"),
        (
            [("Sad",), ("Sad",), ("Joy",)],
            "root: class 'Joy' has 1 usable clip; .* add clips or leave the class out",
        ),
    ],
)
def test_too_little_to_train_on_is_refused(rows, message):
    with pytest.raises(DataError, match=message):
        dataset_of(*rows).require_trainable()


def test_two_classes_of_two_clips_can_be_trained_on():
    dataset = dataset_of(("a",), ("a",), ("b",), ("b",))
    assert dataset.require_trainable() is dataset
