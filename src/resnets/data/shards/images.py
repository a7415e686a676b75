"""Images in shards, read from where the index says."""

from collections.abc import Iterable, Sequence

import numpy as np

from resnets.data.decode import decode
from resnets.data.shards.index import Index, Keys
from resnets.data.shards.places import Place


class ShardImages:
    """Images in tar files. Any of them is one read of its bytes, and threads may read at the same time."""

    def __init__(self, places: Sequence[Place], shards: Sequence[str], index: Index) -> None:
        """`shards` are the names of the places in the images' paths."""
        self.places = places
        self.shard, self.offset, self.length = index.shard, index.offset, index.length
        self.keys = Keys(shards, index.shard, index.names)

    def read(self, index: int, grey: bool = False, least: int = 0) -> np.ndarray:
        return decode(self.encoded(index), grey, least)

    def squares(self, indices: np.ndarray, side: int, channels: int) -> None:
        """None: each is read."""

    def encoded(self, index: int) -> bytes:
        """The image's file. Raises WorkFailed where its shard can't be read: that is no single image's fault."""
        return self.places[self.shard[index]].read(int(self.offset[index]), int(self.length[index]))

    def contents(self) -> Iterable[bytes]:
        """Each image's size in bytes."""
        return (str(length).encode() for length in self.length)
