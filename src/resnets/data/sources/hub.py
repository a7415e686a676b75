"""Datasets of the Hugging Face hub by name: `hf:ORG/NAME`, whose Parquet files are fetched once into the cache folder.

`hf:ORG/NAME/CONFIGURATION` where it has several, and `@REVISION` behind for another than main. What isn't stored as Parquet
is taken from the hub's own conversion. A name stays the commit that it first was: delete its folder in the cache for a newer
one. $HF_ENDPOINT is another place with the same files.
"""

import json
import logging
import os
import re
import urllib.error
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import quote

from resnets import fetching
from resnets.data.dataset import SPLIT_NAMES, Dataset
from resnets.data.sources.parquet import parquet_images
from resnets.errors import WorkFailed
from resnets.files import cache_folder, write_json

log = logging.getLogger("resnets")

SCHEME = "hf:"
RECORD = "fetched.json"
CONVERTED = "refs/convert/parquet"  # where the hub keeps its conversions
NAME = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(?P<inside>(/[\w.-]+)*)(@(?P<revision>[\w./-]+))?")


class Listing(NamedTuple):
    """What a repository holds, and what of it is here."""

    address: str  # of the files' folder, at one commit
    files: dict[str, list[Any]]  # relative path → [SHA-256, bytes] of what was fetched, [] before


def is_name(data: str | os.PathLike[str]) -> bool:
    """Whether this names a dataset of the hub, and is no path."""
    return str(data).startswith(SCHEME) and not Path(data).exists()


def hub_dataset(name: str) -> Dataset:
    """The images of a dataset of the hub, fetched where they aren't here; then without asking the network.

    Raises ValueError for a name that isn't there, isn't public or has no Parquet files with images, and WorkFailed, with how
    to bring the files by hand, where they can't be had or aren't what their hash says. What was fetched whole stays.
    """
    parts = NAME.fullmatch(name.removeprefix(SCHEME))
    if parts is None or ".." in parts["inside"].split("/"):
        raise ValueError(f"{name} is no name of the hub's: hf:ORG/NAME, hf:ORG/NAME/CONFIGURATION or hf:ORG/NAME@REVISION")
    repository, inside, revision = parts["repository"], parts["inside"].strip("/"), parts["revision"] or "main"
    folder = cache_folder() / "datasets" / f"{repository}@{revision}".replace("/", "--")
    try:
        files = _here(name, folder, repository, inside, revision)
    except urllib.error.HTTPError as error:
        if error.code in (401, 404):
            raise ValueError(f"{name}: {error.url} isn't there, or isn't public ({error.code})") from None
        raise _cannot(name, folder, error) from None
    except fetching.FAILS as error:
        raise _cannot(name, folder, error) from None
    if isinstance(files, str):
        raise ValueError(files)
    return parquet_images(repository.split("/")[1], [folder / file for file in files], folder / inside)


def _here(name: str, folder: Path, repository: str, inside: str, revision: str) -> list[str] | str:
    """The Parquet files that a name means, all of them here; or the sentence for a name that means none."""
    listing = _recorded(folder)
    if listing is None:
        if brought := sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet")):
            log.warning("%s was brought by hand: no hash to check it by", folder)
            return _chosen(name, brought, inside)
        listing = _listed(repository, revision)
        if listing.files:
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / RECORD, listing._asdict())
    files = _chosen(name, list(listing.files), inside)
    for file in files if isinstance(files, list) else ():
        path, known = folder / file, listing.files[file]
        if known and path.is_file() and path.stat().st_size == known[1]:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = fetching.get(f"{listing.address}/{quote(file)}", path)
        listing.files[file] = [digest, path.stat().st_size]
        write_json(folder / RECORD, listing._asdict())
    return files


def _listed(repository: str, revision: str) -> Listing:
    """The Parquet files of a repository, else of the hub's conversion of it."""
    own = _at(repository, revision)
    if own.files or revision != "main":
        return own
    try:
        return _at(repository, CONVERTED)
    except urllib.error.HTTPError as error:
        if error.code in (401, 404):
            return own  # it has no conversion
        raise


def _at(repository: str, revision: str) -> Listing:
    """The Parquet files of a repository at a revision."""
    place = fetching.endpoint()
    answer = fetching.get_json(f"{place}/api/datasets/{repository}/revision/{quote(revision, safe='')}")
    names = [PurePosixPath(entry["rfilename"]) for entry in answer["siblings"]]
    files = [name for name in names if name.suffix == ".parquet" and not name.is_absolute() and ".." not in name.parts]
    return Listing(f"{place}/datasets/{repository}/resolve/{answer['sha']}", {str(name): [] for name in sorted(files)})


def _chosen(name: str, files: Sequence[str], inside: str) -> list[str] | str:
    """Those files that lie in a folder, of one configuration; or the sentence for there being none or several."""
    chosen = [file for file in files if not inside or file.startswith(f"{inside}/")]
    if not chosen:
        return (
            f"{name} has no Parquet files{f' in {inside}' if inside else ''}; fetch it by hand, as a folder of class folders"
        )
    depth = len(PurePosixPath(inside).parts)
    splits = {*SPLIT_NAMES, "data"}
    tops = {file: PurePosixPath(file).parts[depth:-1][:1] for file in chosen}
    several = sorted({top[0] if top and top[0].lower() not in splits else "" for top in tops.values()})
    if len(several) > 1:
        whole = name.partition("@")
        there = ", ".join(f"{whole[0]}/{top}{''.join(whole[1:])}" for top in several if top)
        return f"{name} has several configurations; name one: {there}"
    return chosen


def _recorded(folder: Path) -> Listing | None:
    """What was recorded of a repository; None where nothing was, or it can't be read."""
    try:
        document = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return Listing(document["address"], dict(document["files"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _cannot(name: str, folder: Path, error: Exception) -> WorkFailed:
    return WorkFailed(
        f"{name} couldn't be fetched ({fetching.reason(error)}); to bring it by hand, put its Parquet files, called "
        f"train-….parquet, test-….parquet, into {folder}"
    )
