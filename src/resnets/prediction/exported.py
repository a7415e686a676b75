"""An exported folder as a model: what is known of it, and the engine that runs its file."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resnets.data.preprocessing import Preprocessing
from resnets.errors import need
from resnets.model import Model, load
from resnets.prediction import engines
from resnets.prediction.engines import Engine, Reads

CERTIFICATE = "certificate.json"
RUNS = {"openvino": "openvino", "onnx": "onnxruntime", "torch": "torch"}  # format → engine
READS: dict[str, Reads] = {"image": "image", "crops": "images", "tensor": "tensor"}  # --input → what the graph reads


@dataclass(frozen=True)
class Exported:
    """A network in a runtime's own file, with what `Model` says of it beside the weights."""

    file: Path
    format: str  # onnx, openvino or torch
    precision: str  # float32, bf16 or int8
    input: str  # image, crops or tensor
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    sha256: str  # of the file
    data: dict[str, Any] = field(default_factory=dict)
    accuracy: dict[str, Any] = field(default_factory=dict)


def open_model(path: str | os.PathLike[str]) -> Model | Exported:
    """The model that a path means: a model file, a run folder, or an exported folder. ValueError where it is none."""
    certificate = Path(path) / CERTIFICATE
    if not certificate.is_file():
        return load(path)
    try:
        found = _exported(Path(path), json.loads(certificate.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{certificate} is no certificate of an export: {reason}") from None
    if not found.file.is_file():
        raise ValueError(f"{path} lacks {found.file.name}, which its certificate names")
    return found


def _exported(folder: Path, certificate: Mapping[str, Any]) -> Exported:
    model = certificate["model"]
    return Exported(
        file=folder / certificate["file"],
        format=certificate["format"],
        precision=certificate["precision"],
        input=certificate["input"],
        classes=tuple(model["classes"]),
        preprocessing=Preprocessing.from_json(model["preprocessing"]),
        sha256=certificate["files"][certificate["file"]]["sha256"],
        data=model["data"],
        accuracy=model["accuracy"],
    )


def settled(model: Model | Exported, engine: str, precision: str) -> tuple[str, str, Reads]:
    """Engine, precision and what is read, by rule; of an export they are its own. ValueError where others were asked for."""
    if isinstance(model, Model):
        return *engines.settle(engine, precision), "images"
    own = RUNS[model.format]
    if engine not in ("auto", own):
        raise ValueError(f"this is an export for {own}, which {engine} doesn't run")
    if precision not in ("auto", model.precision):
        raise ValueError(f"this export carries {model.precision}, not {precision}; export the model again")
    extra = {"openvino": None, "onnxruntime": "export", "torch": "train"}[own]
    if extra is not None:
        need(own, extra, f"an export for {own}")
    runs = engines.openvino_precision(model.precision) if own == "openvino" else model.precision
    return own, runs, READS[model.input]


def compiled(model: Model | Exported, how: Preprocessing, engine: str, precision: str, lanes: int) -> Engine:
    """The engine that runs a model, for that many calls at a time."""
    if isinstance(model, Model):
        return engines.engine(model, how, engine, precision, lanes)
    if model.format == "openvino":
        from resnets.prediction.openvino.engine import OpenVINOEngine, read_graph

        return OpenVINOEngine(read_graph(model.file), precision, lanes)
    if model.format == "onnx":
        from resnets.prediction.onnx.engine import ONNXRuntimeEngine

        return ONNXRuntimeEngine(model.file.read_bytes(), precision, lanes)
    from resnets.prediction.torch.engine import ExportedTorchEngine

    return ExportedTorchEngine(model.file, precision)
