"""Images that lie in a table's rows: the columns of the Hugging Face hub, mapped from Arrow files."""

import json
import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from resnets.data.columns import Coded, Strings, coded, strings
from resnets.data.dataset import Dataset
from resnets.data.decode import UnreadableImage, decode, file_bytes
from resnets.data.sources.labelling import labelled, runs

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger("resnets")

IMAGE = ("image", "img")  # what the column is called
LABEL = "label"


class Part(NamedTuple):
    """A table of images, one of a dataset's."""

    split: str  # "" where there are none
    table: "pa.Table"
    place: Path  # the file, for messages; images that the table only names lie beside it


class Columns(NamedTuple):
    """Where a table has its images and labels."""

    image: str
    label: str
    classes: tuple[str, ...]  # names of whole numbers; (): the column has the names themselves


class TableImages:
    """Encoded images in chunks of an Arrow column, mapped from files; threads may read at once, as nothing changes."""

    def __init__(self, columns: "Sequence[tuple[pa.ChunkedArray, Path]]", keys: Sequence[str]) -> None:
        """Columns of binary, or of struct {bytes, path} where a row without bytes names a file below the folder."""
        self.keys = keys
        self._chunks = [(*_bytes_and_path(chunk), folder) for column, folder in columns for chunk in column.chunks]
        self._starts = np.cumsum([0, *(len(chunk[0]) for chunk in self._chunks)])

    def read(self, index: int, grey: bool = False, least: int = 0) -> np.ndarray:
        return decode(self.encoded(index), grey, least)

    def squares(self, indices: np.ndarray, side: int, channels: int) -> None:
        """None: each is read."""

    def encoded(self, index: int) -> bytes:
        """The bytes in the row, or of the file that it names."""
        number = int(np.searchsorted(self._starts, index, "right")) - 1
        inside, named, folder = self._chunks[number]
        row = int(index - self._starts[number])
        if (value := inside[row].as_py()) is not None:
            return value
        if named is None or (name := named[row].as_py()) is None:
            raise UnreadableImage("the row has no image")
        return file_bytes(folder / name)

    def contents(self) -> Iterator[bytes]:
        """The size of each image's file."""
        from pyarrow import compute

        for inside, named, folder in self._chunks:
            for row, size in enumerate(compute.call_function("binary_length", [inside]).to_pylist()):
                if size is None and named is not None and (name := named[row].as_py()) is not None:
                    size = os.stat(folder / name).st_size if os.path.exists(folder / name) else None  # noqa: PTH110, PTH116
                yield str(-1 if size is None else size).encode()


def dataset(name: str, parts: Sequence[Part]) -> Dataset:
    """Labelled images of some tables, those of a split one behind the other.

    A split without any label, as the hub holds back a test's, is left out and said.

    The key of an image is its split and its row in it, "train/00000012". ValueError where columns or labels are missing.
    """
    found = [(part, columns := columns_of(part.table.schema, part.place), _labels(part, columns)) for part in parts]
    rows, with_label = Counter[str](), Counter[str]()
    for part, _, labels in found:
        rows[part.split] += part.table.num_rows
        with_label[part.split] += int((labels.codes >= 0).sum())
    if not rows.total():
        raise ValueError(f"{parts[0].place} lists no image")
    held_back = [split for split, count in rows.items() if not with_label[split] and with_label.total()]
    for split in held_back:
        log.info("%s: the split %s is left out, as none of its %d images has a label", name, split, rows[split])
    kept = [every for every in found if every[0].split not in held_back]
    for part, _, labels in kept:
        if (labels.codes < 0).any():
            raise ValueError(f"{part.place}: row {int((labels.codes < 0).argmax()) + 1} has no label")
    images = [(part.table[columns.image], part.place.parent) for part, columns, _ in kept]
    keys = (f"{split or 'all'}/{row:08}" for split in rows if split not in held_back for row in range(rows[split]))
    of_split = runs([part.table.num_rows for part, _, _ in kept], [part.split for part, _, _ in kept])
    every = _joined([labels for _, _, labels in kept])
    return labelled(name, TableImages(images, Strings(strings(keys))), every, of_split, {})


def columns_of(schema: "pa.Schema", place: Path) -> Columns:
    """The image and the label column. ValueError, with the columns there are, where one is missing."""
    features = _features(schema)
    image = image_column(schema)
    there = ", ".join(schema.names)
    if image is None:
        raise ValueError(f"{place} has no column of images, {' or '.join(IMAGE)}; its columns: {there}")
    named = [name for name, feature in features.items() if feature.get("_type") == "ClassLabel" and name in schema.names]
    label = LABEL if LABEL in schema.names else named[0] if len(named) == 1 else None
    if label is None:
        raise ValueError(f"{place} has no column {LABEL!r}; its columns: {there}")
    return Columns(image, label, _different(features.get(label, {}).get("names") or ()))


def image_column(schema: "pa.Schema") -> str | None:
    """The column with encoded images inside, where there is one."""
    import pyarrow as pa

    def holds(name: str) -> bool:
        kind = schema.field(name).type
        inside = pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
        return inside or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)

    marked = [name for name, feature in _features(schema).items() if feature.get("_type") == "Image"]
    named = [name for name in IMAGE if schema.names.count(name) == 1 and holds(name)]
    return (named or [name for name in marked if name in schema.names and holds(name)] or [None])[0]


def _features(schema: "pa.Schema") -> dict[str, Any]:
    """What the hub's metadata say of each column; {} where there are none, or they are of another form."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: feature for name, feature in features.items() if isinstance(feature, dict)}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


def _different(names: Sequence[str]) -> tuple[str, ...]:
    """Names of classes, those that several have with their number: ImageNet has two cranes."""
    often = Counter(names)
    return tuple(f"{name} ({number})" if often[name] > 1 else name for number, name in enumerate(names))


def _labels(part: Part, columns: Columns) -> Coded:
    """The labels of a table; −1 where a row has none."""
    import pyarrow as pa

    column = part.table[columns.label]
    try:
        if not columns.classes or not pa.types.is_integer(column.type):
            found = coded(column)
            nameless = np.array([not name for name in found.names] + [True])
            return found._replace(codes=np.where(nameless[found.codes], -1, found.codes).astype(np.int32))
        codes = column.cast(pa.int64()).fill_null(-1).to_numpy()
    except pa.ArrowException as error:
        raise ValueError(f"{part.place}: labels of the kind {column.type} are no classes: {error}") from None
    if len(codes) and codes.max() >= len(columns.classes):
        row = int(codes.argmax())
        raise ValueError(
            f"{part.place}: row {row + 1} has the label {codes[row]}, and there are {len(columns.classes)} classes"
        )
    return Coded(np.maximum(codes, -1).astype(np.int32), list(columns.classes))


def _joined(columns: Sequence[Coded]) -> Coded:
    """Columns one below the other."""
    place = {name: index for index, name in enumerate(dict.fromkeys(name for column in columns for name in column.names))}
    codes = [np.array([place[name] for name in column.names], np.int32)[column.codes] for column in columns]
    return Coded(np.concatenate(codes), list(place))


def _bytes_and_path(chunk: "pa.Array") -> "tuple[pa.Array, pa.Array | None]":
    import pyarrow as pa

    if not pa.types.is_struct(chunk.type):
        return chunk, None
    named = chunk.type.get_field_index("path") >= 0
    return chunk.field("bytes"), chunk.field("path") if named else None
