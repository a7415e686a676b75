"""Strings by the million in an Arrow column: Python holds those it asks for, a block at a time, and no object for each."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, overload

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK = 65_536  # strings that are Python's at a time
ODD = "surrogateescape"  # how Python writes a file's name that isn't UTF-8


class Strings(Sequence[str]):
    """A column of strings, or some of its rows in an order of their own."""

    def __init__(self, column: "pa.ChunkedArray", rows: np.ndarray | None = None) -> None:
        """`column` is of (large_)string or (large_)binary without nulls; `rows` are int64 [strings], None: all, in order."""
        self._column = _as_binary(column)
        self._chunks = self._column.chunks
        self._starts = np.cumsum([0, *map(len, self._chunks)])
        self._rows = rows

    def __len__(self) -> int:
        return int(self._starts[-1]) if self._rows is None else len(self._rows)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "Strings": ...
    def __getitem__(self, index: int | slice) -> "str | Strings":
        places = range(len(self))[index]  # IndexError where there is none
        if isinstance(places, range):
            return self.take(np.arange(places.start, places.stop, places.step))
        row = places if self._rows is None else int(self._rows[places])
        chunk = int(np.searchsorted(self._starts, row, "right")) - 1
        return self._chunks[chunk][row - int(self._starts[chunk])].as_py().decode("utf-8", ODD)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __iter__(self) -> Iterator[str]:
        for block in self.blocks():
            yield from (value.decode("utf-8", ODD) for value in block)

    def take(self, places: np.ndarray) -> "Strings":
        """Some of the strings, in the order of `places`."""
        return Strings(self._column, places if self._rows is None else self._rows[places])

    def blocks(self) -> Iterator[list[bytes]]:
        """The strings as UTF-8, at most `BLOCK` at a time."""
        if self._rows is None:
            for chunk in self._chunks:
                for start in range(0, len(chunk), BLOCK):
                    yield chunk.slice(start, BLOCK).to_pylist()
        else:
            for start in range(0, len(self._rows), BLOCK):
                yield self._block(self._rows[start : start + BLOCK])

    def places_in(self, names: "pa.ChunkedArray") -> np.ndarray:
        """`places` of these."""
        from pyarrow import compute

        among = compute.SetLookupOptions(names.cast(self._column.type).combine_chunks())
        found = compute.call_function("index_in", [self._column], among)
        all_places = compute.fill_null(found, -1).to_numpy()
        return all_places if self._rows is None else all_places[self._rows]

    def _block(self, rows: np.ndarray) -> list[bytes]:
        """The strings of some rows, each chunk asked once."""
        of_chunk = np.searchsorted(self._starts, rows, "right") - 1
        out: list[bytes] = [b""] * len(rows)
        for number in np.unique(of_chunk).tolist():
            here = np.flatnonzero(of_chunk == number)
            values = self._chunks[number].take(_arrow(rows[here] - self._starts[number])).to_pylist()
            for place, value in zip(here.tolist(), values, strict=True):
                out[place] = value
        return out


class Coded(NamedTuple):
    """A column of few different strings: what they are, and which each row has."""

    codes: np.ndarray  # int32 [rows], an index into `names`; −1: none
    names: list[str]


def coded(column: "pa.ChunkedArray") -> Coded:
    """Any column whose values can be written, by Arrow's dictionary encoding. Raises ArrowException for others."""
    import pyarrow as pa

    if pa.types.is_null(column.type):
        return Coded(np.full(len(column), -1, np.int32), [])
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    chunks = encoded.unify_dictionaries().chunks
    if not chunks:
        return Coded(np.zeros(0, np.int32), [])
    names = chunks[0].dictionary.cast(pa.string()).to_pylist()
    codes = np.concatenate([chunk.indices.cast(pa.int32()).fill_null(-1).to_numpy() for chunk in chunks])
    if None in names:  # a dictionary may hold it too
        codes = np.append([-1 if name is None else place for place, name in enumerate(names)], -1).astype(np.int32)[codes]
    return Coded(codes, [name or "" for name in names])


def strings(parts: Iterable[str]) -> "pa.ChunkedArray":
    """Strings as a column of large_binary, taken a block at a time."""
    import pyarrow as pa

    rest, chunks = iter(parts), []
    while block := [part.encode("utf-8", ODD) for part in islice(rest, BLOCK)]:
        chunks.append(pa.array(block, pa.large_binary()))
    return pa.chunked_array(chunks, pa.large_binary())


def blocks(keys: Sequence[str]) -> Iterator[list[bytes]]:
    """Any strings as UTF-8, at most `BLOCK` at a time."""
    if isinstance(keys, Strings):
        yield from keys.blocks()
        return
    rest = iter(keys)
    while block := [key.encode("utf-8", ODD) for key in islice(rest, BLOCK)]:
        yield block


def places(keys: Sequence[str], names: "pa.ChunkedArray") -> np.ndarray:
    """Of each string its place among different `names`, large_binary, −1 where it isn't there: int32 [strings]."""
    return (keys if isinstance(keys, Strings) else Strings(strings(keys))).places_in(names)


def some(keys: Sequence[str], places: np.ndarray) -> Sequence[str]:
    """Some of the strings, in the order of `places`."""
    return keys.take(places) if isinstance(keys, Strings) else [keys[int(place)] for place in places]


def lines(path: Path) -> "pa.ChunkedArray":
    """The different lines of a text file that aren't blank, without spaces at their ends, as a column of large_binary."""
    import pyarrow as pa

    with path.open(encoding="utf-8-sig", errors=ODD) as file:
        every = strings(line.rstrip() for line in file if line.strip())
    return pa.chunked_array([every.unique()], pa.large_binary())


def hashed_below(keys: Sequence[str], salt: bytes, below: int) -> np.ndarray:
    """Of which strings the first 8 bytes of SHA-256(salt + string), big-endian, are a number less than `below`: bool."""
    found = [np.zeros(0, bool)]
    for block in blocks(keys):
        digests = b"".join([hashlib.sha256(salt + key).digest()[:8] for key in block])
        numbers = np.frombuffer(digests, ">u8")
        found.append(np.ones(len(numbers), bool) if below >= 2**64 else numbers < np.uint64(below))
    return np.concatenate(found)


def _as_binary(column: "pa.ChunkedArray") -> "pa.ChunkedArray":
    """The same bytes under a type that any bytes may have; nothing is copied."""
    import pyarrow as pa

    if pa.types.is_string(column.type):
        return column.cast(pa.binary())
    return column.cast(pa.large_binary()) if pa.types.is_large_string(column.type) else column


def _arrow(rows: np.ndarray) -> "pa.Array":
    import pyarrow as pa

    return pa.array(rows)
