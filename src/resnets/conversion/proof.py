"""What a conversion proves: that the other library gets the same logits from its file as we do; or a round trip."""

import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from resnets.conversion.writing import their_state, with_epsilon
from resnets.data.preprocessing import Preprocessing, crop, normalise
from resnets.data.synthetic import synthetic
from resnets.errors import WorkFailed
from resnets.model import Model
from resnets.prediction.predictor import Predictor
from resnets.weights.ecosystem import Ecosystem, State
from resnets.weights.reading import Reading
from resnets.weights.shapes import COUNTER
from resnets.weights.source import open_source

RELATIVE = 1e-4  # the largest difference of a logit, as a share of the largest logit
LEVELS = 1.0  # the mean difference of two ways to prepare the same image, in levels of 255


@dataclass(frozen=True)
class Witnessed:
    """What another library says of a file."""

    version: str
    logits: np.ndarray  # float32 [images, classes] of our tensors
    tensors: np.ndarray | None  # float32 [images, channels, size, size]: the images as it prepares them; None: it doesn't
    own: np.ndarray | None  # float32 [images, classes] of its own tensors


def library(ecosystem: Ecosystem) -> str | None:
    """The name of the library that can be a witness, where it is installed; None where it isn't, or there is none."""
    try:
        name = import_module(f"resnets.conversion.witnesses.{ecosystem.name}").LIBRARY
        importlib.metadata.version(name)
    except (ModuleNotFoundError, importlib.metadata.PackageNotFoundError):
        return None
    return name


def parity(model: Model, ecosystem: Ecosystem, path: Path) -> dict[str, Any]:
    """The same images by the other library, from its file, and by us. Raises WorkFailed where they differ."""
    how = model.preprocessing or _stand_in(model)
    images = synthetic(how)
    crops = np.stack([crop(image, how) for image in images])
    tensors = normalise(crops, how)
    witnessed = _witnessed(ecosystem, path, model, tensors, images if model.preprocessing else [])
    ours = _our_logits(model, how, images)
    differences = np.abs(ours - witnessed.logits)
    relative = float(differences.max() / np.abs(ours).max())
    document = {
        "kind": "parity",
        "library": library(ecosystem),
        "version": witnessed.version,
        "images": len(images),
        "logits": {"largest": float(differences.max()), "mean": float(differences.mean()), "relative": relative},
        "top1_agreement": float((ours.argmax(1) == witnessed.logits.argmax(1)).mean()),
        "preprocessing": None,
    }
    if not relative <= RELATIVE:
        raise WorkFailed(
            f"{ecosystem.title} gets other logits from it: they differ by {relative:.2g} of the largest, where {RELATIVE:g} "
            "is allowed; nothing is written"
        )
    if witnessed.tensors is not None and witnessed.own is not None:
        document["preprocessing"] = _prepared_alike(how, tensors, ours, witnessed)
    return document


def _prepared_alike(how: Preprocessing, tensors: np.ndarray, ours: np.ndarray, witnessed: Witnessed) -> dict[str, Any]:
    """How far the library's own preparation of the images is from ours. Raises WorkFailed where it is another."""
    assert witnessed.tensors is not None and witnessed.own is not None
    scale = (np.array(how.deviation, np.float32) / np.float32(how.scale))[:, None, None]
    if tensors.shape != witnessed.tensors.shape:
        raise WorkFailed(f"it prepares images as {list(witnessed.tensors.shape[1:])}, and we as {list(tensors.shape[1:])}")
    levels = _levels(tensors, witnessed.tensors, scale)
    if levels.mean() > LEVELS:
        raise WorkFailed(
            f"it prepares images otherwise: by {levels.mean():.1f} levels of 255 in the mean; nothing is written"
        )
    return {
        "levels": {"largest": float(levels.max()), "mean": float(levels.mean())},
        "logits": {"largest": float(np.abs(ours - witnessed.own).max()), "mean": float(np.abs(ours - witnessed.own).mean())},
        "top1_agreement": float((ours.argmax(1) == witnessed.own.argmax(1)).mean()),
    }


