"""What the interpreters share that build a graph for prediction: each norm folded into the convolution before it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from resnets.architecture import Architecture

Node = Any  # whatever a runtime calls one output of its graph
NORM_PARTS = ("weight", "bias", "running_mean", "running_var")


class Convolution(NamedTuple):
    """A convolution that isn't built yet: if a norm reads it, the norm folds into it."""

    source: Node
    weight: np.ndarray  # float32 [width, channels / groups, kernel, kernel]
    stride: int
    groups: int
    bias: np.ndarray | None = None  # float32 [width]

    @property
    def padding(self) -> int:
        """Pixels on each side, where the architecture pads alike on both."""
        return self.weight.shape[-1] // 2


class Folding(ABC):
    """The half of an interpreter that waits: a map is a `Node`, or a `Convolution` to be. `built` settles which.

    A subclass offers `convolution`, which builds one, and the rest of `graph.Operations`.
    """

    def __init__(self, net: Architecture, state: Mapping[str, np.ndarray]) -> None:
        self.net = net
        self.state = state
        self.features: Node = None  # the pooled vector, once the walk has passed it

    @abstractmethod
    def convolution(self, x: Convolution) -> Node:
        """The convolution in the runtime's graph, its bias added."""
        ...

    def scale_and_shift(self, x: Node, scale: np.ndarray, shift: np.ndarray) -> Node:
        """x · scale + shift, a float32 [channels] each: a norm that follows no convolution. ONNX has an operation for
        it, and overrides `norm` instead."""
        raise TypeError(f"{type(self).__name__} has no scale_and_shift, nor a norm of its own")

    def conv(self, x: Node, name: str, width: int, kernel: int, stride: int = 1, groups: int = 1) -> Node:
        return Convolution(self.built(x), self.state[f"{name}.weight"], stride, groups)

    def norm(self, x: Node, name: str) -> Node:
        part = {key: self.state[f"{name}.{key}"].astype(np.float64) for key in NORM_PARTS}
        scale = part["weight"] / np.sqrt(part["running_var"] + self.net.norm_epsilon)
        shift = (part["bias"] - part["running_mean"] * scale).astype(np.float32)
        scale = scale.astype(np.float32)
        if isinstance(x, Convolution):
            return self.built(x._replace(weight=x.weight * scale[:, None, None, None], bias=shift))
        return self.scale_and_shift(x, scale, shift)

    def built(self, x: Node | Convolution) -> Node:
        """The node, the convolution built if it still waits."""
        return self.convolution(x) if isinstance(x, Convolution) else x
