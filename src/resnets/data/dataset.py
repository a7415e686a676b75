"""Dataset: labelled images from anywhere. A class is its name."""

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from resnets.data.columns import ODD, blocks, hashed_below, some
from resnets.data.decode import decode, file_bytes

SPLIT_NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


class Images(Protocol):
    """Where the images lie; relative paths are the same wherever the data is moved to."""

    @property
    def keys(self) -> Sequence[str]:
        """The relative path of each image."""
        ...

    def read(self, index: int, grey: bool = False, least: int = 0) -> np.ndarray:
        """One image, uint8 [height, width, 1 or 3]; `least` as in `decode`. Raises UnreadableImage."""
        ...

    def squares(self, indices: np.ndarray, side: int, channels: int) -> np.ndarray | None:
        """Some images, uint8 [indices, side, side, channels], where they lie in memory so; None where each is read."""
        ...

    def encoded(self, index: int) -> bytes | None:
        """The bytes of an image's file; None where it lies in memory, decoded. Raises UnreadableImage."""
        ...

    def contents(self) -> Iterable[bytes]:
        """What stands for each image in the data's fingerprint."""
        ...


class OverImages:
    """Images over others: theirs, but for how they are read."""

    def __init__(self, images: Images) -> None:
        self.images = images

    @property
    def keys(self) -> Sequence[str]:
        """Those of the images."""
        return self.images.keys

    def squares(self, indices: np.ndarray, side: int, channels: int) -> np.ndarray | None:
        """None: each is read."""

    def encoded(self, index: int) -> bytes | None:
        """The file's bytes."""
        return self.images.encoded(index)

    def contents(self) -> Iterable[bytes]:
        """Those of the images."""
        return self.images.contents()


class FileImages:
    """Images in files below a folder."""

    def __init__(self, root: Path, keys: Sequence[str]) -> None:
        self.root = root
        self.keys = keys

    def read(self, index: int, grey: bool = False, least: int = 0) -> np.ndarray:
        return decode(self.encoded(index), grey, least)

    def squares(self, indices: np.ndarray, side: int, channels: int) -> None:
        """None: each is read."""

    def encoded(self, index: int) -> bytes:
        """The file."""
        return file_bytes(self.root / self.keys[index])

    def contents(self) -> Iterable[bytes]:
        """Each file's size; −1 where there is none."""
        for key in self.keys:
            try:
                size = os.stat(os.path.join(self.root, key)).st_size  # noqa: PTH116, PTH118 (a Path a file takes as long)
            except (OSError, ValueError):
                size = -1
            yield str(size).encode()


class ArrayImages:
    """Images in memory: uint8 [images, height, width] or [images, height, width, 3]."""

    def __init__(self, pixels: np.ndarray, keys: Sequence[str]) -> None:
        self.pixels = pixels if pixels.ndim == 4 else pixels[..., None]
        self.keys = keys

    def read(self, index: int, grey: bool = False, least: int = 0) -> np.ndarray:
        image = self.pixels[index]
        if grey and image.shape[2] == 3:
            return np.rint(image @ np.array([0.299, 0.587, 0.114], np.float32))[..., None].astype(np.uint8)
        return image if grey or image.shape[2] == 3 else np.repeat(image, 3, axis=2)

    def squares(self, indices: np.ndarray, side: int, channels: int) -> np.ndarray | None:
        return self.pixels[indices] if self.pixels.shape[1:] == (side, side, channels) else None

    def encoded(self, index: int) -> None:
        """None: there is no file."""

    def contents(self) -> Iterable[bytes]:
        """Each image's pixels."""
        return (np.ascontiguousarray(image).tobytes() for image in self.pixels)


