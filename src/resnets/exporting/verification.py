"""Checking an exported folder, later or elsewhere: hashes first, then answers."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from resnets.errors import WorkFailed
from resnets.evaluation import evaluate
from resnets.exporting import certificate
from resnets.exporting.making import REFERENCE
from resnets.files import sha256
from resnets.prediction.exported import CERTIFICATE, Exported, open_model
from resnets.prediction.predictor import Predictor

INT8 = 0.05  # by how much a probability of the reference images may move between machines in int8
SAME = 0.005  # by how much accuracy on the certificate's own images may differ elsewhere, a fraction


def verify(folder: str | os.PathLike[str], data: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """Check an exported folder, later or elsewhere: the hashes of its files, then its answers to the reference images.

    With `data`, its accuracy there is measured and held to what the certificate says of the model. Gives what was found;
    raises WorkFailed, naming the file or the figure, where something differs, ValueError where it is no export.
    """
    exported = open_model(folder)
    if not isinstance(exported, Exported):
        raise ValueError(f"{folder} is a model, not an exported folder")
    document = read_certificate(folder)
    _check_hashes(Path(folder), document["files"])
    with np.load(Path(folder) / REFERENCE) as stored:
        images = [stored[name] for name in sorted(stored.files) if name.startswith("image_")]
        logits = stored["logits"]
    found = certificate.compared(logits, certificate.answers(Predictor(exported, exact=True), images).logits)
    most = document["synthetic"]["probabilities"]["largest"] + certificate.TOLERANCE["real"].get(exported.precision, INT8)
    if not found["probabilities"]["largest"] <= most:
        raise WorkFailed(
            f"{folder} doesn't answer as it did: a probability of the reference images differs by "
            f"{found['probabilities']['largest']:.4f}, where {most:.4f} was certified"
        )
    return {"files": len(document["files"]), "reference": found, **_verified_on(exported, document, data)}


def read_certificate(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The certificate of an exported folder."""
    return json.loads((Path(folder) / CERTIFICATE).read_text(encoding="utf-8"))


def _check_hashes(folder: Path, files: Mapping[str, Any]) -> None:
    for name, known in files.items():
        if not (folder / name).is_file():
            raise WorkFailed(f"{folder} lacks {name}, which its certificate names")
        if sha256(folder / name) != known["sha256"]:
            raise WorkFailed(f"{folder / name} isn't the file that was certified: its hash differs")


def _verified_on(exported: Exported, document: Mapping[str, Any], data: str | os.PathLike[str] | None) -> dict[str, Any]:
    """Accuracy on labelled images; where they are those of the certificate, it has to be what it was."""
    if data is None:
        return {}
    figures = evaluate(exported, data, exact=True)
    known = document.get("real")
    if known is not None and (known["data"], known["part"], known["images"], known["accuracy"]["of"]) == (
        figures["data"], figures["split"], figures["images"], "labels"
    ):  # fmt: skip
        was = known["accuracy"]["export"]
        if abs(figures["top1"] - was) > SAME:
            raise WorkFailed(f"top-1 on {known['data']} ({known['part']}) is {figures['top1']:.2%}, and was {was:.2%}")
    return {"real": {name: figures[name] for name in ("top1", "images", "split", "interval", "data")}}
