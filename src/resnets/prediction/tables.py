"""Predictions as a table: Parquet, CSV or JSON lines, written as they come and whole or not at all."""

import contextlib
import csv
import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from resnets.files import replacing

FORMATS = (".parquet", ".csv", ".jsonl")
ROWS = 4096  # a row group of Parquet


def write_table(path: Path, rows: Iterable[dict[str, Any]], top: int) -> None:
    """Rows of `path`, `label`, `score`, `label_2`, …, `error` (see `table_row`) to a file, by its suffix.

    Raises ValueError for another suffix or a folder that isn't there.
    """
    check_table(path)
    columns = ["path", *itertools.chain.from_iterable(_columns(place) for place in range(top)), "error"]
    if path.suffix == ".parquet":
        _write_parquet(path, rows, columns)
        return
    with replacing(path, "w", encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
        else:
            file.writelines(json.dumps({name: row.get(name) for name in columns}, ensure_ascii=False) + "\n" for row in rows)


def check_table(path: Path) -> None:
    """Raise ValueError where a table can't be written, before the work that fills it."""
    if path.suffix not in FORMATS:
        raise ValueError(f"a table is written as {', '.join(FORMATS)}, not {path.name}")
    if not path.parent.is_dir():
        raise ValueError(f"there is no folder {path.parent} to write {path.name} in")


def table_row(path: str, labels: Iterable[str], scores: Iterable[float], error: str | None) -> dict[str, Any]:
    """One image's row; what is missing is left out."""
    # a name that isn't UTF-8 is written with its odd bytes as \\xNN, so that the table isn't lost for it
    row: dict[str, Any] = {"path": path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")}
    for place, (label, score) in enumerate(zip(labels, scores, strict=True)):
        row.update(zip(_columns(place), (label, score), strict=True))
    return row if error is None else {**row, "error": error}


def _columns(place: int) -> tuple[str, str]:
    end = "" if place == 0 else f"_{place + 1}"
    return f"label{end}", f"score{end}"


def _write_parquet(path: Path, rows: Iterable[dict[str, Any]], columns: list[str]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    schema = pa.schema([(name, pa.float32() if name.startswith("score") else pa.string()) for name in columns])
    with replacing(path) as file, contextlib.closing(parquet.ParquetWriter(file, schema)) as writer:
        for chunk in _chunks(rows):
            writer.write_table(pa.Table.from_pylist(chunk, schema))


def _chunks(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    remaining = iter(rows)
    while chunk := list(itertools.islice(remaining, ROWS)):
        yield chunk
