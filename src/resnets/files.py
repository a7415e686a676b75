"""Files that are whole or not there: atomic writes, hashes, the cache folder."""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

PARTIAL = ".part"  # the end of the name of what isn't whole yet


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
    """A path to write a file to, which takes `path`'s place as `replacing`'s does, for what writes to paths alone.

    It is in a folder of its own, since a library may write beside it first, as safetensors does.
    """
    path = Path(os.path.realpath(path))
    with _naming(path), tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.", suffix=PARTIAL) as place:
        partial = Path(place) / path.name
        yield partial
        partial.chmod(0o666 & ~_umask())
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)  # noqa: PTH105


def sweep(folder: Path) -> None:
    """Delete from a folder that nobody writes to what a kill left of files in the making."""
    for partial in folder.glob(f".*{PARTIAL}"):
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)


@contextlib.contextmanager
def _partial(path: Path) -> Iterator[tuple[int, str]]:
    """A file beside `path` that is removed again unless it was renamed."""
    with _naming(path):
        descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PARTIAL)
        os.chmod(partial, 0o666 & ~_umask())  # noqa: PTH101
        try:
            yield descriptor, partial
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(partial)  # noqa: PTH108


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Have an OSError name the file."""
    try:
        yield
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
