"""Preprocessing as ONNX nodes ahead of a network: of ready crops, or of an image of any size.

The network given is changed. What is put before it is called "input.…".
"""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from resnets.data.preprocessing import Preprocessing
from resnets.prediction.geometry import place
from resnets.prediction.onnx.graph import Nodes

MODES: dict[str, dict[str, Any]] = {
    "nearest": {"mode": "nearest", "nearest_mode": "round_prefer_ceil"},
    "bilinear": {"mode": "linear"},
    "bicubic": {"mode": "cubic", "cubic_coeff_a": -0.5},
}


def of_images(network: onnx.ModelProto, how: Preprocessing) -> onnx.ModelProto:
    """A network of `tensor`s, made one of `images`: uint8 [batch, size, size, channels], ready crops."""
    steps = Nodes()
    planes = steps.add("Transpose", ["images"], "input.planes", perm=[0, 3, 1, 2])
    _normalise(steps, _float(steps, planes), how)
    return _joined(network, "images", ["batch", how.size, how.size, how.channels], steps)


def of_image(network: onnx.ModelProto, how: Preprocessing) -> onnx.ModelProto:
    """A network of `tensor`s, made one of an `image`: uint8 [height, width, channels] of any size, one at a time."""
    steps = Nodes()
    batch = steps.add("Unsqueeze", ["image", _whole(steps, 0)], "input.batch")
    planes = steps.add("Transpose", [batch], "input.planes", perm=[0, 3, 1, 2])
    _normalise(steps, _square(steps, planes, how), how)
    return _joined(network, "image", ["height", "width", how.channels], steps)


def with_probabilities(network: onnx.ModelProto) -> onnx.ModelProto:
    """The model with `probabilities`, the softmax of its logits, as the first output."""
    graph = network.graph
    graph.node.append(helper.make_node("Softmax", ["logits"], ["probabilities"], "probabilities", axis=1))
    outputs = {output.name: output for output in graph.output}
    probabilities = onnx.ValueInfoProto()
    probabilities.CopyFrom(outputs["logits"])
    probabilities.name = "probabilities"
    del graph.output[:]
    graph.output.extend([probabilities, outputs["logits"], outputs["features"]])
    return network


