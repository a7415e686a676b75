"""Preprocessing as OpenVINO nodes ahead of a network: of ready crops, or of an image of any size."""

from typing import Any

import numpy as np
import openvino as ov
from openvino import opset15 as ops

from resnets.data.preprocessing import Preprocessing
from resnets.prediction.folding import Node
from resnets.prediction.geometry import place
from resnets.prediction.openvino.graph import channelwise, named_model

MODES = {"nearest": "nearest", "bilinear": "bilinear_pillow", "bicubic": "bicubic_pillow"}
PLAIN_MODES = {"nearest": "nearest", "bilinear": "linear", "bicubic": "cubic"}  # without antialias


def of_images(network: ov.Model, how: Preprocessing) -> ov.Model:
    """A network of `tensor`s, made one of `images`: uint8 [batch, size, size, channels], ready crops."""
    entry = ops.parameter([-1, how.size, how.size, how.channels], np.uint8, "images")
    return _joined(entry, _normalised(_planes(entry), how), network, "images")


def of_image(network: ov.Model, how: Preprocessing) -> ov.Model:
    """A network of `tensor`s, made one of an `image`: uint8 [height, width, channels] of any size, one at a time."""
    entry = ops.parameter([-1, -1, how.channels], np.uint8, "image")
    planes = _planes(ops.unsqueeze(entry, np.array(0)))
    return _joined(entry, _normalised(_square(planes, entry, how), how), network, "image")


def with_probabilities(network: ov.Model) -> ov.Model:
    """The model with `probabilities`, the softmax of its logits, as the first output."""
    logits, features = (network.output(name).get_node().input_value(0) for name in ("logits", "features"))
    outputs = {"probabilities": ops.softmax(logits, 1).output(0), "logits": logits, "features": features}
    (entry,) = network.get_parameters()
    return named_model(entry, outputs, entry.output(0).any_name)


def _joined(entry: Any, tensor: Node, network: ov.Model, name: str) -> ov.Model:
    """The network, reading `tensor` instead of its own entry."""
    (old,) = network.get_parameters()
    outputs = {result.input_value(0).any_name: result.input_value(0) for result in network.get_results()}
    names = {name: outputs[name] for name in ("logits", "features")}
    for target in old.output(0).get_target_inputs():
        target.replace_source_output(tensor)
    return named_model(entry, names, name)


def _planes(images: Node) -> Node:
    """uint8 [batch, height, width, channels] → uint8 [batch, channels, height, width]."""
    return ops.transpose(images, np.array([0, 3, 1, 2])).output(0)


def _normalised(x: Node, how: Preprocessing) -> Node:
    x = ops.convert(x, "f32").output(0)
    if how.colour == "BGR":
        x = ops.gather(x, np.array([2, 1, 0]), np.array(1)).output(0)
    mean, deviation = np.array(how.mean), np.array(how.deviation)
    return ops.add(ops.multiply(x, channelwise(how.scale / deviation)), channelwise(-mean / deviation)).output(0)


def _square(x: Node, image: Any, how: Preprocessing) -> Node:
    """The square of an image's planes that the network sees, rounded to whole levels as an image is."""
    sides = ops.split(ops.shape_of(image, "i64"), np.array(0), 3)
    height, width = Number(sides.output(0)), Number(sides.output(1))
    at = place(height, width, how, lambda a, b: _two(ops.minimum, a, b), lambda a, b: _two(ops.maximum, a, b))
    resized = _resized(x, at.height, at.width, how)
    if how.fit == "squash":
        return resized
    corner = ops.concat([_node(at.top), _node(at.left)], 0)
    if how.fit == "crop":
        end = ops.add(corner, np.array([how.size] * 2, np.int64))
        return ops.slice(resized, corner, end, np.array([1, 1], np.int64), np.array([2, 3], np.int64)).output(0)
    rest = ops.concat([_node(how.size - at.top - at.height), _node(how.size - at.left - at.width)], 0)
    none = ops.constant(np.zeros(2, np.int64))
    before, after = ops.concat([none, corner], 0), ops.concat([none, rest], 0)
    fill = channelwise(np.array(how.fill))
    padded = ops.pad(ops.subtract(ops.convert(resized, "f32"), fill), before, after, "constant", np.float32(0))
    return ops.add(padded, fill).output(0)


def _resized(x: Node, height: "Number | int", width: "Number | int", how: Preprocessing) -> Node:
    """Interpolated as Pillow does with antialias, to whole levels after each direction; as Keras does without."""
    modes = MODES if how.antialias else PLAIN_MODES
    if how.interpolation not in modes:
        raise ValueError(f"{how.interpolation} interpolation can't be part of a graph; export with --input crops")
    sizes = ops.concat([_node(height), _node(width)], 0)
    how_to = {"cube_coeff": -0.5} if how.interpolation == "bicubic" else {}
    nearest = {"nearest_mode": "round_prefer_ceil"} if how.interpolation == "nearest" else {}
    pixels = x if how.antialias else ops.convert(x, "f32")
    y = ops.interpolate(
        pixels, sizes, modes[how.interpolation], "sizes", coordinate_transformation_mode="half_pixel",
        axes=np.array([2, 3], np.int64), **how_to, **nearest,
    )  # fmt: skip
    return y.output(0) if how.antialias else ops.clamp(ops.round(y, "half_to_even"), 0.0, 255.0).output(0)


class Number:
    """A whole number that the graph knows when it runs: int64 [1], with the operators of `geometry`."""

    def __init__(self, node: Node) -> None:
        self.node = node

    def __add__(self, other: "Number | int") -> "Number":
        return _two(ops.add, self, other)

    def __sub__(self, other: "Number | int") -> "Number":
        return _two(ops.subtract, self, other)

    def __rsub__(self, other: int) -> "Number":
        return _two(ops.subtract, other, self)

    def __mul__(self, other: "Number | int") -> "Number":
        return _two(ops.multiply, self, other)

    __radd__, __rmul__ = __add__, __mul__

    def __floordiv__(self, other: "Number | int") -> "Number":
        return _two(ops.divide, self, other)  # of whole numbers: rounded down

    def __mod__(self, other: "Number | int") -> "Number":
        return _two(ops.floor_mod, self, other)


def _two(operation: Any, a: Number | int, b: Number | int) -> Number:
    return Number(operation(_node(a), _node(b)).output(0))


def _node(x: Number | int) -> Node:
    return x.node if isinstance(x, Number) else ops.constant(np.array([x], np.int64)).output(0)
