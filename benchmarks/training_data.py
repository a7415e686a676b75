"""What the training benchmark trains on: Fashion-MNIST's images as arrays, or images of its own; and a watch for it."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from resnets.data import open_dataset
from resnets.data.dataset import ArrayImages


class Images(NamedTuple):
    """Training and test images, uint8 [images, height, width] grey, and their labels, int64 from 0."""

    train: np.ndarray
    train_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray


class Stopwatch:
    """Seconds since it was made or reset, less those it was stopped for."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """From nothing again."""
        self._began, self._stopped = time.perf_counter(), 0.0

    @property
    def seconds(self) -> float:
        """What it shows; within `stopped`, what it showed at the beginning of that."""
        return time.perf_counter() - self._began - self._stopped

    @contextlib.contextmanager
    def stopped(self) -> Iterator[float]:
        """Within the block no time passes; what the watch shows."""
        shown = self.seconds
        try:
            yield shown
        finally:
            self._stopped = time.perf_counter() - self._began - shown


def read(folder: Path, most: int | None = None) -> Images:
    """Those of a folder of IDX files, or the first `most` of each split. ValueError where it holds anything else."""
    data = open_dataset(folder)
    if not isinstance(data.images, ArrayImages) or data.images.pixels.shape[3] != 1 or set(data.splits) != {"train", "test"}:
        raise ValueError(f"{folder} isn't the four IDX files of Fashion-MNIST; name the folder that they are in")
    pixels, train, test = data.images.pixels[..., 0], data.splits["train"][:most], data.splits["test"][:most]
    return Images(pixels[train], data.labels[train], pixels[test], data.labels[test])


def write(folder: Path, count: int, size: int, channels: int) -> Path:
    """IDX files of so many square images without sense, for measuring speed, in ten classes; the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    shape = (count, size, size) if channels == 1 else (count, size, size, channels)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    write_idx(folder / f"train-images-idx{len(shape)}-ubyte", pixels)
    write_idx(folder / "train-labels-idx1-ubyte", (np.arange(count) % 10).astype(np.uint8))
    return folder


def write_idx(path: Path, array: np.ndarray) -> None:
    """A uint8 array as an IDX file: four bytes of kind and dimensions, its shape, its values."""
    with path.open("wb") as file:
        file.write(bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes())
        array.tofile(file)
