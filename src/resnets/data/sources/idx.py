"""MNIST's IDX files, and the built-in digits."""

import gzip
import zlib
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np

from resnets.data.columns import Coded, Strings, strings
from resnets.data.dataset import ArrayImages, Dataset
from resnets.data.sources.labelling import labelled, runs

IDX_KINDS = {0x08: "uint8"}


def idx(root: Path) -> Dataset:
    """MNIST's files: train and t10k (the split `test`), images and labels, gzip or plain."""
    pixels, labels, splits = [], [], []
    for stem, split in (("train", "train"), ("t10k", "test")):
        files = _idx_file(root, stem, "images"), _idx_file(root, stem, "labels")
        if files == (None, None):
            continue
        if files[0] is None or files[1] is None:
            raise ValueError(f"{root} has only one of {stem}-images and {stem}-labels")
        images, numbers = read_idx(files[0]), read_idx(files[1])
        pictures = images.ndim == 3 or (images.ndim == 4 and images.shape[3] in (1, 3))
        if not pictures or numbers.ndim != 1 or len(images) != len(numbers):
            raise ValueError(
                f"{files[0]} holds {images.shape} and {files[1].name} {numbers.shape}: not images and their labels"
            )
        pixels.append(images)
        labels.append(numbers)
        splits.append((split, stem))
    if len({images.shape[1:] for images in pixels}) != 1:
        raise ValueError(f"the IDX files of {root} hold images of several sizes")
    counts = [len(images) for images in pixels]
    keys = (f"{stem}/{index:06}" for count, (_, stem) in zip(counts, splits, strict=True) for index in range(count))
    images = ArrayImages(np.concatenate(pixels), Strings(strings(keys)))
    of_split = runs(counts, [split for split, _ in splits])
    return labelled(root.resolve().name, images, _numbers(np.concatenate(labels)), of_split, {})


def read_idx(path: Path) -> np.ndarray:
    """One IDX file of unsigned bytes, plain or gzip. Raises ValueError if it isn't one, or is cut off."""
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{path} is a damaged gzip file: {error}") from None
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in IDX_KINDS:
        raise ValueError(f"{path} is no IDX file of unsigned bytes")
    shape = np.frombuffer(data, ">u4", data[3], 4).astype(np.int64) if len(data) >= 4 + 4 * data[3] else None
    if shape is None or len(data) != 4 + 4 * data[3] + int(shape.prod()):
        raise ValueError(f"{path} is cut off or too long: {len(data)} bytes don't hold what its header says")
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def digits() -> Dataset:
    """1,797 handwritten digits of 8×8 pixels, grey (Alpaydin and Kaynak 1998; see digits.LICENCE)."""
    with resources.files("resnets.data").joinpath("digits.npz").open("rb") as file:
        arrays = np.load(file, allow_pickle=False)
        pixels, labels = arrays["images"], arrays["labels"]
    keys = [f"{index:04}" for index in range(len(labels))]
    data = labelled("digits", ArrayImages(pixels, keys), _numbers(labels), runs([len(labels)], [""]), {})
    return replace(data, mirrors=False)


def is_idx(root: Path) -> bool:
    """Whether a folder holds MNIST's files."""
    return any(_idx_file(root, stem, "images") for stem in ("train", "t10k"))


def _numbers(labels: np.ndarray) -> Coded:
    """Labels 0…255 as the names of themselves."""
    return Coded(labels.astype(np.int32), [str(number) for number in range(256)])


def _idx_file(root: Path, stem: str, part: str) -> Path | None:
    """The file of MNIST's naming, `train-images-idx3-ubyte.gz` or with a dot in place of the second hyphen."""
    return next((path for path in sorted(root.glob(f"{stem}-{part}[-.]idx?-ubyte*")) if path.suffix in ("", ".gz") or
                 path.suffix.endswith("-ubyte")), None)  # fmt: skip
