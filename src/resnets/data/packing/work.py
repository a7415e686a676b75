"""The folder that is being packed: what was asked, the shards that are whole, and who may write.

Until all is whole `.pack` holds the request and a record of each shard, written before the shard takes its place by one
rename. A kill at any time loses nothing but the shard that was under way.
"""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from resnets.data.shards.addresses import INDEX, WORK
from resnets.data.shards.sidecar import read_sidecar
from resnets.errors import WorkFailed
from resnets.files import write_json
from resnets.words import differences

REQUEST, LOCK = "request.json", "lock"


class Work:
    """What is known of a folder that `pack` writes. What changes it is called while `locked`."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.folder = out / WORK

    def finished(self, request: Mapping[str, Any]) -> dict[str, Any] | None:
        """The index of a folder that is packed as requested, None where it isn't whole. ValueError where it is another's."""
        if not self.out.exists():
            return None
        if not self.out.is_dir():
            raise ValueError(f"{self.out} is a file; the shards are written into a folder")
        if (side := read_sidecar(f"{self.out}/")) is not None:
            self._refuse_other(side.document["request"], request)
            return side.document
        if not self.folder.exists() and any(self.out.iterdir()):
            raise ValueError(f"{self.out} isn't empty, and holds no shards that were begun here; give a new folder")
        self._refuse_other(self._begun() or request, request)
        return None

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """The right to write, for one process at a time; it ends with the process. WorkFailed where another has it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / LOCK).open("wb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise WorkFailed(
                    f"another process is packing into {self.out}; wait for it, or give another folder"
                ) from None
            yield

    def begin(self, request: Mapping[str, Any]) -> None:
        """Write down what was asked, and clear up after a run that was killed."""
        self._refuse_other(self._begun() or request, request)
        for left in self.out.glob(".*.part"):
            left.unlink()
        if self._begun() is None:
            write_json(self.folder / REQUEST, request)

    def record(self, shard: str) -> Path:
        """Where a shard's record lies."""
        return self.folder / f"{shard}.json"

    def whole(self, shard: str) -> bool:
        """Whether a shard is in its place, of the length that its record says."""
        with contextlib.suppress(FileNotFoundError):
            return self.read(shard)["bytes"] == (self.out / shard).stat().st_size
        return False

    def read(self, shard: str) -> dict[str, Any]:
        """A shard's record."""
        return json.loads(self.record(shard).read_text(encoding="utf-8"))

    def clear(self) -> None:
        """Take the records away, now that the index holds them."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _begun(self) -> dict[str, Any] | None:
        try:
            return json.loads((self.folder / REQUEST).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None

    def _refuse_other(self, begun: Mapping[str, Any], request: Mapping[str, Any]) -> None:
        if said := differences(begun, request):
            whole = os.path.lexists(self.out / INDEX)
            raise ValueError(
                f"{self.out} was {'packed' if whole else 'begun'} otherwise: {said}. Give the same again, or another folder"
            )
