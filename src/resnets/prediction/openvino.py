"""The walk as an OpenVINO graph: from the weights in the model file to a compiled network, without PyTorch.

Norms are folded into the convolution before them; the last step of preprocessing (scale, mean, deviation) is part of the
graph, so that what enters is the uint8 crop.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import openvino as ov
from openvino import opset15 as ops

from resnets import machine
from resnets.architecture import Architecture
from resnets.data.preprocessing import Preprocessing
from resnets.graph import edges, pad_channels, walk
from resnets.model import Model

Node = Any  # an output of one of OpenVINO's nodes, whose types are made at run time
NORM_PARTS = ("weight", "bias", "running_mean", "running_var")


class Convolution(NamedTuple):
    """A convolution that isn't built yet: if a norm reads it, the norm folds into it."""

    source: Node
    weight: np.ndarray
    stride: int
    groups: int


class OpenVINOGraph:
    """The interpreter that builds. A map is an output of [batch, channels, height, width], or a `Convolution` to be."""

    def __init__(self, net: Architecture, state: Mapping[str, np.ndarray]) -> None:
        self.net = net
        self.state = state
        self.features: Node = None  # the pooled vector, once the walk has passed it

    def conv(self, x: Node, name: str, width: int, kernel: int, stride: int = 1, groups: int = 1) -> Convolution:
        return Convolution(self._built(x), self.state[f"{name}.weight"], stride, groups)

    def norm(self, x: Node, name: str) -> Node:
        part = {key: self.state[f"{name}.{key}"].astype(np.float64) for key in NORM_PARTS}
        scale = part["weight"] / np.sqrt(part["running_var"] + self.net.norm_epsilon)
        shift = _channelwise(part["bias"] - part["running_mean"] * scale)
        if isinstance(x, Convolution):
            folded = x.weight * scale.astype(np.float32)[:, None, None, None]
            return ops.add(self._built(x._replace(weight=folded)), shift).output(0)
        return ops.add(ops.multiply(x, _channelwise(scale)), shift).output(0)

    def relu(self, x: Node) -> Node:
        return ops.relu(self._built(x)).output(0)

    def add(self, x: Node, y: Node) -> Node:
        return ops.add(self._built(x), self._built(y)).output(0)

    def pad_shortcut(self, x: Node, width: int, stride: int) -> Node:
        x = self._built(x)
        before, after = pad_channels(x.get_partial_shape()[1].get_length(), width)
        if stride > 1:  # every stride-th pixel: a pooling with a 1×1 window
            x = ops.max_pool(x, [stride] * 2, [1, 1], [0, 0], [0, 0], [1, 1], "floor", "explicit").output(0)
        return ops.pad(x, [0, before, 0, 0], [0, after, 0, 0], "constant", np.float32(0)).output(0)

    def max_pool(self, x: Node) -> Node:
        return ops.max_pool(self._built(x), [2, 2], [1, 1], [1, 1], [1, 1], [3, 3], "floor", self._auto_pad).output(0)

    def avg_pool(self, x: Node) -> Node:
        return ops.avg_pool(x, [2, 2], [0, 0], [0, 0], [2, 2], True, "ceil", "explicit").output(0)

    def global_pool(self, x: Node) -> Node:
        self.features = ops.reduce_mean(self._built(x), np.array([2, 3]), False).output(0)
        return self.features

    def linear(self, x: Node, name: str, width: int) -> Node:
        weight, bias = _constant(self.state[f"{name}.weight"]), ops.constant(self.state[f"{name}.bias"][None])
        return ops.add(ops.matmul(x, weight, False, True), bias).output(0)

    @property
    def _auto_pad(self) -> str:
        return "same_upper" if self.net.padding == "same" else "explicit"

    def _built(self, x: Node | Convolution) -> Node:
        if not isinstance(x, Convolution):
            return x
        before, after = edges("symmetric", 1, x.weight.shape[-1], x.stride)  # what "same_upper" overrides
        place = ([x.stride] * 2, [before] * 2, [after] * 2, [1, 1], self._auto_pad)
        if x.groups == 1:
            return ops.convolution(x.source, _constant(x.weight), *place).output(0)
        grouped = x.weight.reshape(x.groups, -1, *x.weight.shape[1:])
        return ops.group_convolution(x.source, _constant(grouped), *place).output(0)


def _constant(array: np.ndarray) -> Node:
    return ops.constant(array, shared_memory=True)


def _channelwise(values: np.ndarray) -> Node:
    return ops.constant(values.astype(np.float32).reshape(1, -1, 1, 1))


def graph(net: Architecture, state: Mapping[str, np.ndarray], height: int = -1, width: int = -1) -> ov.Model:
    """The network as an OpenVINO model: `tensor` float32 [batch, channels, height, width] → `logits`, `features`."""
    entry = ops.parameter([-1, net.channels, height, width], np.float32, "tensor")
    return _model(entry, entry.output(0), "tensor", net, state)


def graph_of_crops(model: Model, how: Preprocessing) -> ov.Model:
    """Normalisation and network: `crops` uint8 [batch, size, size, channels] → `logits`, `features`."""
    entry = ops.parameter([-1, how.size, how.size, how.channels], np.uint8, "crops")
    x = ops.transpose(ops.convert(entry, "f32"), np.array([0, 3, 1, 2]))
    if how.colour == "BGR":
        x = ops.gather(x, np.array([2, 1, 0]), np.array(1))
    mean, deviation = np.array(how.mean), np.array(how.deviation)
    x = ops.add(ops.multiply(x, _channelwise(how.scale / deviation)), _channelwise(-mean / deviation))
    return _model(entry, x.output(0), "crops", model.architecture, model.state)


def _model(entry: Any, x: Node, name: str, net: Architecture, state: Mapping[str, np.ndarray]) -> ov.Model:
    interpreter = OpenVINOGraph(net, state)
    logits: Node = walk(net, interpreter, x)
    entry.output(0).set_names({name})
    logits.set_names({"logits"})
    interpreter.features.set_names({"features"})
    return ov.Model([logits, interpreter.features], [entry], "resnet")  # pyright: ignore[reportGeneralTypeIssues]


class OpenVINOEngine:
    """A model, compiled for this processor: uint8 crops in, logits and features out."""

    name = "openvino"

    def __init__(self, model: Model, how: Preprocessing, precision: str) -> None:
        """`precision` is float32 or bf16: always said to OpenVINO, whose own default is bf16 where that is fast."""
        kind = {"float32": "f32", "bf16": "bf16"}[precision]
        settings = {
            "INFERENCE_PRECISION_HINT": kind,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": machine.cores(),
        }
        self.precision = precision
        self.compiled = ov.Core().compile_model(graph_of_crops(model, how), "CPU", settings)
        self.request = self.compiled.create_infer_request()

    def __call__(self, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [batch, size, size, channels] → float32 logits [batch, classes] and features [batch, features]."""
        answer = self.request.infer([crops], share_inputs=True)
        return np.array(answer["logits"]), np.array(answer["features"])
