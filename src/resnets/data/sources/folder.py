"""A folder of class folders."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from resnets.data.columns import Strings, strings
from resnets.data.dataset import SPLIT_NAMES, Dataset, FileImages, natural
from resnets.data.decode import SUFFIXES
from resnets.data.progress import Counting
from resnets.data.sources import index
from resnets.data.sources.index import Directories, Scan
from resnets.data.sources.labelling import labelled, runs


def folder(root: Path) -> Dataset:
    """A folder of class folders, with or without splits; its listing is kept, and taken again while it is true.

    What is noticed and what isn't: `resnets.data.sources.index`.
    """
    found = index.kept(root)
    if found is None:
        began = time.time_ns()
        found = scan(root)
        found = index.keep(root, found, began) or found
    images = FileImages(root, Strings(found.paths))
    of_class, of_split = runs(found.counts, found.classes), runs(found.counts, found.splits)
    return labelled(root.resolve().name, images, of_class, of_split, found.empty)


def scan(root: Path) -> Scan:
    """List a folder of class folders. Raises ValueError, which says what is there instead, where there is no image."""
    directories = Directories(root)
    directories.note("")
    inside = _subfolders(root)
    split_folders = {name: SPLIT_NAMES[name.lower()] for name in inside if name.lower() in SPLIT_NAMES}
    for name in split_folders:
        directories.note(name)
    nested = all(_subfolders(root / name) for name in split_folders)  # else a class may be called "test"
    splits_alone = bool(split_folders) and len(split_folders) == len(inside)
    as_splits = splits_alone or (nested and "train" in split_folders.values())
    tops = split_folders if as_splits else {"": ""}
    places = [(split, name, f"{top}/{name}".lstrip("/")) for top, split in tops.items() for name in _subfolders(root / top)]
    counts = [0] * len(places)

    def rows() -> Iterator[str]:
        for number, (_, _, place) in enumerate(places):
            for here, names in _walk(root, place, directories.note):
                counts[number] += len(names)
                counting.add(len(names))
                yield from (f"{here}/{name}" for name in names)

    with Counting(f"listing {root.name}") as counting:
        paths = strings(rows())
    empty: dict[str, tuple[str, ...]] = {}
    for (split, name, _), count in zip(places, counts, strict=True):
        if not count:
            empty[split] = (*empty.get(split, ()), name)
    if not len(paths):
        raise ValueError(_nothing_in(root, inside))
    return Scan(paths, counts, [name for _, name, _ in places], [split for split, _, _ in places], empty, *directories.noted)


def images_below(root: Path, top: str) -> Iterator[str]:
    """Relative paths of the image files in and below a folder, by their suffix, in natural order."""
    for here, names in _walk(root, top.removeprefix("."), lambda _: None):
        yield from (f"{here}/{name}" if here else name for name in names)


def _walk(root: Path, top: str, note: Callable[[str], None]) -> Iterator[tuple[str, list[str]]]:
    """Each folder from `top` down with its images, in natural order. Of links, files alone are followed.

    `note` is told a folder before it is read. One that can't be read is empty.
    """
    waiting = [top]
    while waiting:
        here = waiting.pop()
        note(here)
        folders, files = [], []
        try:
            with os.scandir(os.path.join(root, here)) as entries:  # noqa: PTH118
                for entry in entries:
                    if _hidden(entry.name):
                        continue
                    if _is_folder(entry):
                        folders += [] if entry.is_symlink() else [entry.name]
                    elif entry.name[entry.name.rfind(".") :].lower() in SUFFIXES:
                        files.append(entry.name)
        except OSError:
            continue
        waiting += [f"{here}/{name}" if here else name for name in sorted(folders, key=natural, reverse=True)]
        yield here, sorted(files, key=natural)


def _subfolders(place: Path) -> list[str]:
    """Names of the folders in a folder, hidden ones left out, in natural order."""
    with os.scandir(place) as entries:
        names = [entry.name for entry in entries if _is_folder(entry) and not _hidden(entry.name)]
    return sorted(names, key=natural)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder or a link to one; a link that leads round in a circle is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX"))


def _nothing_in(root: Path, inside: list[str]) -> str:
    """The sentence for a folder that holds no class folder with an image."""
    with os.scandir(root) as entries:
        loose = [entry.name for entry in entries if entry.is_file() and Path(entry.name).suffix.lower() in SUFFIXES]
    if loose:
        return f"{root} holds images but no class folders; put each class's images into a folder with the class's name"
    if next(images_below(root, "."), None):
        return f"the splits of {root} hold images but no class folders; put each class's images into a folder with its name"
    if inside:
        return f"none of the {len(inside)} folders in {root} holds an image; each class is a folder of images"
    if any(root.glob("*idx?-ubyte*")):
        return f"the IDX files in {root} aren't called as MNIST's: train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-…"
    what = "holds no images" if any(root.iterdir()) else "is empty"
    return f"{root} {what}; data is a folder with one folder of images for each class"
