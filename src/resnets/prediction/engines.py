"""Which engine runs a model, by rule, and with what precision."""

import importlib.util
from typing import Protocol

import numpy as np

from resnets import machine
from resnets.data.preprocessing import Preprocessing
from resnets.errors import need
from resnets.model import Model

ENGINES = ("openvino", "torch")
PRECISIONS = ("float32", "bf16")


class Engine(Protocol):
    """A model made ready to run."""

    name: str
    precision: str

    def __call__(self, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [batch, size, size, channels] → float32 logits [batch, classes] and features [batch, features]."""
        ...


def engine(model: Model, how: Preprocessing, name: str = "auto", precision: str = "auto") -> Engine:
    """Compile a model. "auto" is OpenVINO on processors, PyTorch where it is installed and sees a CUDA device; precision
    "auto" is bf16 where the processor multiplies it natively, else float32; never int8.

    Raises ValueError for another name, and MissingExtra where the engine's library isn't installed.
    """
    if name not in ("auto", *ENGINES):
        raise ValueError(f"an engine is auto, {' or '.join(ENGINES)}, not {name!r}")
    if precision == "int8":
        raise ValueError(
            "int8 runs from an export that carries it: resnets export MODEL --format openvino --precision int8 …"
        )
    if precision not in ("auto", *PRECISIONS):
        raise ValueError(f"a precision is auto, {' or '.join(PRECISIONS)}, not {precision!r}")
    if name == "torch" or (name == "auto" and _sees_cuda()):
        need("torch", "train", "the torch engine")
        from resnets.prediction.torch import TorchEngine

        return TorchEngine(model, how, "bf16" if precision == "auto" and _sees_cuda() else machine.precision(precision))
    from resnets.prediction.openvino import OpenVINOEngine

    return OpenVINOEngine(model, how, machine.precision(precision))


def _sees_cuda() -> bool:
    """Whether there is an NVIDIA device and a PyTorch to use it; PyTorch is imported only if there is a driver."""
    if not machine.has_cuda_driver() or importlib.util.find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()
