"""Which images a list of paths means: files, folders, globs, manifests, and `-` for standard input."""

import glob
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from resnets.data.sources import MANIFESTS, images_below, manifest_paths


def expand(paths: Iterable[str | os.PathLike[str]]) -> Iterator[str]:
    """The image files that paths mean, one by one, as they open from here; a folder's in natural order, no hidden ones.

    A path that is nothing comes back as it is, and reading it says so. Raises ValueError for a folder without images.
    """
    for given in paths:
        path = Path(given)
        if str(given) == "-":
            yield from (line.rstrip("\n") for line in sys.stdin if line.strip())
        elif path.is_dir():
            found = (os.path.join(path, key) for key in images_below(path, "."))  # noqa: PTH118
            first = next(found, None)
            if first is None:
                raise ValueError(f"the folder {path} holds no image")
            yield first
            yield from found
        elif path.suffix.lower() in MANIFESTS:
            yield from (str(image) for image in manifest_paths(path))
        elif not path.exists() and glob.has_magic(str(given)):
            matches = sorted(glob.glob(str(given), recursive=True))  # noqa: PTH207
            if not matches:
                raise ValueError(f"nothing matches {given}")
            yield from (match for match in matches if Path(match).is_file())
        else:
            yield str(given)
