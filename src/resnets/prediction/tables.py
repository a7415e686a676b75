"""Predictions as a table: Parquet, CSV or JSON lines, written as they come, or in chunks that are then joined; always whole
or not at all.
"""

import contextlib
import csv
import io
import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from resnets.files import replacing

FORMATS = (".parquet", ".csv", ".jsonl")
ROWS = 4096  # a row group of Parquet, where no chunk says otherwise
NOTE = "resnets"  # the key of Parquet's metadata under which is said how a table came to be


@dataclass(frozen=True)
class Layout:
    """The format of a table, by its suffix, and its columns."""

    suffix: str
    top: int
    features: bool = False

    @property
    def names(self) -> list[str]:
        """`path`, `label`, `score`, `label_2`, …, `error`, and `features` where they are wanted."""
        pairs = itertools.chain.from_iterable(_columns(place) for place in range(self.top))
        return ["path", *pairs, "error", *(["features"] if self.features else [])]

    def schema(self) -> Any:
        """The columns as Parquet has them."""
        import pyarrow as pa

        vector = pa.list_(pa.field("element", pa.float32()))
        kinds = {"features": vector, "score": pa.float32()}
        return pa.schema([(name, kinds.get(name.split("_")[0], pa.string())) for name in self.names])


def write_table(path: Path, rows: Iterable[dict[str, Any]], top: int) -> None:
    """Rows of `path`, `label`, `score`, `label_2`, …, `error` (see `table_row`) to a file, by its suffix.

    Raises ValueError for another suffix or a folder that isn't there.
    """
    check_table(path)
    layout = Layout(path.suffix, top)
    if path.suffix == ".parquet":
        _write_parquet(path, rows, layout)
        return
    with replacing(path, "w", encoding="utf-8", newline="") as file:
        file.write(_head(layout))
        file.writelines(_lines(rows, layout))


def check_table(path: Path, features: bool = False) -> None:
    """Raise ValueError where a table can't be written, before the work that fills it."""
    if path.suffix not in FORMATS:
        raise ValueError(f"a table is written as {', '.join(FORMATS)}, not {path.name}")
    if features and path.suffix == ".csv":
        raise ValueError(f"a .csv has no place for features; write {path.stem}.parquet or {path.stem}.jsonl")
    if not path.parent.is_dir():
        raise ValueError(f"there is no folder {path.parent} to write {path.name} in")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give the table another name")


def table_row(
    path: str, labels: Iterable[str], scores: Iterable[float], error: str | None, features: np.ndarray | None = None
) -> dict[str, Any]:
    """One image's row; what is missing is left out."""
    # a name that isn't UTF-8 is written with its odd bytes as \\xNN, so that the table isn't lost for it
    row: dict[str, Any] = {"path": path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")}
    for place, (label, score) in enumerate(zip(labels, scores, strict=True)):
        row.update(zip(_columns(place), (label, score), strict=True))
    if features is not None:
        row["features"] = features
    return row if error is None else {**row, "error": error}


def write_chunk(path: Path, rows: list[dict[str, Any]], layout: Layout) -> None:
    """Some rows of a table, in its format and as `join` takes them: a CSV's without the header."""
    with replacing(path) as file:
        if layout.suffix == ".parquet":
            import pyarrow as pa
            from pyarrow import parquet

            parquet.write_table(pa.Table.from_pylist(rows, layout.schema()), file)
        else:
            file.writelines(line.encode() for line in _lines(rows, layout))


def join(file: IO[bytes], chunks: Iterable[Path], layout: Layout, note: dict[str, Any]) -> None:
    """The table of some chunks. A Parquet file has a row group for each, and `note` in its metadata."""
    if layout.suffix != ".parquet":
        file.write(_head(layout).encode())
        for chunk in chunks:
            file.write(chunk.read_bytes())
        return
    from pyarrow import parquet

    schema = layout.schema().with_metadata({NOTE: json.dumps(note, ensure_ascii=False)})
    repeating: Any = [name for name in layout.names if name.startswith("label") or name == "error"]
    with contextlib.closing(parquet.ParquetWriter(file, schema, use_dictionary=repeating)) as writer:
        for chunk in chunks:
            with parquet.ParquetFile(chunk) as source:
                writer.write_table(source.read())


def read_best(path: Path, layout: Layout, chunk: bool = False) -> Iterator[tuple[str | None, str | None]]:
    """Of each row of a table, or of a chunk of one, the likeliest class, if the row has one, and the error."""
    if layout.suffix == ".parquet":
        from pyarrow import parquet

        with parquet.ParquetFile(path) as source:
            for batch in source.iter_batches(ROWS, columns=["label", "error"]):
                yield from zip(batch["label"].to_pylist(), batch["error"].to_pylist(), strict=True)
        return
    with path.open(encoding="utf-8", newline="") as file:
        if layout.suffix == ".jsonl":
            for line in file:
                row = json.loads(line)
                yield row["label"], row["error"]
            return
        for row in csv.DictReader(file, layout.names if chunk else None):
            yield row["label"] if row["score"] else None, row["error"] or None


def _columns(place: int) -> tuple[str, str]:
    end = "" if place == 0 else f"_{place + 1}"
    return f"label{end}", f"score{end}"


def _head(layout: Layout) -> str:
    return ",".join(layout.names) + "\r\n" if layout.suffix == ".csv" else ""


def _lines(rows: Iterable[dict[str, Any]], layout: Layout) -> Iterator[str]:
    """Each row as text, its line's end included."""
    names = layout.names
    for row in rows:
        if layout.suffix == ".csv":
            line = io.StringIO(newline="")
            csv.DictWriter(line, names).writerow(row)
            yield line.getvalue()
        else:
            cells = {name: row.get(name) for name in names}
            yield json.dumps(cells, ensure_ascii=False, default=np.ndarray.tolist) + "\n"


def _write_parquet(path: Path, rows: Iterable[dict[str, Any]], layout: Layout) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    schema = layout.schema()
    with replacing(path) as file, contextlib.closing(parquet.ParquetWriter(file, schema)) as writer:
        for chunk in _chunks(rows):
            writer.write_table(pa.Table.from_pylist(chunk, schema))


def _chunks(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    remaining = iter(rows)
    while chunk := list(itertools.islice(remaining, ROWS)):
        yield chunk
