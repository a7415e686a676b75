"""What is known of a table that is being written: its settings, the chunks there are, and who may write.

Beside `labels.csv` stands `labels.csv.json`, the settings, from before the first image until after the last; until the
table is whole its chunks lie in `.labels.csv.chunks`. Each file comes by one rename, so a kill at any time loses nothing
but the chunk that was under way.
"""

import contextlib
import fcntl
import itertools
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from resnets.errors import WorkFailed
from resnets.files import replacing, write_json
from resnets.prediction.tables import Layout, join, read_best
from resnets.words import differences

CHUNKS, CLUSTER = "chunks", "cluster"  # kinds of folders for what is under way
FINISHED = "finished"  # the key under which the settings say what came of it, once the table is whole


class Record:
    """A table's settings and chunks on the disk. What changes them is called while `locked`."""

    def __init__(self, out: Path, kind: str = CHUNKS) -> None:
        """`kind` says who writes: chunks of one machine and of a cluster aren't each other's."""
        self.name = out
        self.out = Path(os.path.realpath(out))  # a link stays, and what it points to is written
        self.sidecar = self.out.with_name(f"{self.out.name}.json")
        self.folder, self.clusters = (self.out.with_name(f".{self.out.name}.{of}") for of in (kind, CLUSTER))

    def read(self) -> dict[str, Any] | None:
        """The settings that the table was begun with; None where it wasn't. ValueError where something else lies there."""
        there = os.path.lexists(self.out)  # looked for first: another process may be finishing
        try:
            document = json.loads(self.sidecar.read_text(encoding="utf-8"))
        except FileNotFoundError:
            if self.clusters.exists():
                raise ValueError(
                    f"{self.name} was begun with --cluster; give that again, or another --out; to begin anew, remove "
                    f"{self.clusters}"
                ) from None
            if there:
                raise ValueError(
                    f"{self.name} exists, and no {self.sidecar.name} beside it says how it was made; remove it, or give "
                    "another --out"
                ) from None
            return None
        except ValueError:
            document = None
        if not isinstance(document, dict) or "format" not in document:
            raise ValueError(f"{self.sidecar} is no record of a table; move it away, or give another --out")
        if there and FINISHED not in document:
            raise ValueError(
                f"{self.name} came from elsewhere while the table was under way; move it away, and the same command goes on"
            )
        return document

    def refuse_other(self, settings: Mapping[str, Any]) -> None:
        """Raise ValueError where the table was begun with other settings, with those that differ."""
        begun = self.read() or {}
        there = {name: value for name, value in begun.items() if name != FINISHED}
        refuse_other(self.name, there, settings, f"{self.out.name} and {self.sidecar.name}")

    def is_finished(self) -> bool:
        """Whether the table is whole and in its place."""
        return FINISHED in (self.read() or {}) and self.out.exists()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """The right to write, for one process at a time; it ends with the process. WorkFailed where another has it."""
        while True:
            self.folder.mkdir(exist_ok=True)
            with (self.folder / "lock").open("wb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise WorkFailed(f"another process is writing {self.name}; wait for it, or give another --out") from None
                if not _is_there(self.folder / "lock", file.fileno()):
                    continue  # another process finished in between, and took the folder away
                yield
                return

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Begin the table, or go on with it. ValueError where it was begun otherwise."""
        begun = self.read()
        if begun is None:  # chunks of a table whose record is gone are of no use
            for left in self.folder.iterdir():
                if left.name != "lock":
                    left.unlink()
        else:
            self.refuse_other(settings)
        if begun is None or (FINISHED in begun and not self.out.exists()):
            self._write(settings)

    def chunk(self, number: int) -> Path:
        """Where a chunk lies."""
        return self.folder / f"{number:05}"

    def chunks(self) -> int:
        """How many chunks there are, from the first."""
        number = 0
        while self.chunk(number).exists():
            number += 1
        return number

    def finish(self, settings: Mapping[str, Any], chunks: int, layout: Layout) -> dict[str, int]:
        """Join the chunks to the table and put it in its place: {"predicted", "failed"}."""
        paths = [self.chunk(number) for number in range(chunks)]
        figures = {"predicted": 0, "failed": 0}
        for _, error in itertools.chain.from_iterable(read_best(path, layout, chunk=True) for path in paths):
            figures["predicted" if error is None else "failed"] += 1
        whole = self.folder / "whole"
        with replacing(whole) as file:
            join(file, paths, layout, dict(settings))
        self._write({**settings, FINISHED: figures})
        whole.replace(self.out)
        self.clear()
        return figures

    def clear(self) -> None:
        """Take the chunks away, now that the table holds them."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self, settings: Mapping[str, Any]) -> None:
        new = self.folder / "settings"  # a kill leaves nothing beside the table
        write_json(new, settings)
        new.replace(self.sidecar)


def refuse_other(name: Path, begun: Mapping[str, Any], settings: Mapping[str, Any], remove: str) -> None:
    """Raise ValueError where what was begun differs from `settings`, saying in what, and what to remove to begin anew."""
    if said := differences(begun, settings):
        raise ValueError(
            f"{name} was begun otherwise: {said}. Give the same again, or another --out; to begin anew, remove {remove}"
        )


def _is_there(path: Path, descriptor: int) -> bool:
    """Whether a file that was opened is still what lies at its path."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
