"""The script that makes the weights of the music networks, on made-up checkpoints."""

import re
import zipfile
from hashlib import sha256

import numpy as np
import pytest
import torch

from benchmarks import musicnn_weights as script
from benchmarks.tensorflow_checkpoint import MAGIC, crc32c, masked, read_index, read_variables
from mer.models.tensors import load_tensors
from mer.utils.errors import WeightsError


def varint(number):
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def field(number, value):
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3) + varint(value)


def entry(shape, offset, size, crc, dtype=1):
    sides = b"".join(field(2, field(1, side)) for side in shape)
    message = field(1, dtype) + field(2, sides) + field(4, offset) + field(5, size)
    return message + varint(6 << 3 | 5) + crc.to_bytes(4, "little")


def block(pairs, kind=0):
    """Prefix-compressed pairs, with their trailer."""
    content, last = b"", b""
    for key, value in pairs:
        shared = next((i for i, (a, b) in enumerate(zip(key, last, strict=False)) if a != b), 0)
        content += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    content += bytes(4) + (1).to_bytes(4, "little") + bytes([kind])
    return content + masked(crc32c(content)).to_bytes(4, "little")


def table(pairs, kind=0):
    """A LevelDB table of one data block."""
    data = block(pairs, kind)
    listed = block([(b"~", varint(0) + varint(len(data) - 5))])
    footer = varint(0) * 2 + varint(len(data)) + varint(len(listed) - 5)
    return data + listed + footer.ljust(40, b"\0") + MAGIC


def checkpoint(arrays, **changes):
    """Index and data of a checkpoint of some arrays."""
    pairs, data = [(b"", field(1, 1))], b""
    for name, array in sorted(arrays.items()):
        values = array.astype("<f4").tobytes()
        facts = {"shape": array.shape, "offset": len(data), "size": len(values)}
        pairs.append((name.encode(), entry(**facts | {"crc": masked(crc32c(values))} | changes)))
        data += values
    return table(pairs), data


ARRAYS = {
    "dense/kernel": np.arange(6).reshape(2, 3),
    "dense/kernel/Adam": np.zeros((2, 3)),
    "dense_1/bias": np.array([0.5]),
}


def test_the_checksum_has_its_published_check_value():
    assert crc32c(b"123456789") == 0xE3069283


def test_variables_are_read_by_their_names():
    found = read_variables(*checkpoint(ARRAYS), ["dense_1/bias", "dense/kernel"], "it")
    assert list(found) == ["dense_1/bias", "dense/kernel"]
    assert found["dense/kernel"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found["dense_1/bias"].dtype == np.float32


def refused(index):
    """The error of a table that cannot be read; None if it can."""
    try:
        read_index(index, "it")
    except WeightsError as error:
        return str(error)
    return None


def test_every_damaged_byte_is_refused_in_one_line_or_changes_nothing():
    index, _ = checkpoint(ARRAYS)
    damaged = [index[:at] + bytes([index[at] ^ 0xFF]) + index[at + 1 :] for at in range(len(index))]
    errors = [refused(one) for one in damaged]
    accepted = [at for at, error in enumerate(errors) if error is None]
    assert all(at >= len(index) - 48 for at in accepted)  # padding of the footer
    assert all(read_index(damaged[at], "it") == read_index(index, "it") for at in accepted)
    assert all("\n" not in error for error in errors if error)


def test_a_hostile_table_with_right_checksums_raises_no_other_error():
    rng = np.random.default_rng(0)
    good = entry((2, 3), 0, 24, 0)
    for _ in range(2000):
        message = bytearray(good)
        for at in rng.integers(len(good), size=3):
            message[at] = rng.integers(256)
        index = table([(b"a", bytes(message))])
        if refused(index) is None:
            with pytest.raises(WeightsError):
                read_variables(index, b"", ["a"], "it")


def test_an_index_that_ends_too_early_or_is_something_else_is_refused():
    index, _ = checkpoint(ARRAYS)
    for wrong in (b"", b"PK\x03\x04", bytes(1000), index + b"\0", *(index[:n] for n in range(len(index)))):
        with pytest.raises(WeightsError, match=r"it is no index of a TensorFlow checkpoint; give an \.index"):
            read_index(wrong, "it")


def test_a_compressed_block_is_refused():
    with pytest.raises(WeightsError, match=r"it is damaged \(a block is compressed\)"):
        read_index(table([(b"a", b"")], kind=1), "it")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dtype": 2}, "not float32"),
        ({"shape": (2**40, 2**40)}, "its size differs from its shape"),
        ({"shape": (1,) * 9}, "not float32 in one file"),
        ({"size": 2**62}, "lies outside the data"),
        ({"offset": 2**62}, "lies outside the data"),
        ({"crc": 1}, "another checksum"),
    ],
)
def test_an_entry_that_does_not_fit_the_data_is_refused(changes, reason):
    with pytest.raises(WeightsError, match=reason):
        read_variables(*checkpoint(ARRAYS, **changes), ["dense/kernel"], "it")