@dataclass(frozen=True)
class Dataset:
    """Labelled images: what `open_dataset` gives."""

    name: str
    images: Images
    classes: tuple[str, ...]  # names in natural order: 1, 2, 10
    labels: np.ndarray  # int64, of each image, an index into `classes`
    splits: dict[str, np.ndarray] = field(default_factory=dict)  # name → indices of its images; empty: no splits
    empty: dict[str, tuple[str, ...]] = field(default_factory=dict)  # split ("" without splits) → classes without images
    mirrors: bool = True  # whether a mirrored image is the same thing; a digit's is not

    def __len__(self) -> int:
        return len(self.labels)

    def indices(self, split: str | None = None) -> np.ndarray:
        """The images of a split, or all. ValueError, with the splits there are, if there is none of that name."""
        if split is None:
            return np.arange(len(self))
        wanted = SPLIT_NAMES.get(split, split)
        if wanted not in self.splits:
            there = ", ".join(self.splits) or "none"
            raise ValueError(f"{self.name} has no split {split!r}; its splits: {there}")
        return self.splits[wanted]

    def keys(self, indices: np.ndarray) -> Sequence[str]:
        """The relative paths of some of the images."""
        return some(self.images.keys, indices)

    def labels_as(self, classes: Sequence[str]) -> np.ndarray:
        """Each image's label as an index into `classes`, matched by name; −1 where `classes` lacks it."""
        place = {name: index for index, name in enumerate(classes)}
        if tuple(classes) == self.classes:
            return self.labels
        return np.array([place.get(name, -1) for name in self.classes], np.int64)[self.labels]

    def counts(self, indices: np.ndarray | None = None) -> dict[str, int]:
        """Images of each class."""
        labels = self.labels if indices is None else self.labels[indices]
        return dict(zip(self.classes, np.bincount(labels, minlength=len(self.classes)).tolist(), strict=True))

    def fingerprint(self, indices: np.ndarray) -> str:
        """A hash of some of the images: their relative paths, class names and sizes (of arrays, their pixels)."""
        wanted = np.zeros(len(self), bool)
        wanted[indices] = True
        names = [name.encode("utf-8", ODD) for name in self.classes]
        digest, contents, start = hashlib.sha256(), iter(self.images.contents()), 0
        for block in blocks(self.images.keys):
            stop = start + len(block)
            here, labels = wanted[start:stop].tolist(), self.labels[start:stop].tolist()
            for key, label, content, is_wanted in zip(block, labels, contents, here, strict=False):
                if is_wanted:
                    digest.update(b"%b\t%b\t%b\n" % (key, names[label], content))
            start = stop
        return digest.hexdigest()


class Division(NamedTuple):
    """Which images train and which measure while training."""

    train: np.ndarray
    val: np.ndarray
    val_name: str  # "val": the data's own; "held-out": by the hash rule; "": none, and `best` is the last
    rule: dict[str, Any]  # how the held-out images are found again, stored in the model


def divide(data: Dataset, fraction: float, seed: int) -> Division:
    """Training and validation images: the data's own split `val`, else held out by the hash rule from what trains.

    `fraction` 0 holds nothing out and uses no split. Raises ValueError where the data has splits and none is `train`.
    """
    if data.splits and "train" not in data.splits:
        raise ValueError(f"{data.name} has the splits {', '.join(data.splits)} and no train; rename one, or name its folder")
    train = data.indices("train") if data.splits else data.indices()
    nothing = np.array([], np.int64)
    if fraction == 0:
        return Division(train, nothing, "", {"rule": "none"})
    if "val" in data.splits:
        return Division(train, data.splits["val"], "val", {"rule": "split", "split": "val"})
    held = held_out(data.keys(train), fraction, seed)
    rule = {"rule": "hash", "seed": seed, "fraction": fraction}
    return Division(train[~held], train[held], "held-out" if held.any() else "", rule)


def held_out(keys: Sequence[str], fraction: float, seed: int) -> np.ndarray:
    """Which images are held out: those whose hash of (seed, relative path) lies in the lowest `fraction` of all hashes.

    A bool an image. The rule looks at one path alone, so adding photos never moves one from held-out to training; the
    share of a class is the fraction on average, and a class of few images may have none.
    """
    return hashed_below(keys, f"{seed}\t".encode(), int(fraction * 2**64))


def natural(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """The key that sorts names naturally: digits by their value (1, 2, 10), everything else by its characters."""
    parts = re.findall(r"\d+|\D+", name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts], name
