"""Where each image of some shards lies, in arrays: 24 bytes an image and its name's."""

import json
import operator
import zipfile
from collections.abc import Iterable, Sequence
from typing import IO, Any, NamedTuple, overload

import numpy as np


class Names(Sequence[str]):
    """Many names in one piece of memory."""

    def __init__(self, text: np.ndarray, starts: np.ndarray) -> None:
        """`text` is uint8, all names in UTF-8 one after the other; `starts` int64 [names + 1], where each begins."""
        self.text = text
        self.starts = starts

    @classmethod
    def of(cls, names: Iterable[bytes]) -> "Names":
        """The names, which are not kept."""
        text, lengths = bytearray(), []
        for name in names:
            text += name
            lengths.append(len(name))
        return cls(np.frombuffer(bytes(text), np.uint8), np.r_[0, np.cumsum(lengths, dtype=np.int64)].astype(np.int64))

    @classmethod
    def joined(cls, parts: Sequence["Names"]) -> "Names":
        """All names of some lists, one list after the other."""
        ends = np.cumsum([0, *(len(part.text) for part in parts)])
        starts = [part.starts[:-1] + end for part, end in zip(parts, ends[:-1], strict=True)]
        return cls(np.concatenate([np.zeros(0, np.uint8), *(part.text for part in parts)]), np.r_[(*starts, ends[-1:])])

    def __len__(self) -> int:
        return len(self.starts) - 1

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [self[index] for index in range(*place.indices(len(self)))]
        index = operator.index(place)
        if not -len(self) <= index < len(self):
            raise IndexError(f"there are {len(self)} names, and none is number {index}")
        index %= len(self)
        return self.text[self.starts[index] : self.starts[index + 1]].tobytes().decode(errors="backslashreplace")

    def where(self, mask: np.ndarray) -> "Names":
        """The names where `mask`, bool [names], is true."""
        lengths = np.diff(self.starts)
        return Names(self.text[np.repeat(mask, lengths)], np.r_[0, np.cumsum(lengths[mask])])


class Index(NamedTuple):
    """The images of some shards."""

    shard: np.ndarray  # int32 [images]: the number of the shard
    offset: np.ndarray  # int64 [images]: where the image's bytes begin in it
    length: np.ndarray  # uint32 [images]
    label: np.ndarray  # int32 [images]: an index into `classes`
    names: Names  # of each image in its shard
    classes: tuple[str, ...]

    def of_shards(self, numbers: Sequence[int]) -> "Index":
        """The images of some of the shards, these numbered anew as they are given here."""
        new = np.full(max([*numbers, int(self.shard.max(initial=0))]) + 1, -1, np.int32)
        new[list(numbers)] = np.arange(len(numbers), dtype=np.int32)
        shard = new[self.shard]
        if (shard == self.shard).all():
            return self
        mask = shard >= 0
        names = self.names.where(mask)
        return Index(shard[mask], self.offset[mask], self.length[mask], self.label[mask], names, self.classes)


class Keys(Sequence[str]):
    """The path of each image: its shard's name and its own, made when it is asked for."""

    def __init__(self, shards: Sequence[str], shard: np.ndarray, names: Names) -> None:
        self.shards = shards
        self.shard = shard
        self.names = names

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [self[index] for index in range(*place.indices(len(self)))]
        name = self.names[place]
        return f"{self.shards[self.shard[operator.index(place)]]}/{name}"


def save(file: IO[bytes], index: Index, **more: Any) -> None:
    """Write an index as NumPy's .npz, the same bytes for the same numbers."""
    text = np.frombuffer(json.dumps(index.classes, ensure_ascii=False).encode(), np.uint8)
    columns: dict[str, Any] = {name: getattr(index, name) for name in ("shard", "offset", "length", "label")}
    np.savez(file, **columns, text=index.names.text, starts=index.names.starts, classes=text, **more)


def load(file: IO[bytes]) -> Index:
    """An index that `save` wrote. Raises ValueError where it is none, without the file's name."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            shard, offset, length, label = (arrays[name] for name in ("shard", "offset", "length", "label"))
            names = Names(arrays["text"], arrays["starts"])
            classes = tuple(json.loads(arrays["classes"].tobytes()))
    except (OSError, KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"is no index of shards, or damaged: {error}") from None
    if {len(names), len(shard), len(offset), len(length), len(label)} != {len(names)}:
        raise ValueError("is no index of shards: its columns differ in length")
    return Index(shard, offset, length, label, names, classes)
