"""Decoded images kept on disk: written while the first epoch runs, read by those that follow and by later runs.

What is kept is what `Images.read` gives, so no number changes. A folder of the cache belongs to one set of images as they
lie there, decoded for one size. In it each process that trains writes a pair of files of its own, pixels and a table of
where they are; what others wrote before is read. An entry counts once its pixels are written, and is checked by its sum
before it is first used, so a kill, or a machine that fails, costs no more than the entry.
"""

import contextlib
import fcntl
import hashlib
import logging
import mmap
import os
import shutil
import threading
import weakref
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from resnets import machine
from resnets.data.dataset import FileImages, Images, OverImages
from resnets.files import cache_folder

log = logging.getLogger("resnets")

ENTRY = np.dtype([("offset", "<u8"), ("height", "<u4"), ("width", "<u4"), ("channels", "<u4"), ("sum", "<u4")])
PARTS = 64  # processes that write to one folder at a time
ROOM = 0.25  # of the memory and of the free disk: the most that one set of images takes
ALL = 0.5  # of the disk's free space, with the cache counted as free: the most that all take together


class CachedImages(OverImages):
    """Images that are decoded once: `read` gives what the images below it give."""

    def __init__(self, images: Images, most: int | None = None, sharing: int = 1) -> None:
        """`most` bytes are kept of each size; by rule a quarter of the memory, and of the free disk where that is less.

        Of what the rule gives each of `sharing` processes takes its share: they begin together, and can't see each other's.
        """
        super().__init__(images)
        self.most, self.sharing = most, sharing
        self.identity = identity(images)
        self._stores: dict[tuple[bool, int], Store] = {}
        self._lock = threading.Lock()
        self.close = weakref.finalize(self, close, self._stores)  # gives the files back, by itself where nobody asks for it

    def read(self, index: int, grey: bool = False, least: int = 0) -> np.ndarray:
        """One image, uint8 [height, width, 1 or 3], not to be written to. Raises UnreadableImage."""
        store = self._store(grey, least)
        found = store.get(index)
        if found is None:
            found = self.images.read(index, grey, least)
            found.flags.writeable = False
            store.put(index, found)
        return found

    def _store(self, grey: bool, least: int) -> "Store":
        with self._lock:
            if (grey, least) not in self._stores:
                folder = cache_folder() / "decoded" / f"{self.identity}-{'grey' if grey else 'rgb'}-{least}"
                store = self._stores[grey, least] = Store(folder, len(self.images.keys), self.most, self.sharing)
                if store.own is not None:
                    log.info("decoded images are kept in %s, up to %.1f GB", folder, store.most / 1e9)
            return self._stores[grey, least]


def close(stores: "dict[tuple[bool, int], Store]") -> None:
    """Give the files of stores back."""
    for store in stores.values():
        store.close()
    stores.clear()


class Store:
    """One folder of decoded images: what was there when it was opened, and what this process adds."""

    def __init__(self, folder: Path, count: int, most: int | None = None, sharing: int = 1) -> None:
        """Of `count` images. Where nothing can be written it says so once, and gives what is there."""
        self.count, self.used = count, 0
        self.parts: list[Part] = []
        self.own: Part | None = None
        self._lock = threading.Lock()
        try:
            make_room(folder)
            folder.mkdir(parents=True, exist_ok=True)
            self.most = most if most is not None else by_rule(folder) // sharing
            for number in range(PARTS):
                part = Part.opened(folder, number, count, self.own is None, self.most)
                if part is not None:
                    self.parts.append(part)
                    self.own = part if part.writes else self.own
            if self.own is not None:
                self.used = end(self.own.table)
            os.utime(folder)
        except OSError as error:
            self._stop(error)
        self.where = np.full(count, -1, np.int8)  # the part that has an image
        for number, part in enumerate(self.parts):
            self.where[part.table["height"] > 0] = number
        self.trusted = np.zeros(count, bool)  # what this process wrote, or has looked at

    def get(self, index: int) -> np.ndarray | None:
        """An image, or None where it isn't there whole."""
        number = self.where[index]
        if number < 0:
            return None
        found, stated = self.parts[number].at(index)
        if not self.trusted[index]:
            if found is None or zlib.crc32(found.data) != stated:
                self.where[index] = -1
                return None
            self.trusted[index] = True
        return found

    def put(self, index: int, image: np.ndarray) -> None:
        """Keep an image, if there is room."""
        with self._lock:
            if self.own is None or self.used + image.nbytes > self.most or self.where[index] >= 0:
                return
            offset, self.used = self.used, self.used + image.nbytes
        try:
            self.own.write(index, offset, np.ascontiguousarray(image))
        except OSError as error:
            self._stop(error)
            return
        self.trusted[index] = True
        self.where[index] = self.parts.index(self.own)

    def close(self) -> None:
        """Give the files back, those of this process cut to what is used."""
        for part in self.parts:
            part.close()
        self.parts, self.own = [], None
        self.where[:] = -1

    def _stop(self, error: OSError) -> None:
        log.warning("decoded images aren't kept any more: %s", error)
        self.own = None