def test_a_missing_variable_is_named():
    with pytest.raises(WeightsError, match="it has no variable 'conv2d/kernel'; give a checkpoint of"):
        read_variables(*checkpoint(ARRAYS), ["conv2d/kernel"], "it")


def test_another_wheel_is_refused(tmp_path):
    wheel = tmp_path / "musicnn.whl"
    wheel.write_bytes(b"PK")
    with pytest.raises(WeightsError, match=r"is not the wheel of musicnn 0\.1\.0 \(SHA-256 f38a4890"):
        script.convert(wheel, tmp_path / "out")
    assert script.main([str(tmp_path / "none.whl"), "--out", str(tmp_path / "out")]) == 1
    assert not (tmp_path / "out").exists()


def theirs(family):
    """Made-up values of all variables of a network, in TensorFlow's shapes, and one of the optimizer."""
    rng, values = np.random.default_rng(0), {}
    for name, layer in script.layers_of(family, "mtt")[1].items():
        for suffix, ours in script.tensor_suffixes(layer).items():
            shape = tuple(getattr(layer, ours).shape)[::-1]
            if family == "musicnn" and len(shape) == 4 and shape[1] == 1 and shape[2] > 1:
                shape = (shape[0], shape[2], 1, shape[3])
            values[f"{name}/{suffix}"] = rng.normal(size=shape).astype(np.float32)
    return values


@pytest.mark.parametrize("family", ["musicnn", "vgg"])
def test_kernels_are_turned_from_time_first_to_bands_first(family):
    values = theirs(family)
    net = script.filled(family, "mtt", values)
    if family == "musicnn":
        ours, kernel = net.front.timbral[1][1].weight, values["conv2d_1/kernel"]
        assert ours[5, 0, 40, 2] == kernel[2, 40, 0, 5]
        ours, kernel = net.middle.layers[0][1].weight, values["conv2d_5/kernel"]
        assert ours[9, 300, 0, 4] == kernel[4, 300, 0, 9]
    ours = (net.back[7] if family == "musicnn" else net.output[1]).weight
    assert ours[7, 11] == values["dense_1/kernel" if family == "musicnn" else "dense/kernel"][11, 7]


def test_a_variable_of_another_shape_is_refused():
    values = theirs("vgg") | {"dense/bias": np.zeros(49, dtype=np.float32)}
    with pytest.raises(
        WeightsError, match=r"dense/bias has the shape \(49,\), not \(50,\); give a checkpoint"
    ):
        script.filled("vgg", "mtt", values)


def test_a_wheel_becomes_weights_with_tags_and_a_readme(tmp_path, monkeypatch):
    values, wheel = theirs("vgg"), tmp_path / "musicnn.whl"
    index, data = checkpoint(values | {"1CNN/bias/Adam": np.zeros(128)})
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("musicnn/MTT_vgg/.index", index)
        file.writestr("musicnn/MTT_vgg/.data-00000-of-00001", data)
        file.writestr("musicnn/configuration.py", "SR = 1\nMTT_LABELS = ['b', 'a']\nMSD_LABELS = ['c']\n")
        file.writestr(script.NOTICE, "Copyright (c) Someone\n")
    monkeypatch.setattr(script, "WHEEL_SHA256", sha256(wheel.read_bytes()).hexdigest())
    monkeypatch.setattr(script, "NETWORKS", {"vgg_mtt": script.NETWORKS["vgg_mtt"]})
    (path,) = script.convert(wheel, tmp_path / "out")
    tensors, note = load_tensors(path)
    assert torch.equal(tensors["block1.0.bias"], torch.from_numpy(values["1CNN/bias"]))
    assert (note["network"], note["corpus"], note["tags"]) == ("vgg", "MagnaTagATune", ["b", "a"])
    text = (path.parent / "README.md").read_text("utf-8")
    assert "Copyright (c) Someone" in text
    assert sha256(path.read_bytes()).hexdigest() in text


def test_the_shipped_files_are_those_that_their_readme_names():
    listed = re.findall(
        r"`(\w+\.safetensors)`.*`([0-9a-f]{64})`", (script.OUT / "README.md").read_text("utf-8")
    )
    found = {path.name: sha256(path.read_bytes()).hexdigest() for path in script.OUT.glob("*.safetensors")}
    assert dict(listed) == found
    assert set(found) == {f"{name}.safetensors" for name in script.NETWORKS}
