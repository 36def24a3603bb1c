"""Folders that people really have: where the classes lie, parts of a split, and that no file vanishes."""

import subprocess
import sys
import zipfile
import zlib

import pytest

from mer.data import zips
from mer.data.load import load_dataset
from mer.data.zips import unpack_zip
from mer.utils.errors import DataError


def labels(data):
    return {clip.id: clip.label for clip in data.clips}


# The level of the classes


@pytest.mark.parametrize(
    "names",
    [
        ("Data/genres_original/blues/1.wav", "Data/genres_original/rock/2.wav"),
        ("Data/genres/blues/1.wav", "Data/genres/rock/2.wav", "Data/images/blues/1.png", "Data/all.csv"),
        ("README.md", "songs/blues/1.wav", "songs/rock/2.wav"),
        ("README.md", "loose.wav", "songs/blues/1.wav", "songs/rock/2.wav", "docs/a.pdf", "papers/b/c.pdf"),
        ("a/b/c/d/blues/1.wav", "a/b/c/d/rock/deep/er/2.wav"),
    ],
)
@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_the_classes_are_found_below_wrapping_folders(names, kind, grow, pack):
    data = load_dataset(grow(*names) if kind == "folder" else pack(*names))
    assert sorted(clip.label for clip in data.clips) == ["blues", "rock"]
    assert all(clip.path.is_file() for clip in data.clips)
    assert len(data.clips) + len(data.left_out) == len(names)


def test_a_manifest_is_found_beside_a_readme(grow):
    root = grow("README.md", "songs/clips/1.wav", "songs/clips/2.wav")
    (root / "songs" / "manifest.csv").write_text("path,label,song\nclips/1.wav,Sad,one\n")
    data = load_dataset(root)
    assert [(clip.label, clip.song) for clip in data.clips] == [("Sad", "one")]
    assert dict(data.left_out) == {"README.md": "not audio (.md)", "clips/2.wav": "not in manifest.csv"}


# Parts of a split


@pytest.mark.parametrize(
    "words", [("train", "val", "test"), ("Training", "valid", "TEST"), ("train", "validation", "testing")]
)
@pytest.mark.parametrize(
    "form", ["{part}/{label}/{n}.wav", "wrapper/{part}/{label}/{n}.wav", "{label}/{part}/{n}.wav"]
)
def test_folders_named_train_validation_and_test_are_the_parts_of_a_split(words, form, grow):
    names = [
        form.format(part=part, label=label, n=f"{part}{n}")
        for part in words for label in ("Happy", "Sad") for n in range(2)
    ]  # fmt: skip
    data = load_dataset(grow(*names, "README.md"))
    assert data.class_counts() == {"Happy": 6, "Sad": 6}
    wanted = dict(zip(words, ("train", "validation", "test"), strict=True))
    for clip in data.clips:
        (word,) = [word for word in words if word in clip.id.split("/")]
        assert clip.split == wanted[word]


@pytest.mark.parametrize(
    "names",
    [
        ("train/a/1.wav", "ship/b/2.wav"),  # a class of trains
        ("train/1.wav", "test/2.wav"),
        ("Sad/train/1.wav", "Happy/2.wav"),
    ],
)
def test_other_folders_stay_classes(names, grow):
    data = load_dataset(grow(*names))
    assert {clip.label for clip in data.clips} == {name.split("/")[0] for name in names}
    assert {clip.split for clip in data.clips} == {None}


def test_a_clip_beside_the_classes_of_a_part_is_named(grow):
    data = load_dataset(grow("train/Happy/1.wav", "train/loose.wav", "test/Happy/2.wav", "test/Sad/3.wav"))
    assert dict(data.left_out) == {"train/loose.wav": "not in a class folder"}


# Names of classes


def test_spaces_around_the_name_of_a_class_do_not_count(grow):
    data = load_dataset(grow("Happy/1.wav", "Happy /2.wav", " Happy/3.wav", "Sad\u00a0/4.wav", "Sad/5.wav"))
    assert data.class_counts() == {"Happy": 3, "Sad": 2}
    assert data.remarks == ()