class Part:
    """A table of entries and the pixels they point to, of one process."""

    def __init__(self, table: np.ndarray, pixels: IO[bytes], lock: IO[bytes] | None, size: int) -> None:
        self.table, self.pixels, self.lock, self.writes = table, pixels, lock, lock is not None
        self.map = mmap.mmap(pixels.fileno(), size, access=mmap.ACCESS_READ) if size else None

    @classmethod
    def opened(cls, folder: Path, number: int, count: int, wanted: bool, most: int) -> "Part | None":
        """Part `number` of a folder: to write to, if that is `wanted` and nobody else does; else to read, if it is there."""
        names = folder / f"{number:02}.table", folder / f"{number:02}.pixels"
        there = all(name.exists() for name in names)
        if not there and not wanted:
            return None
        lock = None
        if wanted:
            lock = (folder / f"{number:02}.lock").open("ab")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                lock.close()
                lock = None
                if not there:
                    return None
        if lock is None:
            table = np.fromfile(names[0], ENTRY)
            pixels = names[1].open("rb")
            return cls(table, pixels, None, os.fstat(pixels.fileno()).st_size) if len(table) == count else None
        for name in names:
            name.touch()
        with names[0].open("r+b") as file:
            file.truncate(count * ENTRY.itemsize)
        table = np.memmap(names[0], ENTRY, "r+", shape=(count,))
        pixels = names[1].open("r+b")
        used = end(table)
        pixels.truncate(max(used, most))  # a hole, not yet room taken
        return cls(table, pixels, lock, max(used, most))

    def at(self, index: int) -> tuple[np.ndarray | None, int]:
        """An entry's image and the sum it should have; None where its pixels aren't there."""
        entry = self.table[index]
        shape = int(entry["height"]), int(entry["width"]), int(entry["channels"])
        offset, size = int(entry["offset"]), shape[0] * shape[1] * shape[2]
        if self.map is None or not size or offset + size > len(self.map):
            return None, 0
        return np.frombuffer(self.map, np.uint8, size, offset).reshape(shape), int(entry["sum"])

    def write(self, index: int, offset: int, image: np.ndarray) -> None:
        """Pixels first, then their entry, its height last: what has a height is whole."""
        data = image.data.cast("B")
        while len(data):
            written = os.pwrite(self.pixels.fileno(), data, offset + image.nbytes - len(data))
            data = data[written:]
        row = self.table[index : index + 1]
        row["offset"], row["sum"] = offset, zlib.crc32(image.data)
        row["width"], row["channels"] = image.shape[1], image.shape[2]
        row["height"] = image.shape[0]

    def close(self) -> None:
        """Give the files back; of one that was written to, the hole at its end too."""
        with contextlib.suppress(BufferError):  # an image is still looked at: the map goes with it
            if self.map is not None:
                self.map.close()
        if self.lock is not None:
            self.pixels.truncate(end(self.table))
            self.lock.close()
        self.pixels.close()


def end(table: np.ndarray) -> int:
    """Bytes of pixels that the entries of a table use."""
    sizes = table["height"].astype(np.int64) * table["width"] * table["channels"]
    return int((table["offset"].astype(np.int64) + sizes)[sizes > 0].max(initial=0))


def identity(images: Images) -> str:
    """A hash of a set of images as they lie there: names and contents; of files, sizes and when they were written."""
    digest = hashlib.sha256()
    if isinstance(images, FileImages):
        for key in images.keys:
            try:
                found = (images.root / key).stat()
                digest.update(f"{key}\t{found.st_size}\t{found.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
            except (OSError, ValueError):
                digest.update(f"{key}\t-\n".encode("utf-8", "surrogateescape"))
    else:
        for key, content in zip(images.keys, images.contents(), strict=True):
            digest.update(f"{key}\t".encode() + content + b"\n")
    return digest.hexdigest()[:24]


def by_rule(folder: Path) -> int:
    """The most bytes that one set of images takes, by memory and disk."""
    return int(ROOM * min(machine.memory(), shutil.disk_usage(folder).free))


def make_room(keep: Path) -> None:
    """Delete what was used longest ago while all sets together take more than their share of the disk; never `keep`."""
    root = keep.parent
    if not root.exists():
        return
    others = sorted(
        (path for path in root.iterdir() if path.is_dir() and path != keep), key=lambda path: path.stat().st_mtime
    )
    sizes = {path: sum(file.stat().st_blocks * 512 for file in path.iterdir()) for path in others}
    while others and sum(sizes.values()) > ALL * (shutil.disk_usage(root).free + sum(sizes.values())):
        oldest = others.pop(0)
        log.info("decoded images of another set (%d MB) are deleted to make room", sizes.pop(oldest) // 2**20)
        shutil.rmtree(oldest, ignore_errors=True)
