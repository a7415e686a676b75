"""A CSV or Parquet table of paths, labels and splits. Its columns stay Arrow's: no Python object for each row."""

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from resnets.data.columns import Coded, Strings, coded
from resnets.data.dataset import SPLIT_NAMES, Dataset, FileImages
from resnets.data.sources.labelling import labelled

if TYPE_CHECKING:
    import pyarrow as pa

TOGETHER = 16  # blocks of a CSV file, of a megabyte each
MANIFESTS = (".csv", ".parquet")


def manifest(path: Path) -> Dataset:
    """A table of `path`, `label` and perhaps `split`; paths are relative to the manifest's folder."""
    columns = _columns(path, ("path", "label"), ("split",))
    labels, keys = _coded(path, columns.pop("label")), columns["path"]
    nameless = np.array([not name for name in labels.names] + [True])[labels.codes]  # −1 is the last
    pathless = _empty(keys)
    if (row := _first(nameless | pathless)) is not None:
        raise ValueError(f"{path}: row {row + 1} has no {'path' if pathless[row] else 'label'}")
    if not len(keys):
        raise ValueError(f"{path} lists no image")
    splits = _splits(path, columns.pop("split", None), len(keys))
    data = labelled(path.stem, FileImages(path.parent, Strings(keys)), labels, splits, {})
    _give_back()
    return data


def manifest_paths(path: Path) -> list[Path]:
    """The image paths of a manifest, of which only `path` is needed."""
    keys = _columns(path, ("path",), ())["path"]
    if (row := _first(_empty(keys))) is not None:
        raise ValueError(f"{path}: row {row + 1} has no path")
    return [path.parent / key for key in Strings(keys)]


def schema_of(path: Path) -> "pa.Schema":
    """A table's columns, of a CSV file as its beginning looks. Raises ValueError where the file can't be read."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    try:
        if path.suffix.lower() == ".parquet":
            return parquet.read_schema(path)
        with csv.open_csv(path) as reader:
            return reader.schema
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: Exception) -> ValueError:
    """The sentence for a file that is no table."""
    return ValueError(f"{path} can't be read as a table: {error}")


def _columns(path: Path, needed: tuple[str, ...], optional: tuple[str, ...]) -> "dict[str, pa.ChunkedArray]":
    """Columns of a table: `path` as strings, others as they are. Raises ValueError where one is missing or can't be read."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    schema = schema_of(path)
    there = schema.names
    for name in needed:
        if name not in there:
            raise ValueError(f"{path} has no column {name!r}; its columns: {', '.join(there)}")
    wanted = [name for name in needed + optional if name in there]
    for name in wanted:
        if there.count(name) > 1:
            raise ValueError(f"{path} has two columns {name!r}")
    few = [name for name in wanted if name != "path"]  # different words
    try:
        if path.suffix.lower() == ".parquet":
            as_codes = [name for name in few if pa.types.is_string(schema.field(name).type)]
            with parquet.ParquetFile(path, read_dictionary=as_codes, pre_buffer=False) as file:
                table = file.read(columns=wanted)
        else:
            kinds = {**dict.fromkeys(few, pa.dictionary(pa.int32(), pa.string())), "path": pa.string()}  # 007 stays 007
            how = csv.ConvertOptions(column_types=kinds, include_columns=wanted)
            with csv.open_csv(path, convert_options=how) as reader:
                table = _compact(reader)
        columns = {name: table[name] for name in wanted}
        if not (pa.types.is_string(columns["path"].type) or pa.types.is_large_string(columns["path"].type)):
            columns["path"] = columns["path"].cast(pa.large_string())
        columns["path"].validate(full=True)  # Parquet may hold what isn't UTF-8
        return columns
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from None


def _compact(batches: "pa.RecordBatchReader") -> "pa.Table":
    """Batches of a CSV file as a table of its own memory: as they come they are parts of larger, mostly empty buffers."""
    import pyarrow as pa

    rest, tables = iter(batches), []
    while some := list(islice(rest, TOGETHER)):
        tables.append(pa.Table.from_batches(some).combine_chunks())
    return pa.concat_tables(tables) if tables else batches.schema.empty_table()


def _give_back() -> None:
    """Memory that Arrow has kept of what it read in between."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()


def _coded(path: Path, column: "pa.ChunkedArray") -> Coded:
    import pyarrow as pa

    try:
        return coded(column)
    except pa.ArrowException as error:
        raise unreadable(path, error) from None


def _splits(path: Path, column: "pa.ChunkedArray | None", rows: int) -> Coded:
    """The split of each row by the names that splits have here: "" for none, of which there are all or none."""
    if column is None:
        return Coded(np.zeros(rows, np.int32), [""])
    found = _coded(path, column)
    names = [*(SPLIT_NAMES.get(name.lower(), name) for name in found.names), ""]
    codes = np.where(found.codes < 0, len(names) - 1, found.codes).astype(np.int32)
    without = np.array([not name for name in names])[codes]
    if without.any() and not without.all():
        raise ValueError(f"{path}: row {int(without.argmax()) + 1} has no split, and others have")
    return Coded(codes, names)


def _empty(column: "pa.ChunkedArray") -> np.ndarray:
    """Which strings are missing or of no letter: bool [rows]."""
    from pyarrow import compute

    lengths = compute.call_function("binary_length", [column])
    return compute.fill_null(lengths, 0).to_numpy() == 0


def _first(which: np.ndarray) -> int | None:
    """The first place that is true. None where there is none."""
    return int(which.argmax()) if which.any() else None