def _levels(ours: np.ndarray, theirs: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Differences in levels of 255 [images, channels, height, width], each image where it fits best within a pixel: the
    middle of an odd rest of pixels is rounded up or down (transformers) or to even (torchvision, we)."""
    size = ours.shape[-1]
    inner = np.s_[1 : size - 1]
    found = []
    for mine, other in zip(ours, theirs, strict=True):
        shifted = (
            np.abs(mine[:, inner, inner] - other[:, 1 + down : size - 1 + down, 1 + right : size - 1 + right]) * scale
            for down in (-1, 0, 1)
            for right in (-1, 0, 1)
        )
        found.append(min(shifted, key=lambda differences: differences.mean()))
    return np.stack(found)


def round_trip(before: State, after: State) -> dict[str, Any]:
    """Whether numbers came back as they were: how many changed, and by how much of each weight's largest at most."""
    changed, largest = 0, 0.0
    for name, array in before.items():
        other = after.get(name)
        if other is None or other.shape != array.shape:
            raise WorkFailed(f"the weight {name} didn't come back; nothing is written")
        differs = ~((array == other) | ((array != array) & (other != other)))
        if differs.any():
            changed += int(differs.sum())
            largest = max(largest, float(np.abs(array[differs] - other[differs]).max() / (np.abs(array).max() or 1)))
    if largest > RELATIVE:
        raise WorkFailed(
            f"numbers didn't come back as they were (by {largest:.2g} of a weight's largest); nothing is written"
        )
    return {"kind": "round trip", "weights": len(before), "numbers_changed": changed, "relative": largest}


def there_and_back(model: Model, ecosystem: Ecosystem, path: Path) -> dict[str, Any]:
    """The round trip of a target: what was written, read again."""
    source = open_source(path)
    written = source.state if isinstance(source, Model) else ecosystem.to_ours(source.weights).state
    ours = with_epsilon(model, ecosystem.conventions.norm_epsilon)
    return round_trip(
        {name: array for name, array in ours.items() if not name.endswith(COUNTER) or name in written}, written
    )


def back_and_forth(found: Reading) -> dict[str, Any]:
    """The round trip of a source: its names, ours, and its again; where a weight was folded into another, ours again."""
    source, ecosystem, model = found.source, found.ecosystem, found.model
    if source is None or ecosystem is None:  # PyTorch's names are ours
        return round_trip(found.taken.state, model.state)
    theirs = their_state(model, ecosystem)
    if found.taken.folded:
        return round_trip(found.taken.state, ecosystem.to_ours(theirs).state)
    again = {name.removeprefix("module."): array for name, array in theirs.items()}
    return round_trip({name: array for name, array in source.weights.items() if name not in found.taken.dropped}, again)


def _stand_in(model: Model) -> Preprocessing:
    """Some preprocessing for a model that has none: the tensors matter here, not how images become them."""
    channels, size = model.architecture.channels, model.architecture.natural_input
    if channels == 3:
        return Preprocessing(size=size)
    if channels == 1:
        return Preprocessing(size=size, colour="grey", mean=(0.5,), deviation=(0.25,))
    raise WorkFailed(f"the check of logits takes images of 1 or 3 channels, not {channels}; --no-check leaves it out")


def _our_logits(model: Model, how: Preprocessing, images: list[np.ndarray]) -> np.ndarray:
    predictor = Predictor(replace(model, preprocessing=how), engine="openvino", precision="float32", exact=True)
    return np.stack([output.logits for output in predictor(images) if output.logits is not None])


def _witnessed(ecosystem: Ecosystem, path: Path, model: Model, tensors: np.ndarray, images: list[np.ndarray]) -> Witnessed:
    """Ask the other library, in a process of its own."""
    with tempfile.TemporaryDirectory() as place:
        asked, answered = Path(place) / "asked.npz", Path(place) / "answered.npz"
        np.savez(asked, tensors=tensors, **{f"image_{number}": image for number, image in enumerate(images)})  # type: ignore[arg-type]
        request = {
            "ecosystem": ecosystem.name,
            "path": str(path.absolute()),
            "architecture": model.architecture.to_json(),
            "asked": str(asked),
            "answered": str(answered),
        }
        command = [sys.executable, "-m", "resnets.conversion.witness", json.dumps(request)]
        environment = {**os.environ, "KERAS_BACKEND": "torch", "TF_CPP_MIN_LOG_LEVEL": "3", "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode or not answered.is_file():
            last = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
            raise WorkFailed(f"{ecosystem.title} can't read what it is given: {last}; --no-check leaves this proof out")
        with np.load(answered, allow_pickle=False) as found:
            return Witnessed(str(found["version"]), found["logits"], *(found.get(name) for name in ("tensors", "own")))
