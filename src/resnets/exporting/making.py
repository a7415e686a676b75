"""From a model to an exported folder: its file, the program that runs it, and the proof; or nothing at all."""

import itertools
import json
import logging
import os
import shutil
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import resnets
from resnets import machine
from resnets.data import preprocessing
from resnets.data.preprocessing import Preprocessing, crop
from resnets.data.synthetic import synthetic
from resnets.errors import WorkFailed
from resnets.exporting import certificate, formats
from resnets.exporting.pictures import Pictures, readable, real
from resnets.files import sha256, write_json
from resnets.model import Model, load
from resnets.prediction.engines import engine
from resnets.prediction.exported import CERTIFICATE, RUNS, Exported, open_model
from resnets.prediction.predictor import Predictor
from resnets.prediction.quantisation import CALIBRATION, quantised, quantised_with_care

log = logging.getLogger("resnets")

FORMAT = 1  # of the certificate
REFERENCE = "reference.npz"
CLIENT = "predict.py"
CHECKED = 1000  # images that accuracy control looks at, again and again
RUNTIMES = {"openvino": "openvino", "onnx": "onnxruntime", "torch": "torch"}


@dataclass(frozen=True)
class Wish:
    """What is to be made of a model."""

    model: Model
    how: Preprocessing
    format: str
    precision: str
    input: str
    max_drop: float
    require_faster: bool


