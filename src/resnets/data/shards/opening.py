"""Shards as a dataset."""

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from resnets.data.dataset import Dataset
from resnets.data.shards import scan
from resnets.data.shards.addresses import WORK, is_remote, placed, split_of, tars_in
from resnets.data.shards.images import ShardImages
from resnets.data.shards.index import Index
from resnets.data.shards.places import LocalPlace, OpenFiles, Place, Stat
from resnets.data.shards.sidecar import Sidecar, read_sidecar
from resnets.data.shards.tar import Damaged

log = logging.getLogger("resnets")

THREADS = 16
REMEDY = "training can leave such shards out: --set tolerate=true"


class Given(NamedTuple):
    """What an address means."""

    root: str  # ends in a slash
    names: list[str]  # of the shards below it
    sidecar: Sidecar | None


def open_shards(address: str | os.PathLike[str], tolerate: bool = False) -> Dataset:
    """The images of tar shards in WebDataset's layout, with their labels, each read from where an index says it lies.

    `address` is one .tar, several with braces (`data/{000000..000099}.tar`), a folder of them, or any of these at a server
    (http, https, or what fsspec knows; a remote folder is one that `pack` wrote). A sample is the files that share a name
    up to its first dot: an image, and a .cls with its class or a .json with {"label": …}. Folders or names that begin with
    train, val or test are splits. The index is the one `pack` wrote, else it is made by one pass over the headers and kept
    in the cache folder. Raises ValueError, naming the shard, where one is missing, cut off or no tar file; `tolerate`
    leaves such shards out and says so once.
    """
    given = shards_at(str(address))
    places = places_of(given.root, given.names)
    stats, faults = _stats(places, given.sidecar, given.names)
    there = [number for number, stat in enumerate(stats) if stat is not None]
    if not tolerate and faults:
        raise ValueError(f"{faults[0]}; {REMEDY}")
    if given.sidecar is not None:
        place = {name: number for number, name in enumerate(given.sidecar.shards)}
        index = given.sidecar.read_index().of_shards([place[given.names[number]] for number in there])
    else:
        index, there = _scanned(places, stats, there, faults, tolerate)
    if faults:
        said = f"{faults[0]}{'; …' if len(faults) > 1 else ''}"
        log.warning("%d of %d shards of %s are left out: %s", len(faults), len(places), address, said)
    if not len(index.shard):
        raise ValueError(f"the shards of {address} hold no image with a label; a sample is 000001.jpg and 000001.cls")
    names = [given.names[number] for number in there]
    return _dataset(given, names, ShardImages([places[number] for number in there], names, index), index)


def shards_at(address: str) -> Given:
    """The shards that an address means. Raises ValueError where it means none."""
    if not _is_folder(address):
        root, names = placed(address)
        root = root if is_remote(root) else os.path.join(os.path.abspath(root), "")  # noqa: PTH100, PTH118
        if repeated := len(names) - len(set(names)):
            raise ValueError(f"{address} names {repeated} shards twice")
        side = _sidecar(root)
        known = set(side.shards) if side else set()
        return Given(root, names, side if known.issuperset(names) else None)
    root = address.rstrip("/") + "/" if is_remote(address) else os.path.join(os.path.abspath(address), "")  # noqa: PTH100, PTH118
    side = _sidecar(root)
    names = side.shards if side else [] if is_remote(root) else tars_in(Path(root))
    if not names:
        what = "no index.json of resnets" if is_remote(root) else "no .tar file"
        raise ValueError(f"there is {what} in {address}; name the shards with braces: {root}{{000000..000099}}.tar")
    return Given(root, names, side)


def _sidecar(root: str) -> Sidecar | None:
    """What `pack` says of a folder's shards. ValueError where it hasn't written all of them."""
    side = read_sidecar(root)
    if side is None and not is_remote(root) and Path(root, WORK).is_dir():
        raise ValueError(f"the shards in {root} aren't all packed; the same pack, given again, goes on with them")
    return side


