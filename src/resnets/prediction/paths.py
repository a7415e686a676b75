"""Which images a list of paths means: files, folders, globs, manifests, tar shards, and `-` for standard input; and a part
of them.
"""

import glob
import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from resnets.data.dataset import natural
from resnets.data.decode import SUFFIXES
from resnets.data.shards import images_in, names_shards
from resnets.data.sources import MANIFESTS, images_below, manifest_paths

log = logging.getLogger("resnets")

Name = str | os.PathLike[str]


class Listed(list[str]):
    """Image files, expanded already."""


class Part(NamedTuple):
    """The `number`-th, from 1, of `of` parts of the work: a block of the list, by position alone."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @classmethod
    def parse(cls, text: str) -> "Part":
        """The part that "I/N" means. ValueError for what is none."""
        found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        part = cls(*map(int, found.groups())) if found else None
        if part is None or not 1 <= part.number <= part.of:
            raise ValueError(f"a part is I/N with I from 1 to N, such as 2/4, not {text!r}")
        return part

    def of_images(self, images: Listed) -> Listed:
        """This part of a list; the parts in their order are the whole list."""
        return Listed(images[len(images) * (self.number - 1) // self.of : len(images) * self.number // self.of])

    def of_path(self, path: Path) -> Path:
        """Where this part of a table goes: `labels-2-of-4.csv`."""
        return path.with_name(f"{path.stem}-{self.number}-of-{self.of}{path.suffix}")


def expand(paths: Iterable[Name]) -> Iterator[str]:
    """The image files that paths mean, one by one, as they open from here; a folder's in natural order, no hidden ones.

    Those of a tar have the tar's path before their own: `shards/000.tar/0012.jpg`. A path that is nothing comes back as it
    is, and reading it says so. Raises ValueError for a folder without images.
    """
    for given in paths:
        path = Path(given)
        if str(given) == "-":
            yield from (line.rstrip("\n") for line in sys.stdin if line.strip())
        elif os.path.isdir(path):  # noqa: PTH112 (pathlib raises for a name that no file can have)
            yield from _folder(path)
        elif path.suffix.lower() in MANIFESTS:
            yield from (str(image) for image in manifest_paths(path))
        elif glob.has_magic(str(given)) and not os.path.exists(path):  # noqa: PTH110
            matches = sorted(glob.glob(str(given), recursive=True), key=natural)  # noqa: PTH207
            if not matches:
                raise ValueError(f"nothing matches {given}")
            files = [match for match in matches if os.path.isfile(match)]  # noqa: PTH113
            for match in files if files and "**" in str(given) else matches:
                yield from _folder(Path(match)) if os.path.isdir(match) else _file(match)  # noqa: PTH112
        else:
            yield from _file(str(given))


def listed(
    paths: Iterable[Name], *, out: Name | None = None, part: Part | None = None, sort_into: Name | None = None
) -> Listed:
    """Every image that paths mean, in order, the same before and after the command has written what it writes.

    Left out are the table that is written and its record, and what lies in the folder that is sorted into, unless all
    paths do.
    """
    given = [str(path) for path in paths]
    table = None if out is None else Path(os.path.abspath(out))  # noqa: PTH100 (resolve would follow a link of the out)
    places = "" if part is None else f"-[0-9]+-of-{part.of}"
    written = None if table is None else re.compile(f"{re.escape(table.stem)}{places}{re.escape(table.suffix)}(\\.json)?")

    def ours(path: str) -> bool:
        if table is None or written is None or not written.fullmatch(os.path.basename(path)):  # noqa: PTH119
            return False
        return os.path.dirname(os.path.abspath(path)) == str(table.parent)  # noqa: PTH100, PTH120

    images = Listed(image for image in expand(path for path in given if not ours(path)) if not ours(image))
    if sort_into is None or all(path != "-" and _within(path, sort_into) for path in given):
        return images
    outside = Listed(image for image in images if not _within(image, sort_into))
    if len(outside) < len(images):
        log.info("%d images left out that lie in %s, which is sorted into", len(images) - len(outside), sort_into)
    return outside


def _within(path: Name, folder: Name) -> bool:
    """Whether a path is a folder or lies in it, by name."""
    inner, outer = os.path.abspath(path), os.path.abspath(folder)  # noqa: PTH100
    return inner == outer or inner.startswith(os.path.join(outer, ""))  # noqa: PTH118


def _file(path: str) -> Iterable[str]:
    """A file itself; or, of what is shards, here or at a server, their images."""
    return images_in(path) if Path(path).suffix.lower() not in SUFFIXES and names_shards(path) else (path,)


def _folder(path: Path) -> Iterator[str]:
    """The images of a folder, or of the shards in it, at least one."""
    found = (os.path.join(path, key) for key in images_below(path, "."))  # noqa: PTH118
    first = next(found, None)
    if first is None and names_shards(path):
        yield from images_in(str(path))
        return
    if first is None:
        raise ValueError(f"the folder {path} holds no image")
    yield first
    yield from found
