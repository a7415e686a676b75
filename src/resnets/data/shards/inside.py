"""Single images in tar files, labelled or not, by paths that go on into the tar: `shards/000000.tar/0012.jpg`."""

import functools
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from resnets.data import decode
from resnets.data.decode import SUFFIXES, UnreadableImage
from resnets.data.shards.addresses import is_remote, placed
from resnets.data.shards.opening import places_of, shards_at
from resnets.data.shards.places import LocalPlace, OpenFiles, Place
from resnets.data.shards.scan import Ahead
from resnets.data.shards.tar import Damaged, members

KEPT = 16  # tar files whose members are remembered
_lock = threading.Lock()


class Archive(NamedTuple):
    """A tar file and where its images lie."""

    place: Place
    images: dict[str, tuple[int, int]]  # path in it → offset and length, in its order


class Inside(NamedTuple):
    """A path that goes into a tar file."""

    tar: str
    member: str

    @classmethod
    def of(cls, path: str) -> "Inside | None":
        """What a path names in a tar file that is there or at a server; None where it goes into none."""
        low, at = path.lower(), -1
        while (at := low.find(".tar/", at + 1)) >= 0:
            tar = path[: at + 4]
            if is_remote(tar) or os.path.isfile(tar):  # noqa: PTH113
                return cls(tar, path[at + 5 :])
        return None

    def is_remote(self) -> bool:
        """Whether the tar is at a server."""
        return is_remote(self.tar)

    def encoded(self) -> bytes:
        """The image's file. Raises UnreadableImage where the tar doesn't hold it, WorkFailed where it can't be read."""
        try:
            place, images = _archive(self.tar)
        except Damaged as error:
            raise UnreadableImage(str(error)) from None
        if self.member not in images:
            raise UnreadableImage(f"the tar {self.tar} holds no such image")
        return place.read(*images[self.member])


def read(path: str | os.PathLike[str], grey: bool = False, least: int = 0) -> np.ndarray:
    """`decode` of a file, or of one in a tar. Raises UnreadableImage where there is none or it can't be read."""
    name = os.fspath(path)
    if (inside := Inside.of(name)) is not None:
        return decode.decode(inside.encoded(), grey, least)
    if name.lower().endswith(".tar"):
        raise UnreadableImage(_why_not(name))
    return decode.read(Path(name), grey, least)


def images_in(address: str) -> Iterator[str]:
    """The path of each image in the shards that an address means, a shard after the other, in its order; no hidden ones.

    A shard that can't be read comes back as it is, and reading it says why. Raises ValueError where an address means no
    shards, and for shards without images.
    """
    given = shards_at(address)
    root = placed(address)[0] if address.lower().endswith(".tar") else address.rstrip("/") + "/"
    some = False
    for name in given.names:
        tar = root + name
        try:
            inside = _archive(tar).images
        except Damaged:
            some = True
            yield tar
            continue
        for member in inside:
            some = True
            yield f"{tar}/{member}"
    if not some:
        raise ValueError(f"the shards of {address} hold no image")


def _why_not(tar: str) -> str:
    """Why a tar file is no image: what is wrong with it, or that it is one."""
    try:
        _archive(tar)
    except Damaged as error:
        return str(error)
    return "a tar file, whose images have paths of their own: FILE.tar/NAME.jpg"


def _archive(tar: str) -> Archive:
    """A tar file's images, by one pass over its headers. Raises Damaged."""
    with _lock:  # threads that need it at the same time make it once; one that has changed is made anew
        return _scanned(tar, "" if is_remote(tar) else str(_place(tar).stat()))


def _place(tar: str) -> Place:
    if is_remote(tar):
        root, names = placed(tar)
        return places_of(root, names)[0]
    return LocalPlace(tar, OpenFiles())


@functools.lru_cache(KEPT)
def _scanned(tar: str, stamp: str) -> Archive:
    place = _place(tar)
    size = place.stat().size
    images = {}
    try:
        for member in members(Ahead(place, size), size):
            name = os.fsdecode(member.name.removeprefix(b"./"))
            base = name.rpartition("/")[2]
            if not base.startswith(".") and os.path.splitext(base)[1].lower() in SUFFIXES:  # noqa: PTH122
                images[name] = member.offset, member.length
    except Damaged as error:
        raise Damaged(f"the shard {tar} {error}") from None
    return Archive(place, images)
