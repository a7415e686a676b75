"""TensorFlow's checkpoints, format V2 (a "tensor bundle"): `PREFIX.index` beside `PREFIX.data-00000-of-0000N`.

The index is a table whose values are small protocol buffers; the shards hold the numbers, little-endian, one tensor after
another. Source: `tensor_bundle.proto` and `tensor_bundle.cc` of TensorFlow, which isn't needed here.
"""

import math
import os
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from resnets.files import replacing
from resnets.weights.forms.leveldb_table import FOOTER, MAGIC, as_varint, masked_crc, read_table, table_bytes, varint

KINDS = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8", 14: "<u2", 19: "<f2"}  # TensorFlow's number of a kind → ours
BFLOAT16 = 14  # read as its bits, then widened
HEADER = bytes.fromhex("08011a020801")  # a BundleHeaderProto: one shard, version 1
PART = re.compile(r"(.+)\.(?:index|meta|data-\d{5}-of-\d{5})")
LATEST = re.compile(rb'^model_checkpoint_path:\s*"((?:[^"\\]|\\.)*)"', re.MULTILINE)


class Entry(NamedTuple):
    """What the index says of a tensor."""

    kind: int  # TensorFlow's number
    shape: tuple[int, ...]
    shard: int
    offset: int  # bytes into the shard
    size: int  # bytes
    checksum: int


class Index(NamedTuple):
    """What a `.index` file says."""

    shards: int
    entries: dict[str, Entry]


def find_bundle(path: Path) -> Path | None:
    """The prefix that a path means: itself, one of the checkpoint's files, or the folder it lies in; None where none does.

    In a folder the file `checkpoint` names the latest; without it there has to be exactly one `.index`. Raises ValueError
    where several are there, where a part is missing, and for a checkpoint of TensorFlow's first format.
    """
    if _index_of(path).is_file():
        return path
    if path.is_dir():
        return _in_folder(path)
    part = PART.fullmatch(path.name)
    if part and path.is_file():
        prefix = path.with_name(part[1])
        if not _index_of(prefix).is_file():
            raise ValueError(f"{path} is a part of a TensorFlow checkpoint whose {prefix.name}.index isn't beside it")
        return prefix
    if path.is_file() and _ends_as_table(path):
        raise ValueError(
            f"{path} is a checkpoint of TensorFlow's first format (one file), which isn't read; load it with "
            "tf.compat.v1.train.Saver and save it again, in format V2"
        )
    return None


def read_bundle(prefix: Path) -> dict[str, np.ndarray]:
    """Every tensor of float16, 32 or 64, bfloat16 (widened to float32), int32 or int64, by its name in the file.

    Others (strings, say) are left out, and `unread` lists them. Raises ValueError, naming the file, where one is missing,
    cut off or damaged (every checksum is looked at), and where a variable is partitioned.
    """
    found = _index(prefix)
    tensors = {}
    for shard in range(found.shards):
        path = _shard_of(prefix, shard, found.shards)
        if not path.is_file():
            raise ValueError(f"the checkpoint {prefix} lacks its shard {path.name}; copy it there as well")
        entries = {name: entry for name, entry in found.entries.items() if entry.shard == shard and entry.kind in KINDS}
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            for name, entry in sorted(entries.items(), key=lambda item: item[1].offset):
                if entry.offset + entry.size > size:
                    raise ValueError(f"{path} is cut off: {size} bytes, and {name} ends at {entry.offset + entry.size}")
                tensors[name] = _tensor(file, name, entry)
    return {name: tensors[name] for name in found.entries if name in tensors}


def unread(prefix: Path) -> tuple[str, ...]:
    """The names of what `read_bundle` leaves out: strings, and kinds that no weight has."""
    return tuple(name for name, entry in _index(prefix).entries.items() if entry.kind not in KINDS)


def write_bundle(prefix: Path, weights: Mapping[str, np.ndarray]) -> None:
    """Write `PREFIX.data-00000-of-00001` and `PREFIX.index`, which TensorFlow's Saver and `tf.train.load_checkpoint` read.

    Each is whole or not there, and the index comes last. Raises ValueError for an array of a kind that `read_bundle`
    doesn't give, and where there is no folder.
    """
    if not prefix.parent.is_dir():
        raise ValueError(f"there is no folder {prefix.parent} to save the checkpoint {prefix.name} in")
    kinds = {np.dtype(kind): number for number, kind in KINDS.items() if number != BFLOAT16}
    rows, offset = [(b"", HEADER)], 0
    with replacing(_index_of(prefix)) as index, replacing(_shard_of(prefix, 0, 1)) as data:
        for name in sorted(weights, key=str.encode):
            array = weights[name]
            little = array.dtype.newbyteorder("<")
            if little not in kinds:
                raise ValueError(f"{name} is {array.dtype}, and a checkpoint holds float16, 32 or 64, int32 or int64 here")
            content = np.ascontiguousarray(array, little).reshape(-1).view(np.uint8)
            data.write(content.data)
            entry = Entry(kinds[little], array.shape, 0, offset, content.size, masked_crc(content))
            rows.append((name.encode(), _entry_message(entry)))
            offset += content.size
        index.write(table_bytes(rows))


