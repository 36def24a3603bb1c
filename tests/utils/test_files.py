"""Writing: all of a file or none of it, and a StorageError wherever a place cannot be written."""

import pickle
from hashlib import sha256
from pathlib import Path

import pytest

from mer.utils import errors
from mer.utils.errors import MerError, StorageError, WeightsError
from mer.utils.files import atomic_path, hash_of_file, home, new_folder, read_kept, write_atomic, writing

REMEDY = r"; free some space or choose a writable place \(MER_HOME, --out\)"
ERRORS = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, MerError)]


# Home


def test_home_is_the_folder_of_the_environment_variable(monkeypatch, tmp_path):
    monkeypatch.setenv("MER_HOME", str(tmp_path / "kept"))
    assert home() == tmp_path / "kept"
    assert not home().exists()


@pytest.mark.parametrize("value", [None, ""])
def test_home_is_a_hidden_folder_in_the_working_directory_by_default(value, monkeypatch, tmp_path):
    monkeypatch.delenv("MER_HOME")
    if value is not None:
        monkeypatch.setenv("MER_HOME", value)
    monkeypatch.chdir(tmp_path)
    assert home() == tmp_path / ".mer"


# Files


@pytest.mark.parametrize("content", ["Sad – दुःखद", b"\x00\xff"])
def test_a_file_is_written_with_its_folders(content, tmp_path):
    path = tmp_path / "a" / "b" / "file"
    write_atomic(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_a_file_is_replaced(tmp_path):
    write_atomic(tmp_path / "file", "old and longer")
    write_atomic(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ZeroDivisionError, OSError(5, "Input/output error")])
def test_a_failure_halfway_leaves_the_old_file_and_nothing_else(failure, tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def fail_halfway():
        with atomic_path(path) as temporary:
            temporary.write_text("half of the n")
            raise failure

    with pytest.raises(StorageError if isinstance(failure, OSError) else failure):
        fail_halfway()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_the_old_file_stays_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == path.parent
    assert path.read_text() == "new"


# Folders


@pytest.mark.parametrize("exists", [False, True])
def test_a_folder_appears_with_all_of_its_files_at_once(exists, tmp_path):
    path = tmp_path / "deep" / "sub" / "out"
    if exists:
        path.mkdir(parents=True)
    with new_folder(path) as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "file").write_text("content")
        assert not path.exists() or not any(path.iterdir())
    assert (path / "inner" / "file").read_text() == "content"
    assert [p.name for p in path.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ZeroDivisionError])
def test_a_folder_that_fails_halfway_is_not_there(failure, tmp_path):
    def fail_halfway():
        with new_folder(tmp_path / "out") as folder:
            (folder / "file").write_text("half")
            raise failure

    with pytest.raises(failure):
        fail_halfway()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_refused_and_left_as_it_was(tmp_path):
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path, tmp_path / "file"):
        with (
            pytest.raises(
                StorageError, match=f"{path} exists and is not empty; choose another --out or remove"
            ),
            new_folder(path),
        ):
            pytest.fail("was begun")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "mine"


def test_the_working_directory_can_be_filled(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with new_folder(Path()) as folder:
        (folder / "file").write_text("content")
    assert (tmp_path / "here" / "file").read_text() == "content"
    assert [p.name for p in tmp_path.iterdir()] == ["here"]


# Places that cannot be written


def write_file(place):
    write_atomic(place, "x" * 10_000)


def write_folder(place):
    with new_folder(place) as folder:
        (folder / "file").write_text("x" * 10_000)


@pytest.mark.parametrize("write", [write_file, write_folder])
def test_a_place_below_a_file_is_a_storage_error(write, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(
        StorageError, match="cannot write .*/file/out: (Not a directory|File exists)" + REMEDY
    ):
        write(tmp_path / "file" / "out")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("write", [write_file, write_folder])
def test_a_full_disk_is_a_storage_error_and_leaves_no_litter(write, full_disk):
    with pytest.raises(StorageError, match="cannot write .*/out: No space left on device" + REMEDY):
        write(full_disk / "out")
    assert [p.name for p in full_disk.iterdir()] == ["ballast"]


@pytest.mark.parametrize("write", [write_file, write_folder])
@pytest.mark.parametrize("name", ["out", "deeper/out"])
def test_a_forbidden_place_is_a_storage_error(write, name, forbidden):
    with pytest.raises(StorageError, match="cannot write .*/out: Permission denied" + REMEDY):
        write(forbidden / name)


def test_an_error_keeps_its_own_remedy(tmp_path):
    """WeightsError and StorageError are OSErrors too, and already say what to do."""
    with pytest.raises(WeightsError, match=r"^no network$"), writing(tmp_path):
        raise WeightsError("no network")


def test_an_error_without_a_number_shows_its_text(tmp_path):
    with pytest.raises(StorageError, match="cannot write .*: odd" + REMEDY), writing(tmp_path):
        raise OSError("odd")


@pytest.mark.parametrize("kind", ERRORS)
def test_every_error_survives_the_way_from_a_worker_process(kind):
    error = pickle.loads(pickle.dumps(kind("the value; the remedy")))
    assert type(error) is kind
    assert str(error) == "the value; the remedy"
    assert issubclass(kind, MerError)


def test_a_file_is_readable_as_the_umask_says(tmp_path):
    write_atomic(tmp_path / "ours.json", "{}")
    (tmp_path / "theirs.json").write_text("{}")
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1


# Reading what can be made again


def test_a_stored_json_file_is_read(tmp_path):
    path = tmp_path / "kept.json"
    path.write_text('{"version": 1, "rows": [2, 3]}', "utf-8")
    assert read_kept(path, lambda found: found["rows"]) == [2, 3]
    assert read_kept(path, lambda found: found if found["version"] == 2 else None) is None


@pytest.mark.parametrize(
    "content", [None, b"", b"{", b"\xff", b"[" * 100_000, b"3", b"null", b"[]", b'"text"', b'{"rows": []}']
)
def test_a_missing_damaged_or_wrong_json_file_gives_none(tmp_path, content):
    path = tmp_path / "kept.json"
    if content is not None:
        path.write_bytes(content)
    assert read_kept(path, lambda found: found["rows"][0].upper()) is None


def test_the_hash_of_a_file_is_the_sha_256_of_its_content(tmp_path):
    path = tmp_path / "clip.wav"
    path.write_bytes(b"sound" * 100_000)
    assert hash_of_file(path) == sha256(b"sound" * 100_000).hexdigest()
