"""Parquet files with the images inside: `train-00000-of-00002.parquet`, as the Hugging Face hub has them.

Parquet compresses pages of many rows together, so a row of its own can't be read from it. Each file is unpacked once into an
Arrow file in the cache folder, which is mapped: an image is then read from its place, in any order, by any thread, and no
other is decoded for it. It costs the disk that the images take, once more, and one pass over the file. An unpacked file is
known by its Parquet file's path, size and time of change, and goes when the Parquet file is another.
"""

import hashlib
import logging
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from resnets.data.dataset import SPLIT_NAMES, Dataset
from resnets.data.progress import Counting
from resnets.data.sources import tables
from resnets.data.sources.manifest import schema_of, unreadable
from resnets.errors import WorkFailed
from resnets.files import cache_folder, making

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import parquet

log = logging.getLogger("resnets")

TOGETHER = 256  # rows of a batch: in memory at a time
PIECE = re.compile(r"[-_.]?[0-9]+([-_]of[-_][0-9]+.*)?$")  # what a file's name has behind its split


def has_images(path: Path) -> bool:
    """Whether a Parquet file holds images, and isn't a manifest of `path`s. ValueError where it can't be read."""
    schema = schema_of(path)
    return "path" not in schema.names and tables.image_column(schema) is not None


def files_below(root: Path) -> list[Path]:
    """The Parquet files with images of a folder, or of its folder `data`; [] where there are none."""
    for place in (root, root / "data"):
        found = sorted(path for path in place.glob("*.parquet") if not path.name.startswith("."))
        if found and has_images(found[0]):
            return found
    return []


def parquet_images(name: str, files: Sequence[Path], root: Path | None = None) -> Dataset:
    """The images of Parquet files, whose splits are what the files below `root` are called; without it there are none."""
    names = [split_of(path.relative_to(root)) if root else "" for path in files]
    if len(set(names)) == 1 and names[0] not in SPLIT_NAMES.values():
        names = [""] * len(files)  # all are "data-…", which is no split
    order = [*dict.fromkeys(SPLIT_NAMES.values()), *sorted(set(names))]
    divided = sorted(zip(names, files, strict=True), key=lambda pair: order.index(pair[0]))
    return tables.dataset(name, [tables.Part(split, unpacked(path), path) for split, path in divided])


def split_of(path: Path) -> str:
    """The split of a file: by its name, else by the folder that it lies in."""
    words = [PIECE.sub("", path.stem), *reversed(path.parent.parts)]
    known = (SPLIT_NAMES[word.lower()] for word in words if word.lower() in SPLIT_NAMES)
    return next(known, next((word for word in words if word), ""))


def unpacked(path: Path) -> "pa.Table":
    """Image and label column of a Parquet file, mapped from its unpacked file, which is made where there is none.

    Raises ValueError where the file can't be read, and WorkFailed where the disk has no room.
    """
    import pyarrow as pa

    about = path.stat()
    mine = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:32]
    target = cache_folder() / "unpacked" / f"{mine}-{about.st_size:x}-{about.st_mtime_ns:x}.arrow"
    if target.is_file():
        try:
            return _mapped(target)
        except (pa.ArrowException, OSError) as error:
            log.warning("%s, unpacked from %s, is damaged and made again: %s", target, path, error)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        _unpack(path, target)
    except pa.ArrowException as error:
        raise unreadable(path, error) from None
    for other in target.parent.glob(f"{mine}-*.arrow"):
        if other != target:
            other.unlink(missing_ok=True)
    return _mapped(target)


def _unpack(path: Path, target: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    with parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
        columns = tables.columns_of(file.schema_arrow, path)
        groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
        needed = sum(group.column(place).total_uncompressed_size for group in groups for place in range(group.num_columns))
        if needed > (free := shutil.disk_usage(target.parent).free):
            raise WorkFailed(
                f"unpacking {path} takes {needed / 1e9:.1f} GB, and {target.parent} has room for {free / 1e9:.1f} GB; "
                "set RESNETS_CACHE to a folder that has it"
            )
        log.info("unpacking %s into %s: %.1f GB, once", path, target.parent, needed / 1e9)
        fields = [file.schema_arrow.field(name) for name in (columns.image, columns.label)]
        kinds = [field.type.value_type if pa.types.is_dictionary(field.type) else field.type for field in fields]
        named = zip((field.name for field in fields), kinds, strict=True)
        schema = pa.schema(list(named), file.schema_arrow.metadata)  # a file of Arrow's has one dictionary at most
        with (
            Counting(f"unpacking {path.name}", file.metadata.num_rows) as counting,
            making(target) as place,
            pa.OSFile(str(place), "wb") as sink,
            pa.ipc.new_file(sink, schema) as writer,
        ):
            for batch in _batches(file, schema.names, path):
                arrays = [batch.column(name).cast(schema.field(name).type) for name in schema.names]
                writer.write_batch(pa.record_batch(arrays, schema=schema))
                counting.add(len(batch))


def _batches(file: "parquet.ParquetFile", names: list[str], path: Path) -> "Iterator[pa.RecordBatch]":
    """Some rows at a time. ValueError where the file is damaged."""
    import pyarrow as pa

    try:
        yield from file.iter_batches(TOGETHER, columns=names)
    except (pa.ArrowException, OSError) as error:  # not of the disk that is written to: that isn't raised in here
        raise unreadable(path, error) from None


def _mapped(path: Path) -> "pa.Table":
    import pyarrow as pa

    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
