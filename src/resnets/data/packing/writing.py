"""One shard written, and the index of all once they are there."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

import resnets
from resnets.data.dataset import Dataset
from resnets.data.decode import UnreadableImage
from resnets.data.packing.plan import SEED, Shard
from resnets.data.packing.work import Work
from resnets.data.shards.addresses import INDEX, MARK
from resnets.data.shards.index import Index, Names, save
from resnets.data.shards.sidecar import FORMAT, OFFSETS
from resnets.data.shards.tar import BLOCK, ending, header, padding
from resnets.errors import WorkFailed
from resnets.files import replacing, sha256, write_bytes, write_json

Encoded = tuple[bytes, str] | UnreadableImage  # a file and its suffix, or why there is none


def write_shard(work: Work, shard: Shard, labels: np.ndarray, encoded: Iterator[Encoded], step: Callable[[], None]) -> None:
    """Write one shard whole, its record first: where each image's bytes lie, and which images couldn't be read.

    `labels` are those of the shard's images; `encoded` gives the images, and `step` is called after each. A sample is its
    number within the split: 000000012.jpg, and 000000012.cls with the class's number.
    """
    record: dict[str, Any] = {"images": [], "names": [], "offsets": [], "lengths": [], "left_out": []}
    digest, position = hashlib.sha256(), 0
    with replacing(work.out / shard.name) as file:
        for number, (index, label) in enumerate(zip(shard.images.tolist(), labels.tolist(), strict=True), shard.first):
            found = next(encoded)
            step()
            if isinstance(found, UnreadableImage):
                record["left_out"].append([index, str(found)])
                continue
            content, suffix = found
            name = f"{number:09}{suffix}"
            row = {"images": index, "names": name, "offsets": position + BLOCK, "lengths": len(content)}
            for column, value in row.items():
                record[column].append(value)
            piece = _entry(name, content) + _entry(f"{number:09}.cls", str(label).encode())
            file.write(piece)
            digest.update(piece)
            position += len(piece)
        piece = ending(position)
        file.write(piece)
        digest.update(piece)
        record |= {"bytes": position + len(piece), "sha256": digest.hexdigest()}
        write_bytes(work.record(shard.name), json.dumps(record).encode())


def _entry(name: str, content: bytes) -> bytes:
    return header(name, len(content)) + content + padding(len(content))


def write_index(data: Dataset, work: Work, plan: Sequence[Shard], request: dict[str, Any]) -> dict[str, Any]:
    """Join the records to the index, and put it in its place. Raises WorkFailed where there is no image."""
    columns, names, origins, shards, left_out = [], [], [], [], []
    counts = {shard.split: np.zeros(len(data.classes), np.int64) for shard in plan}
    for number, shard in enumerate(plan):
        record = work.read(shard.name)
        images = np.array(record["images"], np.int64)
        labels = data.labels[images].astype(np.int32)
        places = np.array(record["offsets"], np.int64), np.array(record["lengths"], np.uint32)
        columns.append((np.full(len(images), number, np.int32), *places, labels))
        names.append(Names.of(name.encode() for name in record["names"]))
        origins.append(Names.of(_bytes(str(data.images.keys[index])) for index in record["images"]))
        known = {"name": shard.name, "split": shard.split, "images": len(images)}
        shards.append({**known, "bytes": record["bytes"], "sha256": record["sha256"]})
        left_out += [{"key": data.images.keys[index], "why": why} for index, why in record["left_out"]]
        counts[shard.split] += np.bincount(labels, minlength=len(data.classes))
    shard, offset, length, label = (np.concatenate(column) for column in zip(*columns, strict=True))
    if not len(shard):
        raise WorkFailed(f"none of the {len(data):,} images could be read; of {left_out[0]['key']}: {left_out[0]['why']}")
    origin = Names.joined(origins)
    with replacing(work.out / OFFSETS) as file:
        index = Index(shard, offset, length, label, Names.joined(names), data.classes)
        save(file, index, origin_text=origin.text, origin_starts=origin.starts)
    document = {
        MARK: FORMAT,
        "resnets": resnets.__version__,
        "data": data.name,
        "images": len(shard),
        "classes": list(data.classes),
        "splits": {split: dict(zip(data.classes, count.tolist(), strict=True)) for split, count in counts.items()},
        "empty": {split: list(classes) for split, classes in data.empty.items()},
        "mirrors": data.mirrors,
        "order": f"each split is shuffled by resnets.data.order.order(seed={SEED}, epoch=0, …) and cut into equal shards",
        "request": request,
        "offsets": {"file": OFFSETS, "sha256": sha256(work.out / OFFSETS)},
        "left_out": left_out,
        "shards": shards,
    }
    write_json(work.out / INDEX, document)
    return document


def _bytes(key: str) -> bytes:
    return key.encode(errors="backslashreplace")
