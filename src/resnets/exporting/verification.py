"""Checking an exported folder, later or elsewhere: hashes first, then answers."""

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from resnets import metrics
from resnets.errors import WorkFailed
from resnets.exporting import certificate
from resnets.exporting.making import REFERENCE
from resnets.exporting.pictures import real
from resnets.files import sha256
from resnets.prediction.exported import CERTIFICATE, Exported, open_model
from resnets.prediction.predictor import Predictor

log = logging.getLogger("resnets")

INT8 = 0.05  # by how much a probability of the reference images may move between machines in int8
SAME = 0.005  # by how much accuracy on the certificate's own images may differ elsewhere, a fraction


def verify(folder: str | os.PathLike[str], data: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """Check an exported folder, later or elsewhere: the hashes of its files, then its answers to the reference images.

    With labelled `data`, its accuracy there is measured; on the images of the certificate it has to be what it was. Gives
    what was found; raises WorkFailed, naming the file or the figure, where something differs, ValueError where it is no
    export.
    """
    document = read_certificate(folder)
    _check_hashes(Path(folder), document["files"])
    exported = open_model(folder)
    assert isinstance(exported, Exported)
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
    """The certificate of an exported folder. ValueError where there is none."""
    path = Path(folder) / CERTIFICATE
    if not path.is_file():
        raise ValueError(f"{folder} is no exported folder: it has no {CERTIFICATE}")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no certificate of an export: {error}") from None
    if not isinstance(document, dict) or not isinstance(document.get("files"), dict):
        raise ValueError(f"{path} is no certificate of an export: it names no files")
    return document


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
    pictures = real(exported, data)
    if pictures.labels is None:
        raise ValueError(f"{data} has no labels, and there is no model here to agree with; give labelled images")
    said = certificate.answers(Predictor(exported, exact=True), pictures.readers)
    right = said.logits.argmax(1) == pictures.labels[said.readable]
    top1, images = float(right.mean()), len(right)
    known = document.get("real") or {}
    if [known.get(name) for name in ("data", "part", "images")] != [pictures.name, pictures.part, images]:
        log.info(
            "%s (%s, %d images) isn't what was certified: there is no figure to compare with", data, pictures.part, images
        )
    elif known["accuracy"]["of"] == "labels" and abs(top1 - known["accuracy"]["export"]) > SAME:
        was = known["accuracy"]["export"]
        raise WorkFailed(f"top-1 on {known['data']} ({known['part']}) is {top1:.2%}, and was {was:.2%}")
    interval = list(metrics.interval(top1, images))
    return {"real": {"top1": top1, "images": images, "split": pictures.part, "interval": interval, "data": pictures.name}}
