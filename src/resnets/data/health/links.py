"""Symlinks that lead out of a dataset's folder, or in a circle. None is followed into."""

import errno
import os
from collections.abc import Container, Iterable, Iterator
from pathlib import Path

from resnets.data.decode import SUFFIXES


def bad_links(root: Path, keys: Iterable[str], walk: bool) -> dict[str, str]:
    """Relative path → what is wrong with it: of links on the way to the images, and with `walk` of all links below `root`.

    Hidden files and folders are left out, as are links to files that are no image by their suffix.
    """
    home = os.path.realpath(root)
    found = {}
    for path in sorted({*_on_the_way(root, keys), *(_links_below(root) if walk else ())}):
        reason = _reason(home, root / path)
        if reason:
            found[path] = reason
    return found


def below(key: str, links: Container[str]) -> bool:
    """Whether a relative path is one of the links, or lies beneath one."""
    return any(prefix in links for prefix in _prefixes(key))


def _prefixes(key: str) -> Iterator[str]:
    """The path itself and the folders on the way to it."""
    while key:
        yield key
        key = key.rpartition("/")[0]


def _on_the_way(root: Path, keys: Iterable[str]) -> Iterator[str]:
    """The links among the images and the folders above them. A manifest's paths that lead elsewhere by themselves may."""
    home, seen = os.fspath(root), set()
    for key in keys:
        if ".." in key.split("/") or "\0" in key:
            continue
        for prefix in _prefixes(key):
            if prefix in seen:
                break  # and so are the folders above it
            seen.add(prefix)
            if os.path.islink(f"{home}/{prefix}"):  # noqa: PTH114  (a path object for each costs more than the look)
                yield prefix


def _links_below(root: Path) -> Iterator[str]:
    for place, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        for name in (*folders, *files):
            path = Path(place, name)
            if name.startswith(".") or not path.is_symlink():
                continue
            if path.is_dir() or _circular(path) or path.suffix.lower() in SUFFIXES:
                yield path.relative_to(root).as_posix()


def _circular(path: Path) -> bool:
    try:
        os.stat(path)  # noqa: PTH116  (pathlib's says nothing of circles)
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


def _reason(home: str, path: Path) -> str:
    """What is wrong with a link, or ""."""
    if _circular(path):
        return "a link that leads in a circle"
    target = os.path.realpath(path)
    place = os.path.realpath(path.parent)
    if target == place or place.startswith(target.rstrip(os.sep) + os.sep):
        return "a link to a folder that holds it, which leads in a circle"
    if target != home and not target.startswith(home.rstrip(os.sep) + os.sep):
        return f"a link out of the data, to {target}"
    return ""
