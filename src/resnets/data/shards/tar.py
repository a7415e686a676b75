"""The tar format as far as shards need it: where each file's bytes lie, without reading them; and a header to write.

Read are ustar with its prefix (POSIX.1-1988), pax extended headers (POSIX.1-2001) and GNU's long names.
"""

import tarfile
from collections.abc import Callable, Iterator
from typing import NamedTuple

BLOCK = 512
RECORD = 20 * BLOCK  # a tar file is whole records
ZEROS = bytes(BLOCK)
REGULAR = (b"0", b"\0", b"7")  # types of a file; "7" lies in one piece
CHECKSUM = slice(148, 156)

Read = Callable[[int, int], bytes]  # (offset, length) → the bytes, fewer where the file ends


class Damaged(ValueError):
    """A shard that isn't there, is cut off or is no tar file: what `tolerate` skips."""


class Member(NamedTuple):
    """A file in a tar."""

    name: bytes
    offset: int  # where its bytes begin
    length: int


def members(read: Read, size: int) -> Iterator[Member]:
    """The regular files in a tar of `size` bytes, in its order. Raises Damaged, without the tar's name."""
    position, known = 0, {}
    while True:
        header = read(position, BLOCK)
        if len(header) < BLOCK:
            raise Damaged(f"is cut off: it ends after {size:,} bytes without a tar file's end")
        if header == ZEROS:
            return
        if not _is_header(header):
            raise Damaged(f"is no tar file, or damaged: there is no header at byte {position:,}")
        kind, length = header[156:157], _number(header[124:136])
        if kind in REGULAR and b"size" in known:
            length = int(known[b"size"])
        start = position + BLOCK
        position = start + -(-length // BLOCK) * BLOCK
        if kind == b"x":
            known |= _pax(read(start, length))
        elif kind == b"L":
            known[b"path"] = read(start, length).rstrip(b"\0")
        elif kind in REGULAR:
            name = known.get(b"path") or _name(header)
            if not name.endswith(b"/"):  # a folder, as the oldest tar wrote it
                yield Member(name, start, length)
            known = {}
        elif kind == b"S":
            raise Damaged("holds a sparse file of GNU tar, which isn't read here; write it without --sparse")
        elif kind not in (b"K", b"g"):  # a folder or a link
            known = {}


def header(name: str, length: int) -> bytes:
    """The header of a file as each machine writes it: time, owner and group 0, mode 0644."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = length, 0o644
    return info.tobuf(tarfile.USTAR_FORMAT)


def padding(length: int, unit: int = BLOCK) -> bytes:
    """The zeros after `length` bytes, up to the next whole unit."""
    return bytes(-length % unit)


def ending(length: int) -> bytes:
    """The end of a tar file that has `length` bytes so far."""
    return 2 * ZEROS + padding(length + 2 * BLOCK, RECORD)


def _is_header(header: bytes) -> bool:
    try:
        stated = int(header[CHECKSUM].split(b"\0")[0].strip() or b"x", 8)
    except ValueError:
        return False
    return stated == sum(header) - sum(header[CHECKSUM]) + 8 * ord(" ")


def _number(field: bytes) -> int:
    """A number in octal digits; or, above 8 GB, GNU's in binary."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    try:
        return int(field.split(b"\0")[0].strip() or b"0", 8)
    except ValueError:
        raise Damaged("is damaged: a file's length in it is no number") from None


def _name(header: bytes) -> bytes:
    name, prefix = (header[part].split(b"\0")[0] for part in (slice(100), slice(345, 500)))
    return prefix + b"/" + name if prefix and header[257:263] == b"ustar\0" else name


def _pax(data: bytes) -> dict[bytes, bytes]:
    """The records `LENGTH KEY=VALUE` of an extended header."""
    found = {}
    while data.strip(b"\0"):
        head = data.partition(b" ")[0]
        if not head.isdigit() or not len(head) + 2 < int(head) <= len(data):
            raise Damaged("is damaged: an extended header in it can't be read")
        key, _, value = data[len(head) + 1 : int(head) - 1].partition(b"=")
        found[key] = value
        data = data[int(head) :]
    return found
