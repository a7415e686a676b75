"""Which images go into which shard: by the number of shards and a shuffle by hash, whatever the machine."""

import re
from collections.abc import Mapping
from concurrent.futures import Executor
from typing import NamedTuple

import numpy as np

from resnets.data.dataset import Dataset
from resnets.data.decode import UnreadableImage
from resnets.data.order import order
from resnets.data.packing.encoding import Encoding
from resnets.data.shards.tar import BLOCK

SEED = 0
LARGEST = 256 * 10**6  # bytes of a shard, about, at most
FEWEST, LEAST = 16, 256  # a split has so many shards at least, as long as each holds so many images
LOOKED_AT = 128  # images by which the size of a split is judged
BESIDE = 3 * BLOCK + BLOCK // 2  # bytes of a sample beside its image: headers, the label, what fills up


class Shard(NamedTuple):
    """What one shard will hold."""

    name: str
    split: str  # "" where the data has none
    first: int  # the number of its first sample within the split
    images: np.ndarray  # int64 [samples]: indices into the dataset, in the shard's order


def parts_of(data: Dataset) -> dict[str, np.ndarray]:
    """The images of each split, or of "". ValueError where the splits aren't the data, or can't name a file."""
    if not data.splits:
        return {"": data.indices()}
    if not np.array_equal(np.sort(np.concatenate(list(data.splits.values()))), data.indices()):
        raise ValueError(f"the splits of {data.name} overlap or leave images out; packed is data that they divide")
    for split in data.splits:
        if not re.fullmatch(r"\w[\w.-]*", split):
            raise ValueError(
                f"the split {split!r} of {data.name} can't begin a shard's name; name it with letters and digits"
            )
    return data.splits


def counted(data: Dataset, encoding: Encoding, shards: int | None, pool: Executor) -> dict[str, int]:
    """How many shards each split has: as many as asked; else of 256 MB at most, judged by images spread over the split, and
    16 at least, as long as each holds 256 images. ValueError where a split has fewer images than shards are asked for.
    """
    numbers = {}
    for split, images in parts_of(data).items():
        if shards is not None:
            if shards > len(images):
                what = f"the split {split}" if split else data.name
                raise ValueError(
                    f"{what} has {len(images):,} images, too few for {shards:,} shards; ask for as many at most"
                )
            numbers[split] = shards
            continue
        chosen = images[np.linspace(0, len(images) - 1, min(LOOKED_AT, len(images))).astype(int)]
        sizes = [size for size in pool.map(lambda index: _size(data, encoding, int(index)), chosen) if size]
        whole = len(images) * (BESIDE + sum(sizes) / max(len(sizes), 1))
        numbers[split] = max(int(-(-whole // LARGEST)), min(FEWEST, len(images) // LEAST), 1)
    return numbers


def _size(data: Dataset, encoding: Encoding, index: int) -> int:
    try:
        return len(encoding.encoded(data.images, index)[0])
    except UnreadableImage:
        return 0


def planned(data: Dataset, numbers: Mapping[str, int]) -> list[Shard]:
    """Every shard: each split shuffled, then cut into parts that differ by one image at most."""
    shards = []
    for split, images in parts_of(data).items():
        shuffled = images[order(SEED, 0, len(images))]
        first = 0
        for number, part in enumerate(np.array_split(shuffled, numbers[split])):
            name = f"{split}-{number:06}.tar" if split else f"{number:06}.tar"
            shards.append(Shard(name, split, first, part))
            first += len(part)
    return shards
