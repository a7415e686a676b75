"""Weights by name, wherever WEIGHTS is taken: `torchvision:resnet50.IMAGENET1K_V2`, `timm:resnet50.a1_in1k`, `hf:ORG/NAME`.

Each is fetched once into the cache and checked by hash: torchvision's files by the digits in their names, the hub's by what
the hub states of them. $RESNETS_WEIGHTS_URL and $HF_ENDPOINT are other places with the same files.
"""

import http.client
import json
import logging
import os
import re
import urllib.error
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from resnets import fetching
from resnets.architecture import NAMED, named
from resnets.errors import WorkFailed
from resnets.files import cache_folder, sha256, write_json
from resnets.weights import pretrained
from resnets.weights.ecosystem import Configured
from resnets.weights.imagenet import NAMES
from resnets.weights.source import CONFIGURATIONS

log = logging.getLogger("resnets")

SCHEMES = ("torchvision", "timm", "hf")
RECORD = "fetched.json"
V2 = {  # torchvision's IMAGENET1K_V2, trained by its newer recipe; BSD 3-clause. 224 of 232
    "resnet50-v1.5": "resnet50-11ad3fa6.pth",
    "resnet101-v1.5": "resnet101-cd907fc2.pth",
    "resnet152-v1.5": "resnet152-f82ba261.pth",
    "wide-resnet50-2": "wide_resnet50_2-9ba9bcbe.pth",
    "wide-resnet101-2": "wide_resnet101_2-d733dc28.pth",
    "resnext50-32x4d": "resnext50_32x4d-1a0047aa.pth",
    "resnext101-32x8d": "resnext101_32x8d-110c445d.pth",
}
TIMM = {  # some of timm's tags, each of its own training; the hub has more
    "resnet18": ("a1_in1k", "a2_in1k", "a3_in1k", "tv_in1k", "fb_ssl_yfcc100m_ft_in1k"),
    "resnet34": ("a1_in1k", "a2_in1k", "a3_in1k", "tv_in1k"),
    "resnet50-v1.5": ("a1_in1k", "a1h_in1k", "a2_in1k", "a3_in1k", "tv2_in1k", "ram_in1k", "fb_swsl_ig1b_ft_in1k"),
    "resnet101-v1.5": ("a1_in1k", "a1h_in1k", "a2_in1k", "a3_in1k", "tv2_in1k"),
    "resnet152-v1.5": ("a1_in1k", "a1h_in1k", "a2_in1k", "a3_in1k", "tv2_in1k"),
    "resnet50d": ("a1_in1k", "a2_in1k", "a3_in1k", "ra2_in1k"),
    "wide-resnet50-2": ("racm_in1k", "tv2_in1k"),
    "wide-resnet101-2": ("tv2_in1k",),
    "resnext50-32x4d": ("a1h_in1k", "a1_in1k", "ra_in1k", "tv2_in1k"),
    "resnext101-32x8d": ("fb_wsl_ig1b_ft_in1k", "tv2_in1k"),
}
HF = {f"resnet{depth}{'' if depth < 50 else '-v1.5'}": f"microsoft/resnet-{depth}" for depth in (18, 34, 50, 101, 152)}


class Fetched(NamedTuple):
    """Weights that are here now."""

    path: Path  # a file, or a folder as timm and transformers write them
    ecosystem: str  # as --from says it
    known: Configured  # what the name says beyond what the files do


def is_name(given: str | os.PathLike[str]) -> bool:
    """Whether this is a name that can be fetched, and not a path."""
    scheme, colon, _ = str(given).partition(":")
    return bool(colon) and scheme in SCHEMES and not Path(given).exists()


def fetched(name: str) -> Fetched:
    """The files of a name, from the cache or fetched into it.

    Raises ValueError for a name that isn't there, and WorkFailed, with how to bring the files by hand, where they can't be
    had or aren't what their hash says.
    """
    scheme, _, rest = name.partition(":")
    if scheme == "torchvision":
        return _of_torchvision(name, rest)
    if scheme == "timm":
        if not re.fullmatch(r"[\w.-]+", rest):
            raise ValueError(f"{name} is no name of timm's: timm:MODEL.TAG, timm:resnet50.a1_in1k for example")
        return Fetched(_of_hub(name, f"timm/{rest}", "main"), "timm", Configured())
    repository, _, revision = rest.partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise ValueError(f"{name} is no name of the hub's: hf:ORG/NAME, or hf:ORG/NAME@REVISION")
    folder = _of_hub(name, repository, revision or "main")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return Fetched(folder, "timm" if "architecture" in config else "huggingface", Configured())