# Paths


def _index_of(prefix: Path) -> Path:
    return Path(f"{prefix}.index")


def _shard_of(prefix: Path, shard: int, shards: int) -> Path:
    return Path(f"{prefix}.data-{shard:05}-of-{shards:05}")


def _in_folder(folder: Path) -> Path | None:
    there = sorted(path.with_suffix("") for path in folder.glob("*.index") if path.is_file())
    listed = ", ".join(str(prefix) for prefix in there)
    note = folder / "checkpoint"
    latest = LATEST.search(note.read_bytes()) if note.is_file() else None
    if latest is not None:
        named = folder / os.fsdecode(re.sub(rb"\\([0-7]{3}|.)", _unescaped, latest[1]))
        moved = folder / named.name  # where the folder isn't where training wrote it
        found = next((path for path in (named, moved) if _index_of(path).is_file()), None)
        if found is None and there:
            raise ValueError(f"{note} names {named.name}, which isn't there; say which is meant: {listed}")
        return found
    if len(there) > 1:
        raise ValueError(f"the folder {folder} holds {len(there)} checkpoints; say which is meant: {listed}")
    return there[0] if there else None


def _unescaped(escape: re.Match[bytes]) -> bytes:
    return bytes([int(escape[1], 8) & 255]) if len(escape[1]) == 3 else escape[1]


def _ends_as_table(path: Path) -> bool:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - len(MAGIC)))
        return size > FOOTER and file.read() == MAGIC


# The protocol buffers, and the numbers


def _index(prefix: Path) -> Index:
    path = _index_of(prefix)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}, the index of a TensorFlow checkpoint, can't be read: {error.strerror}") from None
    try:
        return _parsed(dict(read_table(content)))
    except (IndexError, KeyError, TypeError, OverflowError, struct.error, UnicodeDecodeError):
        raise ValueError(f"{path} is no whole index of a TensorFlow checkpoint: it is cut off or damaged") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _parsed(rows: dict[bytes, bytes]) -> Index:
    """The header, whose key is empty, and the entries. Keys that begin with a zero are parts of partitioned variables."""
    header = dict(_fields(rows[b""]))
    if header.get(2):
        raise ValueError("its numbers are big-endian, which isn't read")
    entries = {key.decode(): _entry(key.decode(), row) for key, row in rows.items() if key and key[0]}
    if any(entry.shard >= header[1] for entry in entries.values()):
        raise IndexError("an entry of no shard")
    return Index(header[1], entries)


def _entry(name: str, message: bytes) -> Entry:
    """A BundleEntryProto. ValueError where the variable is partitioned."""
    said = dict(_fields(message))
    if 7 in said:
        raise ValueError(f"the variable {name} is partitioned, which isn't read; save it whole, without a partitioner")
    shape = tuple(dict(_fields(dim)).get(1, 0) for number, dim in _fields(said.get(2, b"")) if number == 2)
    entry = Entry(said[1], shape, *(said.get(number, 0) for number in (3, 4, 5, 6)))
    if entry.kind in KINDS and math.prod(shape) * np.dtype(KINDS[entry.kind]).itemsize != entry.size:
        raise IndexError("a size that isn't the shape's")
    return entry


def _entry_message(entry: Entry) -> bytes:
    """The same, of the first shard. What is zero is left out."""
    shape = b"".join(_sized(2, b"\x08" + as_varint(size)) for size in entry.shape)
    place = b"".join(tag + as_varint(number) for tag, number in ((b"\x20", entry.offset), (b"\x28", entry.size)) if number)
    checksum = b"\x35" + struct.pack("<I", entry.checksum)
    return b"\x08" + as_varint(entry.kind) + _sized(2, shape) + place + (checksum if entry.checksum else b"")


def _sized(number: int, content: bytes) -> bytes:
    return as_varint(number << 3 | 2) + as_varint(len(content)) + content


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a protocol buffer: a number as int, whatever has a length as bytes."""
    at = 0
    while at < len(message):
        tag, at = varint(message, at)
        if tag & 7 == 0:
            value, at = varint(message, at)
        elif tag & 7 == 2:
            size, at = varint(message, at)
            value, at = message[at : at + size], at + size
        else:
            form = {1: "<Q", 5: "<I"}[tag & 7]
            value, at = struct.unpack_from(form, message, at)[0], at + struct.calcsize(form)
        if at > len(message):
            raise IndexError("a field beyond its message")
        yield tag >> 3, value


def _tensor(file: Any, name: str, entry: Entry) -> np.ndarray:
    """One tensor of an open shard. ValueError where its checksum differs."""
    content = np.empty(entry.size, np.uint8)
    file.seek(entry.offset)
    if file.readinto(content.data) != entry.size or masked_crc(content) != entry.checksum:
        raise ValueError(f"{file.name} is damaged: the checksum of {name} differs; copy the file again")
    array = content.view(KINDS[entry.kind]).reshape(entry.shape)
    return (array.astype(np.uint32) << 16).view(np.float32) if entry.kind == BFLOAT16 else array
