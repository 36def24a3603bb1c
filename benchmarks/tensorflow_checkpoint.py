"""Reads the variables of a TensorFlow checkpoint (format 2) without TensorFlow.

A checkpoint is two files. The index is a LevelDB table from names to BundleEntryProto messages, which say
type, shape, place, size and checksum. The data file holds the values, little-endian. Only what the weights of
musicnn need is here: one data file, float32, uncompressed blocks. Nothing in a file is executed, and every
size is checked before it is used.

References
----------
LevelDB, "table_format" (doc/table_format.md): blocks, footer. TensorFlow, tensor_bundle.proto: the messages.
Castagnoli, Brauer and Herrmann, 1993: CRC-32C.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from math import prod

import numpy as np

from mer.utils.errors import WeightsError

__all__ = ["Entry", "crc32c", "masked", "read_index", "read_variables"]

MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")
FOOTER, TRAILER = 48, 5  # bytes: the end of the file; type and CRC after each block
FLOAT32 = 1  # DT_FLOAT
MOST_INDEX, MOST_SIDES = 2**20, 8  # bytes of an index, sides of a shape


def _table() -> tuple[int, ...]:
    """The CRC of each byte."""
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return tuple(table)


CRC_TABLE = _table()


def crc32c(data: bytes) -> int:
    """The CRC-32C (Castagnoli) of some bytes; about 10 MB a second."""
    crc, table = 0xFFFFFFFF, CRC_TABLE
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def masked(crc: int) -> int:
    """A CRC in the form in which LevelDB and TensorFlow store it: rotated, plus a constant."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Entry:
    """What the index says of a variable: type, shape, data file, place and size in bytes, masked CRC."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int


class _Reader:
    """Reads numbers and bytes in order; past the end it raises ValueError."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def __bool__(self) -> bool:
        return self.at < len(self.data)

    def take(self, count: int) -> bytes:
        """Read the next `count` bytes."""
        if not 0 <= count <= len(self.data) - self.at:
            raise ValueError("it ends too early")
        self.at += count
        return self.data[self.at - count : self.at]

    def fixed(self) -> int:
        """A number of four bytes."""
        return int.from_bytes(self.take(4), "little")

    def varint(self) -> int:
        """A number of one to ten bytes, seven bits each."""
        value = 0
        for shift in range(0, 70, 7):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise ValueError("a number has more than ten bytes")


def _block(table: bytes, offset: int, size: int) -> bytes:
    """A block of the table, with its CRC checked."""
    if offset + size + TRAILER > len(table) - FOOTER:
        raise ValueError("a block lies outside the file")
    end = offset + size
    kind, crc = table[end], int.from_bytes(table[end + 1 : end + TRAILER], "little")
    if masked(crc32c(table[offset : end + 1])) != crc:
        raise ValueError("a block has another checksum")
    if kind:
        raise ValueError("a block is compressed")
    return table[offset:end]


def _pairs(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block. Each key stores only what differs from the key before."""
    restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 * (restarts + 1)
    if end < 0:
        raise ValueError("a block has too many restart points")
    reader, key = _Reader(block[:end]), b""
    while reader:
        shared, added, size = reader.varint(), reader.varint(), reader.varint()
        if shared > len(key):
            raise ValueError("a key shares more than the key before has")
        key = key[:shared] + reader.take(added)
        yield key, reader.take(size)


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Numbers and values of the fields of a protobuf message."""
    reader = _Reader(message)
    while reader:
        number, wire = divmod(reader.varint(), 8)
        if wire == 0:
            yield number, reader.varint()
        elif wire == 2:
            yield number, reader.take(reader.varint())
        elif wire == 5:
            yield number, reader.fixed()
        else:
            raise ValueError(f"a message has a field of type {wire}")


def _shape(message: bytes) -> tuple[int, ...]:
    """The sides of a TensorShapeProto."""
    sides = []
    for number, side in _fields(message):
        if number == 2:
            size = dict(_fields(side)).get(1, 0) if isinstance(side, bytes) else b""
            if isinstance(size, bytes):
                raise ValueError("a shape has a field of another type")
            sides.append(size)
    return tuple(sides)


def _entry(message: bytes) -> Entry:
    """Read a BundleEntryProto."""
    fields = dict(_fields(message))
    shape = fields.get(2, b"")
    numbers = [fields.get(number, 0) for number in (1, 3, 4, 5, 6)]
    if not isinstance(shape, bytes) or any(isinstance(number, bytes) for number in numbers):
        raise ValueError("an entry has a field of another type")
    dtype, shard, offset, size, crc = numbers
    return Entry(dtype, _shape(shape), shard, offset, size, crc)


def _handle(reader: _Reader) -> tuple[int, int]:
    return reader.varint(), reader.varint()


def read_index(table: bytes, name: str) -> dict[str, Entry]:
    """Read the entries of an index by the names of the variables.

    Parameters
    ----------
    table
        The content of the file.
    name
        The file, for messages.

    Raises
    ------
    WeightsError
        If it is no LevelDB table, is damaged, or has over 1 MB.
    """
    if len(table) > MOST_INDEX or len(table) < FOOTER or not table.endswith(MAGIC):
        raise WeightsError(f"{name} is no index of a TensorFlow checkpoint; give an .index file")
    try:
        footer = _Reader(table[-FOOTER:])
        _handle(footer)  # of the meta index, which is empty
        entries = {}
        for _, handle in _pairs(_block(table, *_handle(footer))):
            for key, value in _pairs(_block(table, *_handle(_Reader(handle)))):
                if key:  # the entry without a name is the header
                    entries[key.decode()] = _entry(value)
    except ValueError as error:
        raise WeightsError(f"{name} is damaged ({error}); fetch it again") from error
    return entries


def read_variables(index: bytes, data: bytes, names: Collection[str], name: str) -> dict[str, np.ndarray]:
    """Read some variables of a checkpoint.

    Parameters
    ----------
    index, data
        The contents of the two files.
    names
        Names of the variables.
    name
        The checkpoint, for messages.

    Returns
    -------
    dict
        float32 arrays by name.

    Raises
    ------
    WeightsError
        If a file is damaged, or a variable is missing or is not float32.
    """
    entries = read_index(index, name)
    missing = sorted(set(names) - entries.keys())
    if missing:
        raise WeightsError(f"{name} has no variable {missing[0]!r}; give a checkpoint of this network")
    try:
        return {variable: _values(entries[variable], data) for variable in names}
    except ValueError as error:
        raise WeightsError(f"{name} is damaged ({error}); fetch it again") from error


def _values(entry: Entry, data: bytes) -> np.ndarray:
    """The values of a variable, with size and CRC checked."""
    if entry.dtype != FLOAT32 or entry.shard != 0 or len(entry.shape) > MOST_SIDES:
        raise ValueError("a variable is not float32 in one file")
    if entry.size != 4 * prod(entry.shape) or entry.offset + entry.size > len(data):
        raise ValueError("a variable lies outside the data, or its size differs from its shape")
    values = data[entry.offset : entry.offset + entry.size]
    if masked(crc32c(values)) != entry.crc:
        raise ValueError("a variable has another checksum")
    return np.frombuffer(values, dtype="<f4").reshape(entry.shape).astype(np.float32)
