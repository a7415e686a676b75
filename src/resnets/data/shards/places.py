"""A shard where it lies: its size, what tells it from another version of itself, and any part of its bytes."""

import os
import threading
import weakref
from typing import NamedTuple, Protocol

from resnets.data.shards.tar import Damaged
from resnets.errors import WorkFailed

KEPT = 256  # files held open at most; beyond them each read opens its own


class Stat(NamedTuple):
    """What is known of a shard without reading it."""

    size: int  # bytes
    stamp: str  # changes when the shard does


class Place(Protocol):
    """One shard. Threads may read at the same time."""

    ahead: int  # bytes that cost about as much to read as a few

    @property
    def address(self) -> str:
        """The path or URL, as messages name it."""
        ...

    def stat(self) -> Stat:
        """Raises Damaged where the shard is missing, WorkFailed where it can't be asked."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Exactly these bytes. Raises WorkFailed, naming the shard, where they can't be had."""
        ...


class OpenFiles:
    """Descriptors of files that are read again and again."""

    def __init__(self) -> None:
        self.held: dict[str, int] = {}
        self.lock = threading.Lock()
        weakref.finalize(self, _close, self.held).atexit = False  # a thread may still read

    def read(self, path: str, offset: int, length: int) -> bytes:
        """Bytes of a file, fewer where it ends."""
        descriptor = self.held.get(path)
        if descriptor is not None:
            return os.pread(descriptor, length, offset)
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        with self.lock:
            keep = len(self.held) < KEPT and path not in self.held
            if keep:
                self.held[path] = descriptor
        try:
            return os.pread(descriptor, length, offset)
        finally:
            if not keep:
                os.close(descriptor)


def _close(held: dict[str, int]) -> None:
    for descriptor in held.values():
        os.close(descriptor)


class LocalPlace:
    """A shard in a file."""

    ahead = 4096

    def __init__(self, path: str, files: OpenFiles) -> None:
        self.address = path
        self.files = files

    def stat(self) -> Stat:
        try:
            found = os.stat(self.address)  # noqa: PTH116
        except FileNotFoundError:
            raise Damaged(f"the shard {self.address} is missing") from None
        except OSError as error:
            raise Damaged(f"the shard {self.address} can't be read: {error.strerror}") from None
        return Stat(found.st_size, str(found.st_mtime_ns))

    def read(self, offset: int, length: int) -> bytes:
        try:
            data = self.files.read(self.address, offset, length)
        except OSError as error:
            raise WorkFailed(f"the shard {self.address} can't be read any more: {error.strerror}") from None
        if len(data) < length:
            raise WorkFailed(f"the shard {self.address} has become shorter since it was opened")
        return data