def _joined(network: onnx.ModelProto, name: str, shape: list[str | int], steps: Nodes) -> onnx.ModelProto:
    """The network with the steps ahead of it, the last of which gives `tensor`; a uint8 input is their entry."""
    graph = network.graph
    (entry,) = (entry for entry in graph.input if entry.name == "tensor")
    entry.CopyFrom(helper.make_tensor_value_info(name, TensorProto.UINT8, shape))
    nodes = [*steps.nodes, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(steps.constants.values())
    return network


def _float(steps: Nodes, x: str) -> str:
    return steps.add("Cast", [x], f"{x}.float", to=TensorProto.FLOAT)


def _normalise(steps: Nodes, x: str, how: Preprocessing) -> None:
    """Levels, float32 [batch, channels, size, size] → `tensor`."""
    if how.colour == "BGR":
        x = steps.add("Gather", [x, steps.constant("input.order", np.array([2, 1, 0]))], "input.ordered", axis=1)
    mean, deviation = np.array(how.mean), np.array(how.deviation)
    x = steps.add("Mul", [x, _channelwise(steps, "input.scale", how.scale / deviation)], "input.scaled")
    steps.add("Add", [x, _channelwise(steps, "input.shift", -mean / deviation)], "input.normalised", "tensor")


def _square(steps: Nodes, planes: str, how: Preprocessing) -> str:
    """The square of an image's planes that the network sees, as float32 of whole levels."""
    height, width = (
        Number(steps, steps.add("Shape", ["image"], f"input.{side}", start=axis, end=axis + 1))
        for axis, side in enumerate(("height", "width"))
    )
    at = place(height, width, how, lambda a, b: _two(steps, "Min", a, b), lambda a, b: _two(steps, "Max", a, b))
    resized = _resized(steps, planes, (at.height, at.width), how)
    if how.fit == "squash":
        return resized
    axes = steps.constant("input.sides", np.array([2, 3]))
    if how.fit == "crop":
        start = _list(steps, "input.start", at.top, at.left)
        end = _list(steps, "input.end", at.top + how.size, at.left + how.size)
        return steps.add("Slice", [resized, start, end, axes], "input.crop")
    down, across = how.size - at.top - at.height, how.size - at.left - at.width
    rest = _list(steps, "input.rest", at.top, at.left, down, across)
    fill = _channelwise(steps, "input.fill", np.array(how.fill))
    unfilled = steps.add("Sub", [resized, fill], "input.unfilled")
    return steps.add("Add", [steps.add("Pad", [unfilled, rest, "", axes], "input.pad"), fill], "input.filled")


def _resized(steps: Nodes, planes: str, size: "tuple[Number | int, Number | int]", how: Preprocessing) -> str:
    """Interpolated as Pillow does with antialias, to whole levels after each direction; as Keras does without."""
    if how.interpolation not in MODES:
        raise ValueError(f"{how.interpolation} interpolation can't be part of a graph; export with --input crops")
    mode = dict(MODES[how.interpolation])
    shape = _list(steps, "input.shape", 1, how.channels, *size)
    if how.interpolation == "nearest":
        return _float(steps, steps.add("Resize", [planes, "", "", shape], "input.resized", **mode))
    if how.antialias:  # of uint8, ONNX Runtime does it in Pillow's fixed-point arithmetic
        mode |= {"antialias": 1, "exclude_outside": 1}
        return _float(steps, steps.add("Resize", [planes, "", "", shape], "input.resized", **mode))
    resized = steps.add("Resize", [_float(steps, planes), "", "", shape], "input.resized", **mode)
    limits = [steps.constant(f"input.level{level}", np.array(level, np.float32)) for level in (0, 255)]
    return steps.add("Clip", [steps.add("Round", [resized], "input.rounded"), *limits], "input.levels")


class Number:
    """A whole number that the graph knows when it runs: int64 [1], with the operators of `geometry`."""

    def __init__(self, steps: Nodes, value: str) -> None:
        self.steps = steps
        self.value = value

    def __add__(self, other: "Number | int") -> "Number":
        return _two(self.steps, "Add", self, other)

    def __sub__(self, other: "Number | int") -> "Number":
        return _two(self.steps, "Sub", self, other)

    def __rsub__(self, other: int) -> "Number":
        return _two(self.steps, "Sub", other, self)

    def __mul__(self, other: "Number | int") -> "Number":
        return _two(self.steps, "Mul", self, other)

    __radd__, __rmul__ = __add__, __mul__

    def __floordiv__(self, other: "Number | int") -> "Number":
        return _two(self.steps, "Div", self, other)  # towards zero; nothing divided here is below it

    def __mod__(self, other: "Number | int") -> "Number":
        return _two(self.steps, "Mod", self, other)


def _two(steps: Nodes, kind: str, a: Number | int, b: Number | int) -> Number:
    name = f"input.{kind.lower()}{len(steps.nodes)}"
    return Number(steps, steps.add(kind, [_whole(steps, a), _whole(steps, b)], name))


def _whole(steps: Nodes, x: Number | int) -> str:
    return x.value if isinstance(x, Number) else steps.constant(f"input.{x}", np.array([x], np.int64))


def _list(steps: Nodes, name: str, *numbers: Number | int) -> str:
    """Whole numbers as one value; a constant where the graph has nothing to find out."""
    if all(isinstance(number, int) for number in numbers):
        return steps.constant(name, np.array(numbers, np.int64))
    return steps.add("Concat", [_whole(steps, number) for number in numbers], name, axis=0)


def _channelwise(steps: Nodes, name: str, values: np.ndarray) -> str:
    """One number a channel, for [batch, channels, height, width]."""
    return steps.constant(name, values.astype(np.float32).reshape(1, -1, 1, 1))
