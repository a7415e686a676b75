"""The walk as an ONNX graph: from the weights in the model file to a network, without PyTorch or an exporter."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from resnets.architecture import Architecture
from resnets.graph import edges, pad_channels, walk
from resnets.prediction.folding import NORM_PARTS, Convolution, Folding, Node

OPSET = 20
IR_VERSION = 10  # the format's own number: what ONNX Runtime 1.18 and later read


class Nodes:
    """Nodes and constants of a graph, as they come."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def add(self, kind: str, inputs: Sequence[str], name: str, output: str = "", **attributes: Any) -> str:
        """A node and the value it gives, which is called as the node if not otherwise; returns the value."""
        self.nodes.append(helper.make_node(kind, inputs, [output or name], name, **attributes))
        return output or name

    def constant(self, name: str, array: np.ndarray) -> str:
        """An array under a name; one that the graph has already is left."""
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(array, name)
        return name


class Map(NamedTuple):
    """One value of the graph: [batch, channels, height, width]."""

    value: str
    channels: int


class ONNXGraph(Folding):
    """The interpreter that builds; a node is a `Map`. Nodes and weights are called as the network's layers."""

    def __init__(self, net: Architecture, state: Mapping[str, np.ndarray]) -> None:
        super().__init__(net, state)
        self.graph = Nodes()

    def conv(self, x: Node, name: str, width: int, kernel: int, stride: int = 1, groups: int = 1) -> Node:
        waiting = super().conv(x, name, width, kernel, stride, groups)
        return waiting._replace(source=(name, waiting.source))

    def norm(self, x: Node, name: str) -> Node:
        if isinstance(x, Convolution):
            return super().norm(x, name)
        parts = [self._weight(f"{name}.{part}") for part in NORM_PARTS]
        return self._after(x, "BatchNormalization", name, *parts, epsilon=self.net.norm_epsilon)

    def convolution(self, x: Convolution) -> Map:
        name, source = x.source
        inputs = [source.value, self.graph.constant(f"{name}.weight", x.weight)]
        if x.bias is not None:
            inputs.append(self.graph.constant(f"{name}.bias", x.bias))
        kernel = x.weight.shape[-1]
        value = self.graph.add(
            "Conv", inputs, name, kernel_shape=[kernel] * 2, strides=[x.stride] * 2, group=x.groups,
            **self._padding(kernel, x.stride),
        )  # fmt: skip
        return Map(value, x.weight.shape[0])

    def relu(self, x: Node) -> Map:
        x = self.built(x)
        return self._after(x, "Relu", f"{x.value}.relu")

    def add(self, x: Node, y: Node) -> Map:
        x, y = self.built(x), self.built(y)
        return self._after(x, "Add", f"{x.value.rpartition('.')[0]}.add", y.value)

    def pad_shortcut(self, x: Node, width: int, stride: int) -> Map:
        x = self.built(x)
        name = f"{x.value}.shortcut"
        before, after = pad_channels(x.channels, width)
        if stride > 1:  # every stride-th pixel: a pooling with a 1×1 window
            x = self._after(x, "MaxPool", f"{name}.stride", kernel_shape=[1, 1], strides=[stride] * 2)
        pads = self.graph.constant(f"{name}.pads", np.array([0, before, 0, 0, 0, after, 0, 0]))
        return self._after(x, "Pad", name, pads)._replace(channels=width)

    def max_pool(self, x: Node) -> Map:
        return self._after(self.built(x), "MaxPool", "maxpool", kernel_shape=[3, 3], strides=[2, 2], **self._padding(3, 2))

    def avg_pool(self, x: Node) -> Map:
        x = self.built(x)
        return self._after(
            x, "AveragePool", f"{x.value}.avgpool", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1, count_include_pad=0
        )

    def global_pool(self, x: Node) -> Map:
        x = self.built(x)
        axes = self.graph.constant("avgpool.axes", np.array([2, 3]))
        self.features = self.graph.add("ReduceMean", [x.value, axes], "avgpool", "features", keepdims=0)
        return Map(self.features, x.channels)

    def linear(self, x: Node, name: str, width: int) -> Map:
        inputs = [x.value, self._weight(f"{name}.weight"), self._weight(f"{name}.bias")]
        return Map(self.graph.add("Gemm", inputs, name, "logits", transB=1), width)

    def _after(self, x: Map, kind: str, name: str, *others: str, **attributes: Any) -> Map:
        """What a node makes of a map, which has as many channels."""
        return x._replace(value=self.graph.add(kind, [x.value, *others], name, **attributes))

    def _weight(self, name: str) -> str:
        return self.graph.constant(name, self.state[name])

    def _padding(self, kernel: int, stride: int) -> dict[str, Any]:
        if self.net.padding == "same":
            return {"auto_pad": "SAME_UPPER"}
        before, after = edges("symmetric", 1, kernel, stride)
        return {"pads": [before] * 2 + [after] * 2}


def graph(net: Architecture, state: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """The network as an ONNX model: `tensor` float32 [batch, channels, height, width] → `logits`, `features`."""
    interpreter = ONNXGraph(net, state)
    logits: Node = walk(net, interpreter, Map("tensor", net.channels))
    entry = helper.make_tensor_value_info("tensor", TensorProto.FLOAT, ["batch", net.channels, "height", "width"])
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", length])
        for name, length in ((logits.value, net.classes), (interpreter.features, net.features))
    ]
    made = interpreter.graph
    body = helper.make_graph(made.nodes, "resnet", [entry], outputs, list(made.constants.values()))
    opset = helper.make_opsetid("", OPSET)
    return helper.make_model(body, producer_name="resnets", ir_version=IR_VERSION, opset_imports=[opset])
