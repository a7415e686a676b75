"""Photos into a folder for each class: linked or copied (those in tar files copied), never moved, and nothing that is there
is overwritten.
"""

import contextlib
import errno
import filecmp
import itertools
import logging
import os
import re
import shutil
import sys
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from resnets.data.shards import Inside
from resnets.files import PARTIAL
from resnets.prediction.answers import Prediction
from resnets.prediction.tables import Layout, read_best

log = logging.getLogger("resnets")

UNSURE = "_unsure"
LONGEST = 255  # bytes of a file's name


class Sorter:
    """Puts photos into the folders of their classes, and counts.

    Done again with the same photos it finds each in its place. Photos of one name get `-2`, `-3`, …
    """

    def __init__(self, folder: str | os.PathLike[str], classes: Sequence[str]) -> None:
        """The folder is made with its first photo. ValueError where it is a file."""
        self.folder = Path(folder)
        if os.path.lexists(folder) and not self.folder.is_dir():
            raise ValueError(f"{folder} is a file; photos are sorted into a folder")
        self.names = folder_names(classes)
        self.counts = {"linked": 0, "copied": 0, "there": 0, "left_out": 0}
        self._sources: set[str] = set()  # photos that were sorted
        self._places: set[str] = set()  # where they lie
        self._taken: dict[str, int] = {}  # of a name, by how many first places are taken

    def passing(self, answers: Iterable[Prediction]) -> Iterator[Prediction]:
        """Sort the photos of answers as they pass."""
        for answer in answers:
            if answer.path is not None:
                self.add(answer.path, answer.labels[0] if answer.labels else None, answer.error)
            yield answer

    def add(self, path: str, label: str | None, error: str | None = None) -> None:
        """Sort one photo; without a label into `_unsure`, and with an error nowhere."""
        inside = Inside.of(path)
        source = path if inside is not None and inside.is_remote() else os.path.abspath(path)  # noqa: PTH100 (no links resolved)
        if source in self._sources:
            return
        self._sources.add(source)
        if error is not None:
            self.counts["left_out"] += 1
            return
        folder = self.folder / (UNSURE if label is None else self.names[label])
        folder.mkdir(parents=True, exist_ok=True)
        if os.path.abspath(folder) == os.path.dirname(source):  # noqa: PTH100, PTH120
            self.counts["there"] += 1
            return
        if inside is not None:
            with _partial(folder) as partial:
                partial.write_bytes(inside.encoded())
                self._put(str(partial), Path(inside.member).name, folder, _moved)
            return
        try:
            self._put(source, os.path.basename(source), folder, _new)  # noqa: PTH119
        except FileNotFoundError:
            if os.path.exists(source):  # noqa: PTH110
                raise
            log.warning("not sorted: %s is gone", path)
            self.counts["left_out"] += 1

    def say(self) -> None:
        """What became of the photos, once."""
        linked, copied, there, left_out = self.counts.values()
        said = f"{linked} linked, {copied} copied, {there} there already"
        log.info("%s: %d images sorted (%s), %d left out", self.folder, linked + copied + there, said, left_out)

    def to_json(self) -> dict[str, Any]:
        """Where to, and the counts, for JSON."""
        return {"into": str(self.folder), **self.counts}

    def _put(self, source: str, name: str, folder: Path, new: Callable[[str, str], str | None]) -> None:
        first = os.path.join(folder, name)  # noqa: PTH118
        for number in itertools.count(self._taken.get(first, 0) + 1):
            place = numbered(first, number)
            if place in self._places:
                continue
            how = "there" if _same(source, place) else new(source, place)
            if how is None:  # another photo has that name
                continue
            self.counts[how] += 1
            self._places.add(place)
            taken = self._taken.get(first, 0)
            while numbered(first, taken + 1) in self._places:
                taken += 1
            self._taken[first] = taken
            return


def sort_table(table: Path, layout: Layout, images: Sequence[str], sorter: Sorter) -> None:
    """Sort the photos of a table that is whole; its rows are those of `images`, in order."""
    for path, (label, error) in zip(images, read_best(table, layout), strict=True):
        sorter.add(path, label, error)


def numbered(path: str, number: int) -> str:
    """The first place of that name, or the second, third, …: `cat.jpg`, `cat-2.jpg`; no longer than a name can be."""
    if number == 1:
        return path
    folder, name = os.path.split(path)
    stem, suffix = os.path.splitext(name)  # noqa: PTH122
    end = f"-{number}{suffix}"
    while stem and len(os.fsencode(stem + end)) > LONGEST:
        stem = stem[:-1]
    return os.path.join(folder, stem + end)  # noqa: PTH118


def folder_names(classes: Sequence[str]) -> dict[str, str]:
    """A folder's name for each class: its own where that can be one, else one made of it; no two alike, none `_unsure`."""
    names, taken = {}, {_key(UNSURE)}
    for name in sorted(classes, key=lambda name: name == UNSURE or _safe(name) != name):  # good ones keep their names
        numbers = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
        names[name] = next(found for end in numbers if _key(found := _safe(name, end)) not in taken)
        taken.add(_key(names[name]))
    return names


def _safe(name: str, end: str = "") -> str:
    """A class's name without what no folder's name has: slashes, control characters, a dot at the start, too many bytes."""
    plain = re.sub(r"[/\\\x00-\x1f\x7f]", "_", name.encode("utf-8", "replace").decode())
    plain = re.sub(r"^\.", "_", plain) or "_"
    while len((plain + end).encode()) > LONGEST:
        plain = plain[:-1]
    return plain + end


def _key(name: str) -> str:
    """What the file system takes for the same name: on a Mac, letters of either case and however composed."""
    return unicodedata.normalize("NFC", name).casefold() if sys.platform == "darwin" else name


def _same(source: str, place: str) -> bool:
    """Whether what lies at a place is the photo: the same file, or another of the same bytes."""
    try:
        found = os.lstat(place)
        if os.path.samestat(found, os.stat(source)):  # noqa: PTH116
            return True
        return os.path.isfile(place) and not os.path.islink(place) and filecmp.cmp(source, place, shallow=False)  # noqa: PTH113, PTH114
    except FileNotFoundError:
        return False


def _new(source: str, place: str) -> str | None:
    """Link or copy a photo to a place, and say which; None where something is there."""
    try:
        os.link(os.path.realpath(source), place)
        return "linked"
    except FileExistsError:
        return None
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise
    return _copied(source, place)


def _copied(source: str, place: str) -> str | None:
    """Copy a photo: whole or not at all, and over nothing."""
    with _partial(Path(place).parent) as partial:
        shutil.copy2(source, partial)
        return _moved(str(partial), place)


@contextlib.contextmanager
def _partial(folder: Path) -> Iterator[Path]:
    """A path to write a photo to, in the folder where it is to lie; what is still there at the end is removed."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".", suffix=PARTIAL) as own:
        yield Path(own) / "photo"


def _moved(partial: str, place: str) -> str | None:
    """Have a whole photo lie at a place, over nothing."""
    try:
        os.link(partial, place)
    except FileExistsError:
        return None
    except OSError:  # a file system without links
        if os.path.lexists(place):
            return None
        os.rename(partial, place)  # noqa: PTH104
    return "copied"
