"""Torchvision's ImageNet weights: where they lie, fetched once, checked by hash."""

import hashlib
import http.client
import logging
import os
import urllib.request
from pathlib import Path
from typing import NamedTuple

import numpy as np

from resnets.architecture import NAMED, Architecture
from resnets.data.preprocessing import Preprocessing
from resnets.fetching import SECONDS
from resnets.files import cache_folder, replacing, sha256
from resnets.weights.foreign import read_weights

log = logging.getLogger("resnets")

ADDRESS = "https://download.pytorch.org/models"  # or $RESNETS_WEIGHTS_URL: a mirror with the same file names


class Pretrained(NamedTuple):
    """One file of weights: its name ends in the first eight digits of its SHA-256."""

    file: str
    top1: float  # on ImageNet's validation images, one central crop, as torchvision states it


IMAGENET = {  # torchvision's IMAGENET1K_V1; BSD 3-clause. Its stride is in the 3×3, so 50, 101 and 152 are v1.5
    "resnet18": Pretrained("resnet18-f37072fd.pth", 0.69758),
    "resnet34": Pretrained("resnet34-b627a593.pth", 0.73314),
    "resnet50-v1.5": Pretrained("resnet50-0676ba61.pth", 0.76130),
    "resnet101-v1.5": Pretrained("resnet101-63fe2227.pth", 0.77374),
    "resnet152-v1.5": Pretrained("resnet152-394f9c45.pth", 0.78312),
    "wide-resnet50-2": Pretrained("wide_resnet50_2-95faca4d.pth", 0.78468),
    "wide-resnet101-2": Pretrained("wide_resnet101_2-32ee1156.pth", 0.78848),
    "resnext50-32x4d": Pretrained("resnext50_32x4d-7cdf4587.pth", 0.77618),
    "resnext101-32x8d": Pretrained("resnext101_32x8d-8ba56ff5.pth", 0.79312),
}
PREPROCESSING = Preprocessing()  # 224 of 256, bilinear, ImageNet's mean and deviation


def pretrained_for(net: Architecture) -> Pretrained | None:
    """The weights that belong to an architecture, whatever its classes: only where every layer is the same."""
    for name, weights in IMAGENET.items():
        if same_layers(NAMED[name], net):
            return weights
    return None


def same_layers(ours: Architecture, theirs: Architecture) -> bool:
    """Whether two architectures differ in no more than their classes, channels and training constants.

    The place of a stride has no meaning in a basic block, which has but one.
    """
    ignored = {"classes", "channels", "initialisation", "norm_momentum"} | (
        {"stride_in_3x3"} if ours.block == "basic" else set()
    )
    mine, other = ours.to_json(), theirs.to_json()
    return all(mine[key] == other[key] for key in mine if key not in ignored)


class Missing(NamedTuple):
    """A file that is neither in the cache nor could be fetched."""

    reason: object
    address: str
    folder: Path  # where to put it by hand


def pretrained_state(weights: Pretrained) -> dict[str, np.ndarray] | None:
    """The weights from the cache, or fetched into it; None, with one sentence that says what to do, if neither goes.

    Raises ValueError where a file has been changed: its hash isn't the one its name says.
    """
    path = file_of(weights.file)
    if isinstance(path, Missing):
        log.warning(
            "training from scratch, which needs more images and more time for less accuracy: the pretrained weights "
            "couldn't be fetched (%s). To bring them by hand, put %s into %s", *path
        )  # fmt: skip
        return None
    return read_weights(path)


def file_of(file: str) -> Path | Missing:
    """Where a file of torchvision's lies, fetched if need be. Raises ValueError where it isn't what its name says."""
    path = _find(file)
    if path is None:
        path = cache_folder() / file
        address = f"{(os.environ.get('RESNETS_WEIGHTS_URL') or ADDRESS).rstrip('/')}/{file}"
        try:
            _fetch(address, path)
        except (OSError, http.client.HTTPException) as error:
            return Missing(getattr(error, "reason", None) or error, address, path.parent)
    _check(path, file)
    return path


def _find(file: str) -> Path | None:
    """The file in our cache, or in the one that torchvision fills."""
    torch_home = Path(
        os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "torch"
    )
    places = (cache_folder() / file, torch_home / "hub" / "checkpoints" / file)
    return next((place for place in places if place.is_file()), None)


def _fetch(address: str, path: Path) -> None:
    """Download to `path`: whole, of the right hash, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    log.info("fetching %s", address)
    digest = hashlib.sha256()
    with urllib.request.urlopen(address, timeout=SECONDS) as answer, replacing(path) as file:
        while block := answer.read(1 << 20):
            digest.update(block)
            file.write(block)
        if not digest.hexdigest().startswith(_stated(path.name)):
            raise OSError(f"{address} sent something else than {path.name}")


def _check(path: Path, file: str) -> None:
    if not sha256(path).startswith(_stated(file)):
        raise ValueError(f"{path} isn't the file its name says (its SHA-256 differs); delete it, and it is fetched again")


def _stated(file: str) -> str:
    """The start of the hash, as the file's name has it."""
    return Path(file).stem.rsplit("-", 1)[1]