def _is_folder(address: str) -> bool:
    """Whether it is a folder, and no address of shards themselves. ValueError where it is neither."""
    tar, braces = address.lower().endswith(".tar"), "{" in address
    if is_remote(address):
        if braces and not tar:
            raise ValueError(f"{address} doesn't end in .tar; shards are given as {{000000..000099}}.tar")
        return not tar
    if not tar and not Path(address).is_dir():
        raise ValueError(f"there are no shards at {address}; give a .tar, data/{{000000..000099}}.tar, or their folder")
    return Path(address).is_dir()


def places_of(root: str, names: list[str]) -> Sequence[Place]:
    """The shards `names` below a folder, local or at a server."""
    if is_remote(root):
        from resnets.data.shards.remote import remote_places  # http and ssl, which files don't need

        return remote_places(root, names)
    files = OpenFiles()
    return [LocalPlace(root + name, files) for name in names]


def _stats(places: Sequence[Place], side: Sidecar | None, names: list[str]) -> tuple[list[Stat | None], list[str]]:
    """What is known of each shard, None where it is missing or not of the length that the index says; and the faults."""
    sizes = {shard["name"]: shard["bytes"] for shard in side.document["shards"]} if side else {}

    def look(place: Place, name: str) -> Stat | str:
        try:
            stat = place.stat()
        except Damaged as error:
            return str(error)
        if stat.size != sizes.get(name, stat.size):
            fault = "is cut off" if stat.size < sizes[name] else "is another than was packed"
            return f"the shard {place.address} {fault}: it has {stat.size:,} bytes of {sizes[name]:,}"
        return stat

    with ThreadPoolExecutor(min(THREADS, len(places))) as pool:
        found = list(pool.map(look, places, names))
    return [stat if isinstance(stat, Stat) else None for stat in found], [why for why in found if isinstance(why, str)]


def _scanned(
    places: Sequence[Place], stats: list[Stat | None], there: list[int], faults: list[str], tolerate: bool
) -> tuple[Index, list[int]]:
    """The index of the shards that are there, from the cache or by a pass over them; and which of them can be read.

    Adds to `faults`.
    """
    looked = [places[number] for number in there]
    known = [stat for stat in stats if stat is not None]
    kept = scan.cached(looked, known)
    if (index := scan.read_cached(kept)) is not None:
        return index, there
    found = scan.scanned(looked, known)
    broken = [str(shard) for shard in found if isinstance(shard, Damaged)]
    if broken and not tolerate:
        raise ValueError(f"{broken[0]}; {REMEDY}")
    faults += broken
    index = scan.merged([shard for shard in found if not isinstance(shard, Damaged)])
    if not broken:
        scan.keep(kept, index)
    return index, [number for number, shard in zip(there, found, strict=True) if not isinstance(shard, Damaged)]


def _dataset(given: Given, names: list[str], images: ShardImages, index: Index) -> Dataset:
    if given.sidecar is not None:
        document = given.sidecar.document
        said = {shard["name"]: shard["split"] for shard in document["shards"]}
        of_shard = [said[name] for name in names]
        name, mirrors = document["data"], document["mirrors"]
        empty = {split: tuple(classes) for split, classes in document["empty"].items()}
    else:
        of_shard = [split_of(name) for name in names]
        name, mirrors, empty = _name(given), True, {}
    if any(of_shard) and not all(of_shard):
        bare, other = names[of_shard.index("")], next(filter(None, of_shard))
        raise ValueError(f"the shard {given.root}{bare} is of no split, and others are of {other}; name it as they are")
    order = ("train", "val", "test", *sorted(set(of_shard) - {"train", "val", "test"}))
    splits = {}
    for split in filter(None, order):
        numbers = [number for number, which in enumerate(of_shard) if which == split]
        if numbers:
            splits[split] = np.flatnonzero(np.isin(index.shard, numbers))
    return Dataset(name, images, index.classes, index.label.astype(np.int64), splits, empty, mirrors)


def _name(given: Given) -> str:
    if len(given.names) == 1:
        return Path(given.names[0]).stem
    return given.root.rstrip("/").rpartition("/")[2] or "shards"
