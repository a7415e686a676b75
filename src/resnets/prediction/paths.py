"""Which images a list of paths means: files, folders, globs, manifests, and `-` for standard input."""

import glob
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from resnets.data.dataset import natural
from resnets.data.sources import MANIFESTS, images_below, manifest_paths


def expand(paths: Iterable[str | os.PathLike[str]]) -> Iterator[str]:
    """The image files that paths mean, one by one, as they open from here; a folder's in natural order, no hidden ones.

    A path that is nothing comes back as it is, and reading it says so. Raises ValueError for a folder without images.
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
            yield from files or expand(matches)
        else:
            yield str(given)


def _folder(path: Path) -> Iterator[str]:
    """The images of a folder, at least one."""
    found = (os.path.join(path, key) for key in images_below(path, "."))  # noqa: PTH118
    first = next(found, None)
    if first is None:
        raise ValueError(f"the folder {path} holds no image")
    yield first
    yield from found
