"""Arrays on disk: what is read is what was written, or an error; nothing stays in memory."""

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from mer.data.cache.arrays import ArrayFile, Shelf, is_whole, read_array, write_array


@given(arrays(st.sampled_from([np.float16, np.float32]), array_shapes(max_dims=3, max_side=5)))
def test_an_array_comes_back_as_it_was(tmp_path_factory, array):
    path = tmp_path_factory.mktemp("arrays") / "a.npy"
    write_array(path, array)
    assert is_whole(path)
    for back in (read_array(path), ArrayFile.open(path)[:], np.load(path)):
        assert back.dtype == array.dtype
        np.testing.assert_array_equal(back, array)


@given(st.data())
def test_any_changed_byte_is_noticed(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("arrays") / "a.npy"
    write_array(path, np.arange(20, dtype=np.float16))
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    assert not is_whole(path)
    with pytest.raises(ValueError, match=r"a\.npy is damaged"):
        read_array(path)


def test_a_missing_file_is_not_whole(tmp_path):
    assert not is_whole(tmp_path / "none.npy")
    with pytest.raises(FileNotFoundError):
        read_array(tmp_path / "none.npy")
    with pytest.raises(FileNotFoundError):
        ArrayFile.open(tmp_path / "none.npy")


def test_a_part_of_an_array_is_read_without_the_rest(tmp_path):
    array = np.arange(24, dtype=np.float16).reshape(4, 3, 2)
    write_array(tmp_path / "a.npy", array)
    kept = ArrayFile.open(tmp_path / "a.npy")
    assert (len(kept), kept.shape, kept.nbytes) == (4, (4, 3, 2), 48)
    np.testing.assert_array_equal(kept[2], array[2])
    np.testing.assert_array_equal(kept[1:3], array[1:3])


def test_reading_leaves_no_map_behind(tmp_path):
    write_array(tmp_path / "unmistakable.npy", np.ones((64, 224, 224), np.float16))
    kept = ArrayFile.open(tmp_path / "unmistakable.npy")
    parts = [kept[n] for n in range(64)]
    maps = [found.path for found in psutil.Process().memory_maps()]
    assert len(parts) == 64
    assert not [path for path in maps if path.endswith("unmistakable.npy")]


def test_settings_name_the_shelf_and_order_does_not_matter(tmp_path):
    one, same, other = (
        Shelf.of(tmp_path, settings) for settings in ({"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 1, "b": 3})
    )
    assert one.folder == same.folder != other.folder
    assert one.path("abcd").relative_to(one.folder).as_posix() == "ab/abcd.npy"
