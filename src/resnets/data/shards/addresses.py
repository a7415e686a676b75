"""What an address of shards means: `data/{000000..000099}.tar`, one .tar, a folder of them, or the same at a server."""

import itertools
import json
import os
import re
from pathlib import Path

from resnets.data.dataset import SPLIT_NAMES, natural

INDEX = "index.json"  # what `pack` writes beside its shards
MARK = "resnets_shards"  # its key that says the format's version
WORK = ".pack"  # the folder that is there until the shards are whole
MOST = 1_000_000  # shards that braces may mean


def is_remote(address: str) -> bool:
    """Whether it is at a server: http://, s3://, …"""
    return re.match(r"[a-zA-Z][\w+.-]*://", address) is not None


def names_shards(data: str | os.PathLike[str]) -> bool:
    """Whether an address of data means shards: it is remote, ends in .tar, or is a folder of such files alone.

    A folder that `pack` writes is one even where its shards aren't there, so that they are missed.
    """
    address = str(data)
    if is_remote(address) or address.lower().endswith(".tar"):
        return True
    path = Path(address)
    if not path.is_dir():
        return False
    if is_sidecar(path / INDEX) or (path / WORK).is_dir():
        return True
    places = {(path / name).parent for name in tars_in(path)}
    return bool(places) and not any(_holds_other_folders(place) for place in places)


def is_sidecar(path: Path) -> bool:
    """Whether a file is what `pack` writes beside its shards."""
    try:
        return path.is_file() and MARK in json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def _holds_other_folders(place: Path) -> bool:
    return any(path.is_dir() and not path.name.startswith(".") for path in place.iterdir())


def expanded(address: str) -> list[str]:
    """What braces mean, as a shell and WebDataset read them: {000..099} numbers, {a,b} names; all of them in order."""
    parts = re.split(r"(\{[^{}]*\})", address)
    if any("{" in part or "}" in part for part in parts[::2]):
        raise ValueError(f"the braces of {address} don't close; shards are given as data/{{000000..000099}}.tar")
    choices = [_choices(part, address) if number % 2 else [part] for number, part in enumerate(parts)]
    count = 1
    for choice in choices:
        count *= len(choice)
    if count > MOST:
        raise ValueError(f"{address} means {count:,} shards; {MOST:,} are the most")
    return ["".join(picked) for picked in itertools.product(*choices)]


def _choices(braces: str, address: str) -> list[str]:
    inside = braces[1:-1]
    if numbers := re.fullmatch(r"(\d+)\.\.(\d+)", inside):
        first, last = numbers.groups()
        if int(first) > int(last):
            raise ValueError(f"{braces} in {address} counts down; the lower number comes first")
        if int(last) - int(first) >= MOST:
            raise ValueError(f"{braces} in {address} means more than {MOST:,} shards")
        return [f"{number:0{len(first)}}" for number in range(int(first), int(last) + 1)]
    if "," in inside:
        return inside.split(",")
    raise ValueError(f"{braces} in {address} is neither a range {{000000..000099}} nor a list {{a,b}}")


def placed(address: str) -> tuple[str, list[str]]:
    """The folder that an address with braces or of one .tar begins with, and the names of its shards below that folder."""
    every = expanded(address)
    fixed = address.partition("{")[0]
    cut = fixed.rfind("/") + 1
    return fixed[:cut], [name[cut:] for name in every]


def tars_in(root: Path) -> list[str]:
    """The shards of a folder, and of folders in it that are called as splits, in natural order."""
    found = [path.name for path in root.glob("*.tar") if not path.name.startswith(".")]
    if not found:
        for place in root.iterdir():
            if place.is_dir() and place.name.lower() in SPLIT_NAMES:
                found += [f"{place.name}/{path.name}" for path in place.glob("*.tar") if not path.name.startswith(".")]
    return sorted(found, key=natural)


def split_of(name: str) -> str:
    """The split that a shard's name says, "" if none: train/000.tar, train-000.tar, or imagenet1k-train-000.tar."""
    *folders, base = name.split("/")
    if folders and folders[0].lower() in SPLIT_NAMES:
        return SPLIT_NAMES[folders[0].lower()]
    first = re.match(r"([a-z]+)(?=[-_.\d])", base.lower())
    before = re.search(r"[-_.]([a-z]+)[-_.]\d+(?:[-_.]of[-_.]\d+)?\.tar$", base.lower())
    said = (SPLIT_NAMES.get(found.group(1), "") for found in (first, before) if found)
    return next(filter(None, said), "")
