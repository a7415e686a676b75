"""LevelDB's table format, as TensorFlow has it: sorted keys and values in blocks, each with a checksum.

A block is entries that share prefixes, the places where a key stands whole, and how many those are. After it come one byte
that says how it is compressed, and the checksum of both. The file ends in a footer that says where the index of the blocks
lies. Source: `format.h`, `block_builder.cc` and `table_builder.cc` in `lib/io` of TensorFlow.
"""

import struct
from collections.abc import Iterator
from itertools import takewhile

import numpy as np

from resnets.errors import need

MAGIC = bytes.fromhex("57fb808b247547db")  # the last eight bytes of a table
FOOTER = 48  # bytes: two handles, zeros, MAGIC
BLOCK = 1 << 18  # bytes of keys and values after which a new block begins, as in TensorFlow
RESTART = 16  # entries from one whole key to the next, as in TensorFlow

Row = tuple[bytes, bytes]


def read_table(content: bytes) -> Iterator[Row]:
    """The keys and values of a table. Raises IndexError, struct.error or ValueError where it isn't whole."""
    if len(content) < FOOTER or content[-len(MAGIC) :] != MAGIC:
        raise IndexError("no table's footer")
    footer = content[-FOOTER : -len(MAGIC)]
    numbers, at = [], 0
    for _ in range(4):
        number, at = varint(footer, at)
        numbers.append(number)
    if any(footer[at:]):
        raise IndexError("a footer ends in zeros")
    _block(content, numbers[0], numbers[1])  # the metaindex is empty, but its checksum is looked at
    for _, handle in _pairs(_block(content, numbers[2], numbers[3])):
        offset, at = varint(handle, 0)
        yield from _pairs(_block(content, offset, varint(handle, at)[0]))


def _block(content: bytes, offset: int, size: int) -> bytes:
    """A block, its checksum looked at."""
    end = offset + size
    if struct.unpack_from("<I", content, end + 1)[0] != masked_crc(content[offset : end + 1]):
        raise IndexError("a checksum differs")
    if content[end]:
        raise ValueError("it is compressed, which TensorFlow's Saver never does; save it again with that")
    return content[offset:end]


def _pairs(block: bytes) -> Iterator[Row]:
    """The entries of a block, each key stored as what it doesn't share with the one before."""
    (restarts,) = struct.unpack_from("<I", block, len(block) - 4)
    end, at, key = len(block) - 4 - 4 * restarts, 0, b""
    while at < end:
        shared, at = varint(block, at)
        own, at = varint(block, at)
        size, at = varint(block, at)
        if shared > len(key) or at + own + size > end:
            raise IndexError("an entry beyond its block")
        key = key[:shared] + block[at : at + own]
        yield key, block[at + own : at + own + size]
        at += own + size


def table_bytes(rows: list[Row]) -> bytes:
    """A table of keys, already sorted, and their values."""
    out, handles, block, size = bytearray(), [], [], 0
    for number, row in enumerate(rows, 1):
        block.append(row)
        size += sum(map(len, row))
        if size >= BLOCK or number == len(rows):
            handles.append((row[0], _append(out, _block_bytes(block, RESTART))))
            block, size = [], 0
    meta, index = _append(out, _block_bytes([], 1)), _append(out, _block_bytes(handles, 1))
    return bytes(out) + (meta + index).ljust(FOOTER - len(MAGIC), b"\0") + MAGIC


def _append(out: bytearray, block: bytes) -> bytes:
    """Add a block with what comes after it; returns its handle, offset and size."""
    handle = as_varint(len(out)) + as_varint(len(block))
    content = block + b"\0"  # not compressed
    out += content + struct.pack("<I", masked_crc(content))
    return handle


def _block_bytes(rows: list[Row], restart: int) -> bytes:
    """A block with every `restart`-th key whole."""
    out, restarts, before = bytearray(), [0], b""
    for number, (key, value) in enumerate(rows):
        if number and number % restart == 0:
            restarts.append(len(out))
        pairs = zip(before, key, strict=False) if number % restart else ()
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        out += b"".join(map(as_varint, (shared, len(key) - shared, len(value)))) + key[shared:] + value
        before = key
    return bytes(out) + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def varint(content: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and where it ends. Raises IndexError where it is none."""
    number = shift = 0
    while True:
        byte = content[at]
        number |= (byte & 127) << shift
        at += 1
        if byte < 128:
            if shift and not byte:
                raise IndexError("a number ends in a byte that says nothing: a bit of it was flipped")
            return number, at
        shift += 7


def as_varint(number: int) -> bytes:
    """The bytes of a number from 0 up, as `varint` reads them."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def masked_crc(content: bytes | np.ndarray) -> int:
    """The CRC-32C of bytes (a one-dimensional uint8 array), rotated by 15 bits and a constant added, as it is stored."""
    crc = need("google_crc32c", "convert", "a TensorFlow checkpoint").value(content)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
