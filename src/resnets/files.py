"""Files that are whole or not there: atomic writes, hashes, the cache folder."""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


@contextlib.contextmanager
def replacing(path: Path, mode: str = "wb", **how: Any) -> Iterator[IO[Any]]:
    """A new file that takes `path`'s place by one rename when the block ends; on any error the old one stays as it was.

    The folder must exist. Raises OSError with the path where the disk is full or the place can't be written.
    """
    path = Path(os.path.realpath(path))  # a link stays, and what it points to is replaced
    with _partial(path) as (descriptor, partial):
        with os.fdopen(descriptor, mode, **how) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)  # noqa: PTH105


@contextlib.contextmanager
def making(path: Path) -> Iterator[Path]:
    """The path of an empty file that takes `path`'s place as `replacing`'s does, for what writes to paths alone."""
    path = Path(os.path.realpath(path))
    with _partial(path) as (descriptor, partial):
        os.close(descriptor)
        yield Path(partial)
        os.chmod(partial, 0o666 & ~_umask())  # noqa: PTH101  (it may be another file by now)
        with Path(partial).open("rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)  # noqa: PTH105


@contextlib.contextmanager
def _partial(path: Path) -> Iterator[tuple[int, str]]:
    """A file beside `path` that is removed again unless it was renamed."""
    try:
        descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        os.chmod(partial, 0o666 & ~_umask())  # noqa: PTH101
        try:
            yield descriptor, partial
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(partial)  # noqa: PTH108
    except OSError as error:
        if error.filename is None:  # ENOSPC on a write names no file
            error.filename = str(path)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with replacing(path) as file:
        file.write(content)


def write_json(path: Path, document: Any) -> None:
    """Write a JSON document whole or not at all."""
    write_bytes(path, (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode())


def read_object(path: Path) -> dict[str, Any]:
    """A JSON file's object. Raises ValueError, naming the file, where there is none."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is no JSON file: {error}") from None
    if not isinstance(document, dict):
        raise ValueError(f"{path} is no JSON object")
    return document


def sha256(path: Path) -> str:
    """The hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder() -> Path:
    """Where fetched and derived files are kept: $RESNETS_CACHE, else $XDG_CACHE_HOME/resnets, else ~/.cache/resnets."""
    if own := os.environ.get("RESNETS_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "resnets"
