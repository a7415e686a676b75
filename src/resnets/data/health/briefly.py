"""The brief check that training begins with: what a look of a second or two finds."""

import hashlib
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from resnets import machine
from resnets.data.dataset import Dataset, Division
from resnets.data.decode import UnreadableImage
from resnets.data.health.counts import imbalances
from resnets.data.health.found import Problem, printable
from resnets.data.health.groups import listed
from resnets.data.health.looking import Look, look

LOOKED, SECONDS = 256, 2.0  # images that are looked at, and the time after which no more are
MANY = 200_000  # images up to which bytes are compared
READ = 512  # files that are read for it, of those of the same size


def brief(data: Dataset, division: Division, size: int, workers: int = 0) -> list[Problem]:
    """What a brief look at images that train and measure finds: of some evenly spread ones, those that can't be used or
    are smaller than the `size` pixels that the network reads; the same bytes in two splits or classes, where sizes point
    to it; unequal classes. Nothing is read of images in memory.

    It is a sample: `check` looks at all.
    """
    both = np.concatenate([division.train, division.val])
    some = both[np.linspace(0, len(both) - 1, min(LOOKED, len(both))).astype(int)].tolist()
    looks = _looks(data, some, workers or machine.cores())
    found = [Problem(seen.fault[0], (data.images.keys[index],), seen.fault[1]) for index, seen in looks if seen.fault]
    for index, seen in looks:
        if seen.width and seen.type != "array" and min(seen.width, seen.height) < size:
            detail = f"{seen.width}×{seen.height} pixels, less than {size}"
            found.append(Problem("too_small", (data.images.keys[index],), detail))
    if len(data) <= MANY:
        found += _twice(data, *_places(data, division))
    return [*found, *imbalances(data, division.train)]


def in_words(problems: Sequence[Problem]) -> list[str]:
    """A line of each kind: how many, and the first."""
    of_kind: dict[str, list[Problem]] = defaultdict(list)
    for problem in problems:
        of_kind[problem.kind].append(problem)
    said = []
    for kind, (first, *more) in of_kind.items():
        paths = " and ".join(map(printable, first.paths[:2]))
        detail = f"{paths} ({first.detail})" if paths else first.detail
        said.append(f"{kind.replace('_', ' ')}: {detail}" + (f" and {len(more):,} more" if more else ""))
    return said


def _looks(data: Dataset, indices: Sequence[int], workers: int) -> list[tuple[int, Look]]:
    """Looks at images, as many as the time allows."""
    end = time.perf_counter() + SECONDS

    def one(index: int) -> Look | None:
        return look(data.images, index) if time.perf_counter() < end else None

    with ThreadPoolExecutor(workers) as pool:
        seen = list(zip(indices, pool.map(one, indices), strict=True))
    return [(index, found) for index, found in seen if found is not None]


def _places(data: Dataset, division: Division) -> tuple[np.ndarray, list[str]]:
    """Of each image the number of its split, −1 of those left out, and the splits' names."""
    parts = {"train": division.train, division.val_name: division.val}
    parts |= {split: indices for split, indices in data.splits.items() if split not in ("train", division.val_name)}
    where = np.full(len(data), -1)
    for number, indices in enumerate(parts.values()):
        where[indices] = number
    return where, list(parts)


def _twice(data: Dataset, where: np.ndarray, splits: Sequence[str]) -> Iterator[Problem]:
    """Images with the same bytes in several splits, or classes. Where few
    have a size it says most, so they are read first."""
    sizes = np.fromiter((hash(content) for content in data.images.contents()), np.int64, len(data))
    cells = np.stack([where, data.labels], 1)
    order = np.argsort(sizes, kind="stable")
    order = order[where[order] >= 0]
    groups = np.split(order, np.flatnonzero(np.diff(sizes[order])) + 1)
    suspects = [group for group in groups if len(group) > 1 and (cells[group] != cells[group[0]]).any()]
    left = READ
    for group in sorted(suspects, key=len):
        left -= len(group)
        if left < 0:
            return
        for members in _same(data, group.tolist()):
            paths = tuple(data.images.keys[index] for index in members)
            if len(found := dict.fromkeys(splits[int(where[index])] for index in members)) > 1:
                yield Problem("leak", paths, f"the same bytes, in {listed(found)}")
            if len(found := dict.fromkeys(data.classes[int(data.labels[index])] for index in members)) > 1:
                yield Problem("label_conflict", paths, f"the same bytes, in the classes {listed(found)}")


def _same(data: Dataset, indices: Sequence[int]) -> list[list[int]]:
    """Groups of images whose bytes are the same: the file's, or in memory the pixels'."""
    same: dict[bytes, list[int]] = defaultdict(list)
    for index in indices:
        try:
            content = data.images.encoded(index)
            content = data.images.read(index).tobytes() if content is None else content
        except UnreadableImage:
            continue
        if content:  # an empty file is no copy of another
            same[hashlib.sha256(content).digest()].append(index)
    return [members for members in same.values() if len(members) > 1]
