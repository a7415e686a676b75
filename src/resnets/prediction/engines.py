"""Which engine runs a model, by rule, and with what precision; and how an engine is made."""

import functools
import importlib.util
import logging
from typing import Literal, Protocol

import numpy as np

from resnets import machine
from resnets.data.preprocessing import Preprocessing
from resnets.errors import need
from resnets.model import Model

log = logging.getLogger("resnets")

ENGINES = ("openvino", "onnxruntime", "torch")
PRECISIONS = ("float32", "bf16")
Reads = Literal["image", "images", "tensor"]  # uint8 [height, width, channels]; crops of it; normalised float32


class Engine(Protocol):
    """A model made ready to run. Calls may come from many threads; `lanes` of them run at the same time."""

    name: str
    precision: str
    lanes: int

    def __call__(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What it reads, by `Reads` → float32 logits [batch, classes] and features [batch, features]."""
        ...


def settle(name: str = "auto", precision: str = "auto") -> tuple[str, str]:
    """The engine and the precision by rule, both said once. "auto" is OpenVINO on processors, PyTorch where it is installed
    and sees a CUDA device; precision "auto" is bf16 where the processor multiplies it faster, else float32; never int8.

    Raises ValueError for another name or a pair that isn't offered, and MissingExtra where the engine isn't installed.
    """
    if name not in ("auto", *ENGINES):
        raise ValueError(f"an engine is auto, {' or '.join(ENGINES)}, not {name!r}")
    if precision == "int8":
        raise ValueError(
            "int8 runs from an export that carries it: "
            "resnets export MODEL --format openvino --precision int8 --data DATA --out DIR, then predict DIR"
        )
    if precision not in ("auto", *PRECISIONS):
        raise ValueError(f"a precision is auto, {' or '.join(PRECISIONS)}, not {precision!r}")
    if name == "torch" or (name == "auto" and _sees_cuda()):
        need("torch", "train", "the torch engine")
        return "torch", "bf16" if precision == "auto" and _sees_cuda() else machine.precision(precision)
    if name == "onnxruntime":
        need("onnx", "export", "the onnxruntime engine")
        need("onnxruntime", "export", "the onnxruntime engine")
        if precision == "bf16":
            raise ValueError("ONNX Runtime has no bf16 on processors; its precision is float32, or int8 of an export")
        return "onnxruntime", "float32"
    return "openvino", openvino_precision(machine.precision(precision))


def openvino_precision(wanted: str) -> str:
    """What OpenVINO makes of bf16: on a processor without it, it would run float32 and not say so."""
    if wanted != "bf16":
        return wanted
    from resnets.prediction.openvino.engine import capabilities

    if "BF16" in capabilities():
        return wanted
    _say_no_bf16()
    return "float32"


@functools.cache
def _say_no_bf16() -> None:
    log.warning("this processor has no bf16 arithmetic: OpenVINO runs float32")


def engine(model: Model, how: Preprocessing, name: str, precision: str, lanes: int = 1) -> Engine:
    """A model compiled for what `settle` gave: uint8 crops [batch, size, size, channels] in, logits and features out."""
    if name == "torch":
        from resnets.prediction.torch.engine import TorchEngine

        return TorchEngine(model, how, precision)
    if name == "onnxruntime":
        from resnets.prediction.onnx.engine import ONNXRuntimeEngine
        from resnets.prediction.onnx.graph import graph as onnx_graph
        from resnets.prediction.onnx.inputs import of_images as onnx_of_images

        onnx_network = onnx_of_images(onnx_graph(model.architecture, model.state), how)
        return ONNXRuntimeEngine(onnx_network.SerializeToString(), precision, lanes)
    from resnets.prediction.openvino.engine import OpenVINOEngine
    from resnets.prediction.openvino.graph import graph
    from resnets.prediction.openvino.inputs import of_images

    return OpenVINOEngine(of_images(graph(model.architecture, model.state), how), precision, lanes)


def _sees_cuda() -> bool:
    """Whether there is an NVIDIA device and a PyTorch to use it; PyTorch is imported only if there is a driver."""
    if not machine.has_cuda_driver() or importlib.util.find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()