def test_classes_that_differ_only_in_capitals_are_said(grow):
    root = grow("Happy/1.wav", "happy/2.wav", "Sad/3.wav")
    said = "The classes 'Happy' and 'happy' differ only in capitals and count as 2 classes; rename them if"
    assert load_dataset(root).class_counts() == {"Happy": 1, "Sad": 1, "happy": 1}
    (root / "list.csv").write_text("path,label\nHappy/1.wav,Happy\nhappy/2.wav,happy\n")
    for data in (load_dataset(root), load_dataset(root / "list.csv")):
        (remark,) = data.remarks
        assert remark.startswith(said)


# Names in zips


def unflagged(path, names):
    """A zip whose names are in UTF-8, as Info-ZIP and macOS write it: without the flag that says so."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, f"content of {name}")
    content = bytearray(path.read_bytes())
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = content.find(mark)
        while place >= 0:
            content[place + at + 1] &= 0xF7
            place = content.find(mark, place + 4)
    path.write_bytes(content)
    return path


def test_hindi_names_without_the_flag_of_utf_8_are_read_as_meant(tmp_path):
    path = unflagged(tmp_path / "corpus.zip", ["दुःख/गीत १.wav", "खुशी/२.wav", "caf\u00e9/3.wav"])
    assert labels(load_dataset(path)) == {
        "दुःख/गीत १.wav": "दुःख", "खुशी/२.wav": "खुशी", "caf\u00e9/3.wav": "caf\u00e9",
    }  # fmt: skip


def test_names_that_are_no_utf_8_are_read_in_the_code_page(tmp_path):
    path = unflagged(tmp_path / "corpus.zip", ["cafe\u0301/3.wav"])
    # the name of one length in the local header and in the list; the content keeps its checksum
    path.write_bytes(path.read_bytes().replace("cafe\u0301/3.wav".encode(), b"caf\x82\x81\x81/3.wav", 1))
    content = path.read_bytes()
    at = content.rindex("cafe\u0301/3.wav".encode())
    path.write_bytes(content[:at] + b"caf\x82\x81\x81/3.wav" + content[at + 12 :])
    assert labels(load_dataset(path)) == {"caf\u00e9\u00fc\u00fc/3.wav": "caf\u00e9\u00fc\u00fc"}


def test_the_name_in_the_extra_field_of_info_zip_is_used(tmp_path):
    path, name = tmp_path / "corpus.zip", "दुःख/1.wav".encode()
    with zipfile.ZipFile(path, "w") as archive:
        for escaped, meant in (("#U0926/1.wav", name), ("Sad/2.wav", b"")):
            member = zipfile.ZipInfo(escaped)
            if meant:
                field = b"\x01" + zlib.crc32(escaped.encode()).to_bytes(4, "little") + meant
                member.extra = b"\x75\x70" + len(field).to_bytes(2, "little") + field
            archive.writestr(member, "content")
    assert labels(load_dataset(path)) == {"Sad/2.wav": "Sad", "दुःख/1.wav": "दुःख"}


@pytest.mark.promise("A zip writes nothing outside its folder.")
def test_a_name_without_the_flag_cannot_lead_outside(tmp_path, own_home):
    with pytest.raises(DataError, match="points outside it; pack it again"):
        unpack_zip(unflagged(tmp_path / "corpus.zip", ["दुःख/1.wav", "../दुःख.wav"]))
    assert not list(own_home.rglob("*.wav"))


def test_a_zip_that_an_older_version_unpacked_is_used_and_gets_its_list(pack, monkeypatch):
    path = pack("Sad/1.wav", "Sad/notes.txt", "Happy/2.wav")
    folder = unpack_zip(path)
    zips._record(folder).unlink()
    assert unpack_zip(path) == folder
    assert load_dataset(folder).left_out == (("Sad/notes.txt", "not audio (.txt)"),)


# Nothing vanishes


@pytest.mark.promise("Every file of a folder or zip that is not used is named, with its reason.")
def test_what_is_not_unpacked_from_a_zip_is_named(pack, own_home):
    path = pack(
        "Sad/1.wav", "Happy/2.wav", "Party/3.xyz", "Party/4.xyz", "notes.txt", "__MACOSX/Sad/._1.wav",
        "Sad/.DS_Store", "Thumbs.db", "Sad/desktop.ini",
    )  # fmt: skip
    for data in (load_dataset(path), load_dataset(path), load_dataset(unpack_zip(path))):
        assert data.left_out == (
            ("Party/3.xyz", "not audio (.xyz)"),
            ("Party/4.xyz", "not audio (.xyz)"),
            ("notes.txt", "not audio (.txt)"),
        )
        assert data.remarks == ("The folder 'Party' has no clip; 2 of its files are left out.",)


@pytest.mark.parametrize("above", ["", "wrapper/"])
def test_only_class_folders_are_said_to_have_no_clip(above, pack):
    names = [f"{part}/{label}/{part}.wav" for part in ("train", "test") for label in ("Happy", "Sad")]
    others = ["README.md", "train/Happy/notes.txt", "train/Party/1.xyz"]
    data = load_dataset(pack(*(above + name for name in [*names, *others]), "docs/a.txt", "docs/b.txt"))
    assert data.class_counts() == {"Happy": 2, "Sad": 2}
    assert {name for name, _ in data.left_out} == {*others, "docs/a.txt", "docs/b.txt"}
    assert "The folder 'Party' has no clip; 1 of its files is left out." in data.remarks
    assert not any("'wrapper'" in remark or "'train'" in remark for remark in data.remarks)


def test_a_zip_without_audio_says_what_it_holds(pack):
    with pytest.raises(DataError, match=r"holds no audio; .*; left out: 'Sad/1.xyz' \(not audio \(.xyz\)\)"):
        load_dataset(pack("Sad/1.xyz"))


@pytest.mark.promise("Every file of a folder or zip that is not used is named, with its reason.")
def test_linked_class_folders_are_followed_inside_and_named_outside(grow, tmp_path):
    root = grow("Sad/1.wav", "more/deep/2.wav")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "3.wav").touch()
    (root / "Happy").symlink_to(root / "more" / "deep")
    (root / "Party").symlink_to(tmp_path / "outside")
    (root / "Sad" / "round").symlink_to(root)
    (root / "Sad" / "gone.wav").symlink_to(root / "nowhere.wav")
    (root / "Sad" / "loop.wav").symlink_to("loop.wav")
    data = load_dataset(root)
    assert labels(data) == {"Happy/2.wav": "Happy", "Sad/1.wav": "Sad", "more/deep/2.wav": "more"}
    left = dict(data.left_out)
    assert left.pop("Sad/loop.wav")
    assert left == {
        "Party/": "a link that leads outside the folder; copy the folder here",
        "Sad/gone.wav": "a link that leads nowhere",
        "Sad/round/": "a link to a folder around it",
    }


def test_folders_that_link_to_each_other_come_to_an_end(grow):
    root = grow("Sad/1.wav", "Happy/2.wav")
    (root / "Sad" / "other").symlink_to(root / "Happy")
    (root / "Happy" / "other").symlink_to(root / "Sad")
    data = load_dataset(root)
    assert {"Sad/1.wav", "Happy/2.wav"} <= set(labels(data))
    assert len(data.clips) < 10


def test_empty_class_folders_are_named(grow):
    root = grow("Sad/1.wav")
    (root / "Party").mkdir()
    assert load_dataset(root).left_out == (("Party/", "empty folder"),)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes in folders")
def test_a_named_pipe_is_named_and_not_opened(grow):
    root = grow("Sad/1.wav")
    subprocess.run(["mkfifo", str(root / "Sad" / "pipe.wav"), str(root / "Sad" / "pipe")], check=True)
    assert dict(load_dataset(root).left_out) == dict.fromkeys(
        ("Sad/pipe", "Sad/pipe.wav"), "not a regular file"
    )


@pytest.mark.promise("Every file of a folder or zip that is not used is named, with its reason.")
def test_sound_with_a_wrong_suffix_is_named_with_the_right_one(grow, sound, write_audio):
    root = grow("Sad/1.wav", "Sad/2.png", "Sad/3.dat")
    write_audio(root / "Sad" / "4.flac", sound.chord()).rename(root / "Sad" / "four")
    write_audio(root / "Sad" / "5.wav", sound.chord()).rename(root / "Sad" / "five.sound")
    assert dict(load_dataset(root).left_out) == {
        "Sad/2.png": "not audio (.png)",
        "Sad/3.dat": "not audio (.dat)",
        "Sad/four": "FLAC with no suffix; rename it to end in .flac",
        "Sad/five.sound": "WAV with the suffix .sound; rename it to end in .wav",
    }