def names_of(architecture: str) -> list[str]:
    """The names of weights that exist for a named network."""
    found = [f"torchvision:{_file(architecture)}.IMAGENET1K_V1"] if architecture in pretrained.IMAGENET else []
    found += [f"torchvision:{_file(architecture)}.IMAGENET1K_V2"] if architecture in V2 else []
    found += [f"timm:{_file(architecture)}.{tag}" for tag in TIMM.get(architecture, ())]
    return found + ([f"hf:{HF[architecture]}"] if architecture in HF else [])


def _file(architecture: str) -> str:
    """torchvision's and timm's name of a network: "wide_resnet50_2"."""
    return architecture.removesuffix("-v1.5").replace("-", "_")


def _of_torchvision(name: str, rest: str) -> Fetched:
    model, _, tag = rest.partition(".")
    net = next((known for known in (*pretrained.IMAGENET, *V2) if _file(known) == model), None)
    files = {
        "IMAGENET1K_V1": net and net in pretrained.IMAGENET and pretrained.IMAGENET[net].file,
        "IMAGENET1K_V2": V2.get(net or ""),
    }
    file = files.get(tag)
    if net is None or not file:
        there = [
            known for architecture in NAMED for known in names_of(architecture) if known.startswith(f"torchvision:{model}.")
        ]
        hint = " and ".join(there) or "`resnets table --all` lists what there is"
        raise ValueError(f"torchvision has no {rest}; {hint}")
    path = pretrained.file_of(file)
    if isinstance(path, pretrained.Missing):
        raise WorkFailed(
            f"{name} couldn't be fetched ({path.reason}); to bring it by hand, put {path.address} into {path.folder}"
        )
    how = pretrained.PREPROCESSING if tag == "IMAGENET1K_V1" else replace(pretrained.PREPROCESSING, crop=224 / 232)
    return Fetched(path, "torchvision", Configured(named(net), NAMES, how))


def _of_hub(name: str, repository: str, revision: str) -> Path:
    """The folder with a repository's configuration and weights."""
    folder = cache_folder() / "hub" / f"{repository.replace('/', '--')}@{revision}"
    address = f"{fetching.endpoint()}/{repository}/resolve/{revision}"
    recorded = _recorded(folder)
    if _is_whole(folder):
        _check(folder, recorded)
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    hashes: dict[str, str] = dict(recorded)
    try:
        for file in CONFIGURATIONS:
            _get(address, folder / file, hashes, optional=file != "config.json")
        if not _get(address, folder / "model.safetensors", hashes, optional=True):
            _get(address, folder / "model.safetensors.index.json", hashes)
            listed = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))["weight_map"]
            for shard in sorted(set(listed.values())):
                _get(address, folder / Path(shard).name, hashes)
    except urllib.error.HTTPError as error:
        if error.code in (401, 404):
            raise ValueError(f"{name}: {error.url} isn't there, or isn't public ({error.code})") from None
        raise _cannot(name, address, folder, error) from None
    except (OSError, http.client.HTTPException, KeyError, ValueError) as error:
        raise _cannot(name, address, folder, error) from None
    write_json(folder / RECORD, {"address": address, "files": hashes})
    return folder


def _cannot(name: str, address: str, folder: Path, error: Exception) -> WorkFailed:
    return WorkFailed(
        f"{name} couldn't be fetched ({fetching.reason(error)}); to bring it by hand, put config.json, "
        f"preprocessor_config.json if there is one, and model.safetensors of {address} into {folder}"
    )


def _is_whole(folder: Path) -> bool:
    return (folder / "config.json").is_file() and ((folder / "model.safetensors").is_file() or (folder / RECORD).is_file())


def _recorded(folder: Path) -> Mapping[str, str]:
    """SHA-256 of each file that was fetched, as recorded then; {} of files that were brought by hand."""
    try:
        return json.loads((folder / RECORD).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _check(folder: Path, recorded: Mapping[str, str]) -> None:
    if not recorded:
        log.warning("%s was brought by hand: no hash to check it by", folder)
    for file, stated in recorded.items():
        path = folder / file
        if not path.is_file() or sha256(path) != stated:
            raise ValueError(
                f"{path} isn't what was fetched (its SHA-256 differs); delete {folder}, and it is fetched again"
            )


def _get(address: str, path: Path, hashes: dict[str, str], optional: bool = False) -> bool:
    """Fetch a file whole and of the stated hash, or raise OSError; whether it is there, where it is optional."""
    try:
        hashes[path.name] = fetching.get(f"{address}/{path.name}", path)
    except urllib.error.HTTPError as error:
        if optional and error.code == 404:
            return False
        raise
    return True
