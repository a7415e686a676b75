"""Any dataset into tar shards, once, so that training reads few large files; a pack that was killed goes on."""

import logging
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from resnets import machine
from resnets.data.dataset import Dataset
from resnets.data.decode import UnreadableImage
from resnets.data.packing.encoding import Encoding
from resnets.data.packing.plan import Shard, counted, planned
from resnets.data.packing.work import Work
from resnets.data.packing.writing import Encoded, write_index, write_shard
from resnets.data.progress import ImageProgress
from resnets.data.shards.addresses import INDEX
from resnets.data.shards.sidecar import FORMAT
from resnets.data.sources import open_dataset

log = logging.getLogger("resnets")

AHEAD = 8  # images a thread that are encoded before they are written


@dataclass(frozen=True)
class Packed:
    """What came of a pack: of the whole folder, whichever run wrote it, and how fast this one was."""

    out: Path
    images: int
    left_out: int  # images that couldn't be read; index.json says why
    shards: int
    bytes: int
    already: int  # shards that were there when this run began
    images_per_second: float | None = None  # None where nothing was left to do

    def to_json(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "out": str(self.out)}


def pack(
    data: Dataset | str | os.PathLike[str],
    out: str | os.PathLike[str],
    size: int = 256,
    quality: int = 95,
    shards: int | None = None,
    workers: int = 0,
) -> Packed:
    """Write labelled images as tar shards into a folder, `OUT/train-000000.tar`, …, with an index beside them.

    The shorter side is resized to `size` pixels, bilinear and antialiased, never enlarged, and the image written as JPEG of
    this quality with its EXIF orientation applied; what needs no change keeps its bytes, and images in memory become PNG.
    `size` 0 copies every file as it is. `shards` are those of each split; without it a shard has 256 MB at most, about.
    Images that can't be read are left out, said and listed in the index. `workers` are threads, 0 for one a core.

    A pack that was killed goes on when it is given again, and ends with the bytes of one that wasn't. Raises ValueError
    where the folder was begun otherwise or holds something else, WorkFailed where no image can be read or another process
    packs into it.
    """
    _check(size, quality, shards)
    if not isinstance(data, Dataset):
        data = open_dataset(data)
    request = {
        "format": FORMAT,
        "data": data.name,
        "images": len(data),
        "fingerprint": data.fingerprint(data.indices()),
        "size": size,
        "quality": quality if size else None,
        "shards": shards,
    }
    work, encoding, threads = Work(Path(out)), Encoding(size, quality), workers or machine.cores()
    if (index := work.finished(request)) is not None:
        work.clear()
        log.info("%s: nothing to do, its %d images are all there", out, index["images"])
        return _packed(work.out, index, len(index["shards"]))
    with ThreadPoolExecutor(threads) as pool:
        plan = planned(data, counted(data, encoding, shards, pool))
        with work.locked():
            work.begin(request)
            todo = [shard for shard in plan if not work.whole(shard.name)]
            if already := len(plan) - len(todo):
                log.info("%s: %d of %d shards are there, going on", out, already, len(plan))
            left = sum(len(shard.images) for shard in todo)
            with ImageProgress(work.out.name, len(data), len(data) - left) as progress:
                encoded = _encoded(data, encoding, todo, pool, AHEAD * threads)
                for shard in todo:
                    write_shard(work, shard, data.labels[shard.images], encoded, progress.step)
            index = write_index(data, work, plan, request)
            work.clear()
    _say_left_out(index, len(data), work.out)
    return _packed(work.out, index, already, progress.speed if todo else None)


def _check(size: int, quality: int, shards: int | None) -> None:
    if size and not 8 <= size <= 4096:
        raise ValueError(f"size is pixels from 8 to 4096, or 0 to copy the files as they are, not {size}")
    if not 1 <= quality <= 100:
        raise ValueError(f"quality is JPEG's, from 1 to 100, not {quality}")
    if shards is not None and shards < 1:
        raise ValueError(f"shards are at least 1, not {shards}")


def _encoded(
    data: Dataset, encoding: Encoding, shards: Sequence[Shard], pool: ThreadPoolExecutor, most: int
) -> Iterator[Encoded]:
    """The images of the shards as they are written, in order, made on threads; `most` are in memory."""

    def encode(index: int) -> Encoded:
        try:
            return encoding.encoded(data.images, index)
        except UnreadableImage as error:
            return error

    waiting = deque()
    for shard in shards:
        for index in shard.images.tolist():
            waiting.append(pool.submit(encode, index))
            if len(waiting) >= most:
                yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _say_left_out(index: dict[str, Any], images: int, out: Path) -> None:
    if left_out := index["left_out"]:
        first = f"{left_out[0]['key']}: {left_out[0]['why']}"
        said = "%d of %d images couldn't be read and are left out; the first is %s. All are listed in %s"
        log.warning(said, len(left_out), images, first, out / INDEX)


def _packed(out: Path, index: dict[str, Any], already: int, speed: float | None = None) -> Packed:
    size = sum(shard["bytes"] for shard in index["shards"])
    return Packed(out, index["images"], len(index["left_out"]), len(index["shards"]), size, already, speed)
