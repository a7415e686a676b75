"""The walk as an OpenVINO graph: from the weights in the model file to a network, without PyTorch."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset15 as ops

from resnets.architecture import Architecture
from resnets.graph import edges, pad_channels, walk
from resnets.prediction.folding import Convolution, Folding, Node


class OpenVINOGraph(Folding):
    """The interpreter that builds; a node is one of OpenVINO's outputs, [batch, channels, height, width]."""

    def convolution(self, x: Convolution) -> Node:
        before, after = edges("symmetric", 1, x.weight.shape[-1], x.stride)  # what "same_upper" overrides
        where = ([x.stride] * 2, [before] * 2, [after] * 2, [1, 1], self._auto_pad)
        if x.groups == 1:
            y = ops.convolution(x.source, constant(x.weight), *where).output(0)
        else:
            grouped = x.weight.reshape(x.groups, -1, *x.weight.shape[1:])
            y = ops.group_convolution(x.source, constant(grouped), *where).output(0)
        return y if x.bias is None else ops.add(y, channelwise(x.bias)).output(0)

    def scale_and_shift(self, x: Node, scale: np.ndarray, shift: np.ndarray) -> Node:
        return ops.add(ops.multiply(x, channelwise(scale)), channelwise(shift)).output(0)

    def relu(self, x: Node) -> Node:
        return ops.relu(self.built(x)).output(0)

    def add(self, x: Node, y: Node) -> Node:
        return ops.add(self.built(x), self.built(y)).output(0)

    def pad_shortcut(self, x: Node, width: int, stride: int) -> Node:
        x = self.built(x)
        before, after = pad_channels(x.get_partial_shape()[1].get_length(), width)
        if stride > 1:  # every stride-th pixel: a pooling with a 1×1 window
            x = ops.max_pool(x, [stride] * 2, [1, 1], [0, 0], [0, 0], [1, 1], "floor", "explicit").output(0)
        return ops.pad(x, [0, before, 0, 0], [0, after, 0, 0], "constant", np.float32(0)).output(0)

    def max_pool(self, x: Node) -> Node:
        return ops.max_pool(self.built(x), [2, 2], [1, 1], [1, 1], [1, 1], [3, 3], "floor", self._auto_pad).output(0)

    def avg_pool(self, x: Node) -> Node:
        return ops.avg_pool(x, [2, 2], [0, 0], [0, 0], [2, 2], True, "ceil", "explicit").output(0)

    def global_pool(self, x: Node) -> Node:
        self.features = ops.reduce_mean(self.built(x), np.array([2, 3]), False).output(0)
        return self.features

    def linear(self, x: Node, name: str, width: int) -> Node:
        weight, bias = constant(self.state[f"{name}.weight"]), ops.constant(self.state[f"{name}.bias"][None])
        return ops.add(ops.matmul(x, weight, False, True), bias).output(0)

    @property
    def _auto_pad(self) -> str:
        return "same_upper" if self.net.padding == "same" else "explicit"


def constant(array: np.ndarray) -> Node:
    """An array as a node that shares its memory."""
    return ops.constant(array, shared_memory=True)


def channelwise(values: np.ndarray) -> Node:
    """One number a channel, for [batch, channels, height, width]."""
    return ops.constant(values.astype(np.float32).reshape(1, -1, 1, 1))


def graph(net: Architecture, state: Mapping[str, np.ndarray], height: int = -1, width: int = -1) -> ov.Model:
    """The network as an OpenVINO model: `tensor` float32 [batch, channels, height, width] → `logits`, `features`."""
    entry = ops.parameter([-1, net.channels, height, width], np.float32, "tensor")
    interpreter = OpenVINOGraph(net, state)
    logits: Node = walk(net, interpreter, entry.output(0))
    return named_model(entry, {"logits": logits, "features": interpreter.features}, "tensor")


def named_model(entry: Any, outputs: Mapping[str, Node], entry_name: str) -> ov.Model:
    """A model with names on what enters and leaves."""
    entry.output(0).set_names({entry_name})
    for name, output in outputs.items():
        output.set_names({name})
    return ov.Model(list(outputs.values()), [entry], "resnet")  # pyright: ignore[reportGeneralTypeIssues]
