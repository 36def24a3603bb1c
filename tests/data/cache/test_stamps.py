"""Stamps: an unchanged file is known again without being read, a changed one never is."""

import os
import sqlite3

import pytest

from mer.data.cache import stamps as stamps_module
from mer.data.cache.stamps import Stamps, stamp


@pytest.fixture
def stamps(tmp_path):
    return Stamps(tmp_path / "store" / "stamps.db")


@pytest.fixture
def at_once(monkeypatch):
    """Files are noted however new they are."""
    monkeypatch.setattr(stamps_module, "COARSE", -(10**15))


@pytest.fixture
def files(tmp_path):
    made = [tmp_path / f"{n} 'गीत'.wav" for n in range(3)]
    for path in made:
        path.write_bytes(b"abc")
    return made


def note(stamps, files):
    stamps.note([(path, stamp(path), f"hash of {path.name}") for path in files])


def test_a_noted_file_is_known(stamps, files, at_once):
    note(stamps, files[:2])
    assert stamps.known(files) == [f"hash of {files[0].name}", f"hash of {files[1].name}", None]


def test_asking_creates_no_file(stamps, files):
    assert stamps.known(files) == [None, None, None]
    assert not stamps.path.parent.exists()


def rewrite(path):
    path.write_bytes(b"abcd")


def rewrite_alike(path):
    """As many bytes, with the old time of modification put back."""
    before = path.stat()
    path.write_bytes(b"xyz")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(path):
    new = path.with_suffix(".new")
    new.write_bytes(b"xyz")
    new.replace(path)


@pytest.mark.parametrize("change", [rewrite, rewrite_alike, replace, lambda path: path.unlink()])
def test_a_changed_file_is_unknown(change, stamps, files, at_once):
    note(stamps, files)
    change(files[1])
    assert stamps.known(files) == [f"hash of {files[0].name}", None, f"hash of {files[2].name}"]


def test_a_file_that_was_changed_just_now_is_not_noted(stamps, files):
    note(stamps, files)
    assert stamps.known(files) == [None, None, None]


def test_many_files_are_looked_up_at_once(stamps, tmp_path, at_once):
    many = [tmp_path / str(n) for n in range(1203)]
    for path in many:
        path.touch()
    stamps.note([(path, stamp(path), path.name) for path in many])
    assert stamps.known(many) == [path.name for path in many]


@pytest.mark.parametrize("damage", [b"not a database at all" * 100, b""])
def test_a_damaged_database_is_replaced(damage, stamps, files, at_once):
    note(stamps, files)
    for path in stamps.path.parent.iterdir():
        path.unlink()
    stamps.path.write_bytes(damage)
    assert stamps.known(files) == [None, None, None]
    note(stamps, files)
    assert stamps.known(files[:1]) == [f"hash of {files[0].name}"]


def test_without_write_access_only_the_notes_are_lost(files, at_once):
    stamps = Stamps(files[0] / "stamps.db")
    note(stamps, files)
    assert stamps.known(files) == [None, None, None]


def test_a_database_that_is_in_use_is_waited_for(stamps, files, at_once, monkeypatch):
    note(stamps, files[:1])
    with sqlite3.connect(stamps.path) as other:
        other.execute("BEGIN IMMEDIATE")
        assert stamps.known(files[:1]) == [f"hash of {files[0].name}"]
    note(stamps, files[1:])
    assert None not in stamps.known(files)