def export(
    model: Model | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    format: str,
    precision: str = "float32",
    input: str = "image",
    data: str | os.PathLike[str] | None = None,
    max_drop: float = 0.5,
    require_faster: bool = False,
) -> Path:
    """Write a model as the folder `out` for another runtime: its file, `predict.py`, `reference.npz`, `certificate.json`.

    `format` is onnx, openvino or torch; `precision` float32, bf16 (not onnx) or int8 (not torch; calibrated on `data`).
    `input` is what the file reads: "image", one uint8 image of any size, the whole preprocessing inside; "crops", uint8
    [batch, size, size, channels]; "tensor", float32 [batch, channels, size, size]. The file is loaded back in its own
    runtime and compared with the model; where it differs (int8: where accuracy drops by more than `max_drop` points),
    WorkFailed is raised and nothing is left behind. Raises ValueError for what isn't offered or a folder that is in use.
    """
    loaded = model if isinstance(model, Model) else load(model)
    if loaded.preprocessing is None:
        raise ValueError("this model doesn't say how its images are prepared, which an export has to carry")
    if not max_drop >= 0:
        raise ValueError(f"max-drop is 0 or more points, not {max_drop}")
    formats.check(format, precision, input)
    if precision == "int8" and data is None:
        raise ValueError("int8 is calibrated on images: give --data DATA, best the data that the model was trained on")
    target = _free(Path(out))
    wish = Wish(loaded, loaded.preprocessing, format, precision, input, max_drop, require_faster)
    pictures = None if data is None else real(loaded, data)
    folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part"))
    try:
        document = _made(wish, pictures, folder)
        write_json(folder / CERTIFICATE, document)
        folder.chmod(0o755)
        if target.is_dir():
            target.rmdir()
        folder.rename(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return target


def _free(target: Path) -> Path:
    """The folder to make. ValueError where it can't be made, or holds something."""
    if target.is_dir() and any(target.iterdir()):
        raise ValueError(f"the folder {target} isn't empty; give --out another name")
    if target.exists() and not target.is_dir():
        raise ValueError(f"{target} is a file; --out is a folder")
    if not target.absolute().parent.is_dir():
        raise ValueError(f"there is no folder {target.parent} to make {target.name} in")
    return target


def _made(wish: Wish, pictures: Pictures | None, folder: Path) -> dict[str, Any]:
    """Write everything but the certificate into a folder, prove it, and give the certificate."""
    if wish.precision != "int8":
        return _proved(wish, pictures, folder, None)
    assert pictures is not None
    images = itertools.islice(readable(pictures.calibration, wish.how.channels == 1), CALIBRATION)
    tensors = [formats.tensor_of(image, wish.how) for image in images]
    if not tensors:
        raise WorkFailed("none of the images for the calibration of int8 could be read")
    identity = json.dumps([wish.model.sha256, wish.model.architecture.to_json()])
    net = quantised(formats.network(wish.model, wish.how, wish.format), wish.format, tensors, identity)
    faster = _checked_speed(wish, net)
    document = _proved(wish, pictures, folder, net, judge=False)
    if certificate.too_much(document["real"]["accuracy"], wish.max_drop):
        log.warning("int8 as it is: %s", certificate.drop_in_words(document["real"]["accuracy"]))
        plain = formats.network(wish.model, wish.how, wish.format)
        pairs = _pairs(wish, pictures)
        net = quantised_with_care(plain, wish.format, tensors, identity, pairs, wish.max_drop / 100)
        for path in folder.iterdir():
            path.unlink()
        faster = _checked_speed(wish, net)
        document = _proved(wish, pictures, folder, net)
    return {**document, "int8_speed_up": round(faster, 2)}


def _proved(wish: Wish, pictures: Pictures | None, folder: Path, net: Any, judge: bool = True) -> dict[str, Any]:
    """Write the files of a network (None: the model's own, in float32 or bf16), and compare it. WorkFailed if it differs."""
    if wish.format == "torch":
        path = formats.write_torch(wish.model, wish.how, wish.precision, wish.input, folder)
    else:
        own = formats.network(wish.model, wish.how, wish.format) if net is None else net
        whole = formats.complete(own, wish.how, wish.format, wish.input)
        path = formats.write(whole, wish.model, wish.format, wish.precision, folder)
    (folder / CLIENT).write_bytes(Path(__file__).with_name("client.py").read_bytes())
    if wish.input != "image":
        (folder / "preprocessing.py").write_bytes(Path(preprocessing.__file__).read_bytes())
    _write_reference(wish, folder / REFERENCE)
    document = _description(wish, path.name, folder)
    write_json(folder / CERTIFICATE, document)
    exported = open_model(folder)
    assert isinstance(exported, Exported)
    document["arithmetic"] = Predictor(exported).precision  # bf16 is computed in float32 where the processor has none
    document["synthetic"] = certificate.on_synthetic(wish.model, exported, wish.how)
    if pictures is not None:
        document["real"] = certificate.on_real(wish.model, exported, pictures)
    if judge:
        certificate.hold(document, wish.precision, wish.max_drop)
    document["speed"] = certificate.speed(exported)
    return document


def _description(wish: Wish, file: str, folder: Path) -> dict[str, Any]:
    """What is known of an export before it is compared."""
    known = wish.model.document()
    files = sorted(path for path in folder.iterdir() if path.name != CERTIFICATE)
    said = ("architecture", "classes", "preprocessing", "recipe", "data", "accuracy", "sha256")
    largest = {where: tolerance.get(wish.precision) for where, tolerance in certificate.TOLERANCE.items()}
    tolerance = {"max_drop": wish.max_drop} if wish.precision == "int8" else {"probability": largest}
    packages = ("resnets", "numpy", "pillow", RUNTIMES[wish.format])
    return {
        "certificate": FORMAT,
        "format": wish.format,
        "precision": wish.precision,
        "input": wish.input,
        "file": file,
        "files": {path.name: {"sha256": sha256(path), "bytes": path.stat().st_size} for path in files},
        "tolerance": tolerance,
        "model": {name: known[name] for name in said},
        "machine": machine.processor()[0],
        "versions": {name: resnets.__version__ if name == "resnets" else version(name) for name in packages},
    }


def _write_reference(wish: Wish, path: Path) -> None:
    """Synthetic images and the model's logits of them, to check the file by later and elsewhere."""
    images = synthetic(wish.how)
    logits = certificate.answers(certificate.reference(wish.model), images).logits
    arrays = {f"image_{number:02}": image for number, image in enumerate(images)}
    np.savez_compressed(path, logits=logits, **arrays)  # pyright: ignore[reportArgumentType]


def _checked_speed(wish: Wish, net: Any) -> float:
    """How many times as fast as float32 the int8 network is here; a warning, or a refusal, where it isn't worth it."""
    crops = np.stack([crop(image, wish.how) for image in synthetic(wish.how)[:8]])
    plain = engine(wish.model, wish.how, RUNS[wish.format], "float32", machine.cores())
    ratio = certificate.speed_up(plain, formats.running(net, wish.how, wish.format, machine.cores()), crops)
    if ratio < certificate.FASTER:
        said = f"int8 is {ratio:.2f} times as fast as float32 on this machine"
        if wish.require_faster:
            raise WorkFailed(f"{said}, and --require-faster wants {certificate.FASTER}")
        log.warning(said)
    return ratio


def _pairs(wish: Wish, pictures: Pictures) -> list[tuple[np.ndarray, int]]:
    """Inputs and their classes for accuracy control; without labels, the model's own answers."""
    grey = wish.how.channels == 1
    step = -(-len(pictures.readers) // CHECKED)
    readers, labels = pictures.readers[::step], None if pictures.labels is None else pictures.labels[::step]
    said = certificate.answers(certificate.reference(wish.model), readers)
    right = said.logits.argmax(1) if labels is None else labels[said.readable]
    images = readable(readers, grey)
    return [(formats.tensor_of(image, wish.how), int(label)) for image, label in zip(images, right, strict=True)]
