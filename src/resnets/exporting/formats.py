"""A model as a runtime's own file: the network by the walk, preprocessing ahead of it, names and provenance inside."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from resnets.data.preprocessing import Preprocessing, crop, normalise
from resnets.errors import need
from resnets.model import Model
from resnets.prediction.engines import Engine
from resnets.prediction.exported import READS

PRECISIONS = {"onnx": ("float32", "int8"), "openvino": ("float32", "bf16", "int8"), "torch": ("float32", "bf16")}
FILES = {"onnx": "model.onnx", "openvino": "model.xml", "torch": "model.pt2"}
LARGE = 1024  # numbers: a constant of more is a weight, which bf16 stores in half the bytes


def check(format: str, precision: str, input: str) -> None:
    """Raise ValueError for a pair that isn't offered, with what there is, and MissingExtra where its library isn't there."""
    if format not in PRECISIONS:
        raise ValueError(f"a format is {', '.join(PRECISIONS)}, not {format!r}")
    if precision not in PRECISIONS[format]:
        raise ValueError(f"{format} is exported in {' or '.join(PRECISIONS[format])}, not {precision}")
    if input not in READS:
        raise ValueError(f"an export reads {', '.join(READS)}, not {input!r}")
    if format == "onnx":
        need("onnx", "export", "an export to ONNX")
        need("onnxruntime", "export", "an export to ONNX")
    if format == "torch":
        need("torch", "train", "an export to torch")
    if precision == "int8":
        need("nncf", "export", "int8")


def network(model: Model, how: Preprocessing, format: str) -> Any:
    """The network alone, in float32: `tensor` → `logits`, `features`, of the preprocessing's size."""
    if format == "onnx":
        from resnets.prediction.onnx.graph import graph as onnx_graph

        return onnx_graph(model.architecture, model.state)
    from resnets.prediction.openvino.graph import graph

    return graph(model.architecture, model.state, how.size, how.size)


def tensor_of(image: np.ndarray, how: Preprocessing) -> np.ndarray:
    """An image as the network reads it: float32 [1, channels, size, size]."""
    return normalise(crop(image, how)[None], how)


def complete(net: Any, how: Preprocessing, format: str, input: str) -> Any:
    """A copy of a network with what goes before it (by `input`) and probabilities after it."""
    stages: Any
    if format == "onnx":
        from resnets.prediction.onnx import inputs as stages

        copy = type(net)()
        copy.CopyFrom(net)
    else:
        from resnets.prediction.openvino import inputs as stages

        copy = net.clone()
    if input != "tensor":
        copy = {"image": stages.of_image, "crops": stages.of_images}[input](copy, how)
    return stages.with_probabilities(copy)


def running(net: Any, how: Preprocessing, format: str, lanes: int) -> Engine:
    """An int8 network as an engine that reads ready crops."""
    whole = complete(net, how, format, "crops")
    if format == "onnx":
        from resnets.prediction.onnx.engine import ONNXRuntimeEngine

        return ONNXRuntimeEngine(whole.SerializeToString(), "int8", lanes)
    from resnets.prediction.openvino.engine import OpenVINOEngine

    return OpenVINOEngine(whole, "int8", lanes)


def write_torch(model: Model, how: Preprocessing, precision: str, input: str, folder: Path) -> Path:
    """The `.pt2` file of `torch.export`."""
    import torch

    from resnets.prediction.torch.engine import folded
    from resnets.prediction.torch.inputs import program

    path = folder / FILES["torch"]
    made = program(folded(model.network()), how, READS[input], precision)
    torch.export.save(made, path, extra_files={name: _json(value) for name, value in _metadata(model).items()})
    return path


def write(net: Any, model: Model, format: str, precision: str, folder: Path) -> Path:
    """A complete network's file (of OpenVINO two, the weights beside), class names and provenance in its metadata."""
    path = folder / FILES[format]
    if format == "onnx":
        import onnx

        onnx.helper.set_model_props(net, {name: _json(value) for name, value in _metadata(model).items()})
        onnx.checker.check_model(net, full_check=True)
        onnx.save(net, path)
        return path
    import openvino as ov

    if precision == "bf16":
        _store_as_bf16(net)
    for name, value in _metadata(model).items():
        net.set_rt_info(_json(value), name)
    ov.save_model(net, path, compress_to_fp16=False)
    return path


def _metadata(model: Model) -> dict[str, Any]:
    """What the file says of itself: class names, in the order of the outputs, and where the weights are from."""
    document = model.document()
    return {"classes": document.pop("classes"), "resnets": document}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _store_as_bf16(net: Any) -> None:
    """Keep weights as bfloat16 and widen them when they are read; biases and the preprocessing's numbers stay float32."""
    import openvino as ov
    from openvino import opset15 as ops

    for node in net.get_ordered_ops():
        if node.get_type_name() == "Constant" and node.get_element_type() == ov.Type.f32:
            values = np.array(node.data)
            if values.size > LARGE:
                readers = node.output(0).get_target_inputs()
                wide = ops.convert(ops.constant(values, dtype=ov.Type.bf16), "f32").output(0)
                for reader in readers:
                    reader.replace_source_output(wide)
