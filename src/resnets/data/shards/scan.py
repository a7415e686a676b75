"""The index of shards that have none: one pass over their headers, kept in the cache folder."""

import contextlib
import hashlib
import json
import logging
import posixpath
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from resnets.data.dataset import natural
from resnets.data.decode import SUFFIXES
from resnets.data.shards.index import Index, Names, load, save
from resnets.data.shards.places import Place, Stat
from resnets.data.shards.tar import Damaged, members
from resnets.files import cache_folder, replacing

log = logging.getLogger("resnets")

FORMAT = 1
THREADS = 8
IMAGE_SUFFIXES = {suffix.encode() for suffix in SUFFIXES}
MOST_LABEL = 2**20  # bytes of a .cls or .json


class Scanned(NamedTuple):
    """The samples of one shard."""

    offset: np.ndarray
    length: np.ndarray
    label: np.ndarray  # indices into `classes`
    names: Names
    classes: tuple[str, ...]  # as they were met


class Ahead:
    """Reads a shard front to back, more at a time than it is asked for."""

    def __init__(self, place: Place, size: int) -> None:
        self.place = place
        self.size = size
        self.start, self.held = 0, b""

    def __call__(self, offset: int, length: int) -> bytes:
        length = min(length, self.size - offset)
        if length <= 0:
            return b""
        if not self.start <= offset <= offset + length <= self.start + len(self.held):
            self.start = offset
            self.held = self.place.read(offset, min(max(length, self.place.ahead), self.size - offset))
        return self.held[offset - self.start : offset - self.start + length]


def scanned(places: Sequence[Place], stats: Sequence[Stat]) -> list[Scanned | Damaged]:
    """The samples of each shard, or why it can't be read. Raises ValueError where a sample has no label."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(_scanned, places, stats))


def _scanned(place: Place, stat: Stat) -> Scanned | Damaged:
    try:
        return _samples(place, stat)
    except Damaged as error:
        return Damaged(f"the shard {place.address} {error}")


def _samples(place: Place, stat: Stat) -> Scanned:
    """The samples of a shard: files that share their path up to the first dot of their own name, wherever they stand."""
    read = Ahead(place, stat.size)
    found: dict[bytes, list] = {}  # path up to the dot → [name, offset, length, label]
    for member in members(read, stat.size):
        name = member.name.removeprefix(b"./")
        stem, suffix = _split(name)
        if not stem:
            continue
        sample = found.setdefault(stem, [None, 0, 0, None])
        if suffix in IMAGE_SUFFIXES:
            if sample[0] == name:
                raise Damaged(f"holds {_said(name)} twice")
            if sample[0] is None:
                sample[:3] = name, member.offset, member.length
        elif suffix == b".cls" or (suffix == b".json" and sample[3] is None):
            content = read(member.offset, min(member.length, MOST_LABEL))
            sample[3] = _label(content, suffix) or sample[3]
    samples = [sample for sample in found.values() if sample[0] is not None]
    for name, _, length, label in samples:
        if label is None:
            raise ValueError(
                f"{_said(name)} in the shard {place.address} has no label: beside it belongs a .cls with its class, or a "
                '.json with {"label": …}'
            )
        if length >= 2**32:
            raise Damaged(f"holds {_said(name)} of {length:,} bytes, which is no image")
    classes = {label: number for number, label in enumerate(dict.fromkeys(sample[3] for sample in samples))}
    return Scanned(
        np.array([sample[1] for sample in samples], np.int64),
        np.array([sample[2] for sample in samples], np.uint32),
        np.array([classes[sample[3]] for sample in samples], np.int32),
        Names.of(sample[0] for sample in samples),
        tuple(classes),
    )


def _split(name: bytes) -> tuple[bytes, bytes]:
    """The path up to the first dot of the file's own name, and the rest in lower case: ("a/0012", ".jpg")."""
    folder, base = posixpath.split(name)
    stem, dot, rest = base.partition(b".")
    return (folder + b"/" + stem if stem else b""), dot + rest.lower()


def _label(content: bytes, suffix: bytes) -> str | None:
    text = content.decode(errors="replace").strip()
    if suffix == b".cls":
        return sys.intern(text) if text else None
    try:
        label = json.loads(text)["label"]
    except (ValueError, TypeError, KeyError):
        return None
    return sys.intern(str(label)) if isinstance(label, str | int) and not isinstance(label, bool) and label != "" else None


def _said(name: bytes) -> str:
    return name.decode(errors="backslashreplace")


def merged(shards: Sequence[Scanned]) -> Index:
    """One index of all shards, in their order, with class names in natural order."""
    classes = tuple(sorted({name for shard in shards for name in shard.classes}, key=natural))
    place = {name: number for number, name in enumerate(classes)}
    labels = [np.array([place[name] for name in shard.classes], np.int32)[shard.label] for shard in shards]
    nothing = np.zeros(0, np.int32)
    return Index(
        np.repeat(np.arange(len(shards), dtype=np.int32), [len(shard.offset) for shard in shards]),
        np.concatenate([nothing.astype(np.int64), *(shard.offset for shard in shards)]),
        np.concatenate([nothing.astype(np.uint32), *(shard.length for shard in shards)]),
        np.concatenate([nothing, *labels]),
        Names.joined([shard.names for shard in shards]),
        classes,
    )


def cached(places: Sequence[Place], stats: Sequence[Stat]) -> Path:
    """Where the index of these shards is kept: named after their addresses, sizes and stamps."""
    parts = [[place.address, *stat] for place, stat in zip(places, stats, strict=True)]
    name = hashlib.sha256(json.dumps([FORMAT, parts]).encode()).hexdigest()[:32]
    return cache_folder() / "shards" / f"{name}.npz"


def read_cached(path: Path) -> Index | None:
    """An index that was kept, None where there is none that can be read."""
    with contextlib.suppress(OSError, ValueError), path.open("rb") as file:
        return load(file)
    return None


def keep(path: Path, index: Index) -> None:
    """Keep an index for the next time; where that can't be, say so and go on."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            save(file, index)
    except OSError as error:
        log.warning("the index of the shards can't be kept at %s (%s), and is made anew next time", path, error.strerror)
