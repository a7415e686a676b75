"""`index.json`, which `pack` writes beside its shards, and `index.npz`, where their images lie."""

import hashlib
import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from resnets.data.shards.addresses import INDEX, MARK, is_remote
from resnets.data.shards.index import Index, Names, load

FORMAT = 1
OFFSETS = "index.npz"


class Sidecar(NamedTuple):
    """What is known of shards that `pack` wrote."""

    root: str
    document: dict[str, Any]

    @property
    def shards(self) -> list[str]:
        """The names of all shards, in the index's order."""
        return [shard["name"] for shard in self.document["shards"]]

    def read_index(self) -> Index:
        """Where the images of all shards lie. Raises ValueError where the file isn't the one that was written."""
        return load(io.BytesIO(self._offsets()))

    def origins(self) -> Names:
        """The path that each image had in the data that was packed."""
        with np.load(io.BytesIO(self._offsets()), allow_pickle=False) as arrays:
            return Names(arrays["origin_text"], arrays["origin_starts"])

    def _offsets(self) -> bytes:
        data = _content(self.root, OFFSETS)
        if data is None or hashlib.sha256(data).hexdigest() != self.document["offsets"]["sha256"]:
            raise ValueError(
                f"{self.root}{OFFSETS} is {'missing' if data is None else 'damaged'}; pack again, or move {INDEX} away and "
                "the shards are read without it, their classes numbered"
            )
        return data


def read_sidecar(root: str) -> Sidecar | None:
    """The sidecar of a folder, local or remote, that ends in a slash; None where there is none. ValueError: a newer one."""
    data = _content(root, INDEX)
    try:
        document = json.loads(data or b"null")
    except ValueError:
        return None
    if not isinstance(document, dict) or MARK not in document:
        return None
    if document[MARK] != FORMAT:
        raise ValueError(
            f"{root}{INDEX} has the format {document[MARK]!r}, and this resnets reads {FORMAT}; take a newer one"
        )
    return Sidecar(root, document)


def _content(root: str, name: str) -> bytes | None:
    if is_remote(root):
        from resnets.data.shards.remote import fetched  # http and ssl, which files don't need

        return fetched(root + name)
    try:
        return Path(root, name).read_bytes()
    except FileNotFoundError:
        return None
