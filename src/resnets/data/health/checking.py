"""The check: one pass over the files of a dataset, and what it finds."""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import numpy as np

from resnets import machine
from resnets.data.dataset import Dataset, FileImages
from resnets.data.health import counts
from resnets.data.health.found import KINDS, Health, Problem, counted, sizes
from resnets.data.health.groups import Group, grouped, left_out, problems_of
from resnets.data.health.likeness import SIDE
from resnets.data.health.links import bad_links, below
from resnets.data.health.looking import Look, look
from resnets.data.progress import ImageProgress
from resnets.data.sources import open_dataset
from resnets.files import write_bytes

SLICE, AHEAD = 16, 128  # images handed to a thread together, and slices that wait for one


def check(
    data: str | os.PathLike[str] | Dataset,
    *,
    exclude: str | os.PathLike[str] | None = None,
    size: int | None = None,
    workers: int = 0,
) -> Health:
    """Look at every image of a dataset once, and say what is wrong. Nothing is changed, moved or removed.

    `size` is the input that training will have, in pixels; by default its own rule (see `counts.too_small`). `workers` are
    threads that read and decode, 0 one a core. `exclude` is a file to write: the relative paths, one a line and in order,
    that `train --exclude` is to leave out. Images in memory are compared and counted alone. Copies that were mirrored,
    turned or cropped aren't found (see `likeness`). It takes some 5 kB of memory an image.

    A link of a folder's that leads out of it, or in a circle, is found where `data` is that folder's path.
    Raises ValueError where the data can't be opened or `size` can't be.
    """
    if size is not None and size < 1:
        raise ValueError(f"size is the pixels that the network reads, at least 1, not {size}")
    if exclude is not None and not Path(exclude).absolute().parent.is_dir():
        raise ValueError(f"there is no folder {Path(exclude).parent} to write {Path(exclude).name} to")
    opened = data if isinstance(data, Dataset) else open_dataset(data)
    links: dict[str, str] = {}
    if isinstance(opened.images, FileImages):
        walk = not isinstance(data, Dataset) and Path(data).is_dir()
        links = bad_links(opened.images.root, opened.images.keys, walk)
    looks, thumbnails = _looked_at(opened, links, workers or machine.cores())
    groups = grouped(looks, thumbnails)
    unwanted = left_out(opened, groups) | _unusable(opened, looks, links)
    keys = tuple(opened.images.keys[index] for index in sorted(unwanted))
    if exclude is not None:
        write_exclusions(Path(exclude), keys)
    return Health(
        opened.name,
        len(opened),
        counts.classes(opened),
        {split: len(indices) for split, indices in opened.splits.items()},
        _problems(opened, looks, groups, links, size),
        counts.table(opened),
        sizes(looks),
        counted([look.type for look in looks if look.mode]),
        counted([look.mode for look in looks]),
        keys,
    )


def write_exclusions(path: Path, keys: Sequence[str]) -> None:
    """Relative paths, one a line, whole or not at all. ValueError for a path that has several lines itself."""
    if several := [key for key in keys if "\n" in key or "\r" in key]:
        raise ValueError(f"{several[0]!r} has a line break in its name, and can't be listed; rename it")
    write_bytes(path, "".join(f"{key}\n" for key in keys).encode("utf-8", "surrogateescape"))


def _looked_at(data: Dataset, links: Mapping[str, str], workers: int) -> tuple[list[Look], np.ndarray]:
    """A look at each image, without its thumbnail, and the thumbnails: uint8 [images, 32, 32, 3]."""
    thumbnails = np.zeros((len(data), SIDE, SIDE, 3), np.uint8)

    def some(indices: range) -> list[Look]:
        return [one(index) for index in indices]

    def one(index: int) -> Look:
        if reason := links.get(data.images.keys[index]):
            return Look(fault=("outside_root", reason))
        found = look(data.images, index)
        if found.thumbnail is not None:
            thumbnails[index] = found.thumbnail
        return found._replace(thumbnail=None)

    found: list[Look] = []
    slices = [range(start, min(start + SLICE, len(data))) for start in range(0, len(data), SLICE)]
    with ThreadPoolExecutor(workers, "check") as pool:
        ahead = (pool.map(some, slices[start : start + AHEAD]) for start in range(0, len(slices), AHEAD))
        with ImageProgress(data.name, len(data), 0) as progress:
            for seen in chain.from_iterable(chain.from_iterable(ahead)):
                found.append(seen)
                progress.step()
    return found, thumbnails


def _unusable(data: Dataset, looks: Sequence[Look], links: Mapping[str, str]) -> set[int]:
    """Images with a fault, or beneath a link that leads elsewhere."""
    return {
        index
        for index, (key, look) in enumerate(zip(data.images.keys, looks, strict=True))
        if look.fault or below(key, links)
    }


def _problems(
    data: Dataset, looks: Sequence[Look], groups: Sequence[Group], links: Mapping[str, str], size: int | None
) -> tuple[Problem, ...]:
    """All problems, by kind and then in the order they are found."""
    found = chain(
        _of_files(data, looks, links),
        counts.too_small(data, looks, size),
        problems_of(data, groups),
        counts.mismatches(data),
        counts.imbalances(data),
    )
    place = {kind: number for number, kind in enumerate(KINDS)}
    return tuple(sorted(found, key=lambda problem: place[problem.kind]))


def _of_files(data: Dataset, looks: Sequence[Look], links: Mapping[str, str]) -> Iterator[Problem]:
    for key, seen in zip(data.images.keys, looks, strict=True):
        faults = (seen.fault,) if seen.fault and seen.fault[0] != "outside_root" else ()
        yield from (Problem(kind, (key,), detail) for kind, detail in (*faults, *seen.notes))
    yield from (Problem("outside_root", (path,), reason) for path, reason in links.items())
