"""The listing of a large folder, kept in the cache folder as one Arrow file that is mapped, not read, the next time.

It is taken again only while every folder that was read still has the times of its last change (mtime and ctime, in
nanoseconds) and the inode that it had: adding, removing and renaming a file or folder change those of the folder that it is
in. Not noticed is what changes no folder: contents that are rewritten in place (a run's fingerprint asks each file's size),
and whether a link still leads to a file. A folder that was changed within `GRAIN` before it was read could change again
without another time, so such a listing isn't kept. One of fewer than `LEAST` images isn't either: listing it is as quick.
"""

import hashlib
import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from resnets.files import cache_folder, replacing

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger("resnets")

LEAST = 2_000  # images
GRAIN = 2_000_000_000  # nanoseconds: of two changes this near one another, some file systems say the same time
HEAD = b"resnets listing\n"  # then the SHA-256 of the rest, then zeros up to START
START = 64


class Scan(NamedTuple):
    """What listing a folder found. Images lie in runs of one class and split each."""

    paths: "pa.ChunkedArray"  # large_binary: relative, with slashes
    counts: list[int]  # images of each run
    classes: list[str]
    splits: list[str]  # "" without splits
    empty: dict[str, tuple[str, ...]]  # split → classes without images
    directories: list[str]  # each folder that was read, relative
    stamps: np.ndarray  # uint64 [folders, 3]: mtime, ctime, inode, before it was read


class Directories:
    """The folders that a scan reads, with their stamps."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.stamps: dict[str, tuple[int, int, int]] = {}

    def note(self, place: str) -> None:
        """A folder that is about to be read; the first time counts."""
        if place not in self.stamps:
            self.stamps[place] = _stamp(self.root, place)

    @property
    def noted(self) -> tuple[list[str], np.ndarray]:
        """The folders, and their stamps."""
        return list(self.stamps), np.array(list(self.stamps.values()), np.uint64)


def kept(root: Path) -> Scan | None:
    """The kept listing of a folder, where there is one and it is still true. A damaged one is said, and None."""
    path = place_of(root)
    if not path.is_file():
        return None
    try:
        found = _read(path, root)
    except (OSError, ValueError, KeyError, IndexError) as error:
        log.warning("%s, the listing kept of %s, is damaged and made again: %s", path, root, error)
        return None
    now = np.array([_stamp(root, place) for place in found.directories], np.uint64)
    return found if np.array_equal(now, found.stamps) else None


def keep(root: Path, found: Scan, began: int) -> Scan | None:
    """Keep a listing that was begun at `began` (nanoseconds since 1970), and give it as mapped; None where it isn't kept."""
    path = place_of(root)
    if len(found.paths) < LEAST or int(found.stamps[:, :2].max()) + GRAIN > began:
        return None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, root, found)
        return _read(path, root)
    except (OSError, ValueError) as error:
        log.info("the listing of %s isn't kept: %s", root, error)
        return None


def place_of(root: Path) -> Path:
    """Where the listing of a folder is kept."""
    return cache_folder() / "listings" / f"{hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:32]}.arrow"


def _write(path: Path, root: Path, found: Scan) -> None:
    import pyarrow as pa

    facts = {"root": str(root.resolve()), "empty": found.empty}
    row = {  # one row of lists
        "paths": _listed(found.paths.combine_chunks()),
        "counts": _listed(pa.array(found.counts, pa.int64())),
        "classes": _listed(pa.array([name.encode("utf-8", "surrogateescape") for name in found.classes], pa.large_binary())),
        "splits": _listed(pa.array(found.splits, pa.large_string())),
        "directories": _listed(pa.array([os.fsencode(place) for place in found.directories], pa.large_binary())),
        "stamps": _listed(pa.array(found.stamps.reshape(-1))),
        "facts": pa.array([json.dumps(facts)]),
    }
    with replacing(path) as file:
        file.write(bytes(START))
        hashing = _Hashing(file)
        batch = pa.record_batch(row)
        with pa.ipc.new_file(pa.PythonFile(hashing, "w"), batch.schema) as writer:
            writer.write_batch(batch)
        file.seek(0)
        file.write(HEAD + hashing.digest.digest())


def _read(path: Path, root: Path) -> Scan:
    """A kept listing, whole and of this folder. ValueError where it isn't."""
    import pyarrow as pa

    every = pa.memory_map(str(path)).read_buffer()
    head, rest = bytes(every[:START]), every[START:]
    if head[:16] != HEAD or head[16:48] != hashlib.sha256(rest).digest():
        raise ValueError("its contents aren't what was written")
    batch = pa.ipc.open_file(pa.BufferReader(rest)).get_batch(0)
    row = {name: batch.column(name).values for name in batch.schema.names if name != "facts"}
    facts = json.loads(batch.column("facts")[0].as_py())
    if facts["root"] != str(root.resolve()):
        raise ValueError(f"it is of {facts['root']}")
    return Scan(
        pa.chunked_array([row["paths"]]),
        row["counts"].to_pylist(),
        [name.decode("utf-8", "surrogateescape") for name in row["classes"].to_pylist()],
        row["splits"].to_pylist(),
        {split: tuple(names) for split, names in facts["empty"].items()},
        [os.fsdecode(place) for place in row["directories"].to_pylist()],
        row["stamps"].to_numpy().reshape(-1, 3),
    )


class _Hashing:
    """A file that hashes what is written to it."""

    closed = False

    def __init__(self, file) -> None:
        self.file = file
        self.digest = hashlib.sha256()
        self.tell = file.tell
        self.flush = file.flush

    def write(self, data) -> int:
        self.digest.update(data)
        return self.file.write(data)

    def close(self) -> None:
        """The file stays open."""


def _listed(values: "pa.Array") -> "pa.Array":
    """One row that is all the values; nothing is copied."""
    import pyarrow as pa

    return pa.LargeListArray.from_arrays(pa.array([0, len(values)], pa.int64()), values)


def _stamp(root: Path, place: str) -> tuple[int, int, int]:
    """A folder's times of change and inode; zeros where there is none."""
    try:
        found = os.stat(os.path.join(root, place))  # noqa: PTH116, PTH118
    except OSError:
        return 0, 0, 0
    return found.st_mtime_ns & (2**64 - 1), found.st_ctime_ns & (2**64 - 1), found.st_ino & (2**64 - 1)
