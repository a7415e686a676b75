"""Symlinks that lead out of a dataset's folder, or in a circle. None is followed into."""

import errno
import os
from collections.abc import Container, Iterable, Iterator
from pathlib import Path, PurePosixPath

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


def _prefixes(key: str) -> list[str]:
    """The path itself and the folders on the way to it."""
    path = PurePosixPath(key)
    return [key, *(str(parent) for parent in path.parents if parent.name)]


def _on_the_way(root: Path, keys: Iterable[str]) -> Iterator[str]:
    seen: set[str] = set()
    for key in keys:
        if PurePosixPath(key).is_absolute() or "\0" in key:
            continue  # a manifest may say where its images are
        new = [prefix for prefix in _prefixes(key) if prefix not in seen and ".." not in PurePosixPath(prefix).parts]
        seen.update(new)
        yield from (prefix for prefix in new if (root / prefix).is_symlink())


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
