"""The walk that counts: output sizes, parameters and multiply-adds of every layer, and Table 1 of the paper."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from resnets.architecture import NAMED, Architecture
from resnets.graph import walk

PAPER_FLOPS = {"resnet18": 1.8e9, "resnet34": 3.6e9, "resnet50": 3.8e9, "resnet101": 7.6e9, "resnet152": 11.3e9}  # Table 1
PAPER_PARAMETERS = {  # section 4.2, table 6
    "resnet20": 0.27e6,
    "resnet32": 0.46e6,
    "resnet44": 0.66e6,
    "resnet56": 0.85e6,
    "resnet110": 1.7e6,
    "resnet1202": 19.4e6,
}


class Map(NamedTuple):
    """The size of a map: [channels, height, width]."""

    channels: int
    height: int
    width: int


@dataclass(frozen=True)
class Layer:
    """One operation of the network, with what comes out of it."""

    name: str  # the weight's, without ".weight"; empty for an operation that has none
    kind: str  # conv, norm, add, pad_shortcut, max_pool, avg_pool, global_pool or linear
    detail: str  # "3×3, stride 2"
    output: tuple[int, ...]  # [channels, height, width], or [features]
    parameters: int  # trainable numbers
    macs: int  # multiply-adds of one image: convolutions and fc, nothing else


class Counter:
    """The interpreter that counts. A map is its size; both padding conventions give ⌈size/stride⌉ pixels."""

    def __init__(self) -> None:
        self.layers: list[Layer] = []

    def _say(self, x: Map, kind: str, name: str = "", detail: str = "", parameters: int = 0, macs: int = 0) -> Map:
        output = (x.channels,) if kind in ("global_pool", "linear") else tuple(x)
        self.layers.append(Layer(name, kind, detail, output, parameters, macs))
        return x

    def conv(self, x: Map, name: str, width: int, kernel: int, stride: int = 1, groups: int = 1) -> Map:
        weights = kernel * kernel * (x.channels // groups) * width
        out = Map(width, -(-x.height // stride), -(-x.width // stride))
        detail = f"{kernel}×{kernel}" + (f", stride {stride}" if stride > 1 else "") + (f", {groups} groups" * (groups > 1))
        return self._say(out, "conv", name, detail, weights, weights * out.height * out.width)

    def norm(self, x: Map, name: str) -> Map:
        return self._say(x, "norm", name, "", 2 * x.channels)

    def relu(self, x: Map) -> Map:
        return x

    def add(self, x: Map, y: Map) -> Map:
        assert x == y, "a shortcut gives the residual's shape"
        return self._say(x, "add")

    def pad_shortcut(self, x: Map, width: int, stride: int) -> Map:
        out = Map(width, -(-x.height // stride), -(-x.width // stride))
        return self._say(out, "pad_shortcut", "", f"option A, stride {stride}")

    def max_pool(self, x: Map) -> Map:
        return self._say(Map(x.channels, -(-x.height // 2), -(-x.width // 2)), "max_pool", "", "3×3, stride 2")

    def avg_pool(self, x: Map) -> Map:
        return self._say(Map(x.channels, -(-x.height // 2), -(-x.width // 2)), "avg_pool", "", "2×2, stride 2")

    def global_pool(self, x: Map) -> Map:
        return self._say(Map(x.channels, 1, 1), "global_pool")

    def linear(self, x: Map, name: str, width: int) -> Map:
        macs = x.channels * width
        return self._say(Map(width, 1, 1), "linear", name, "", macs + width, macs)


def layers(net: Architecture, height: int | None = None, width: int | None = None) -> list[Layer]:
    """Every layer of the network in order, for an input of height × width pixels (the paper's size if not given).

    Raises ValueError where the input is too small for the network.
    """
    height = net.natural_input if height is None else height
    width = height if width is None else width
    net.check_input(net.channels, height, width)
    counter = Counter()
    walk(net, counter, Map(net.channels, height, width))
    return counter.layers


def parameters(net: Architecture) -> int:
    """Trainable numbers: weights, and each norm's scale and shift."""
    return sum(layer.parameters for layer in layers(net))


def macs(net: Architecture, size: int | None = None) -> int:
    """Multiply-adds of one image of size × size pixels (the paper's "FLOPs"): convolutions and fc, exactly."""
    return sum(layer.macs for layer in layers(net, size))


def row(name: str) -> dict[str, Any]:
    """What `resnets table` says of one named network at the paper's input size."""
    net = NAMED[name]
    found = layers(net)
    stages = {unit.name.split(".")[0]: None for unit in net.units()}
    sizes = {stage: [layer.output for layer in found if layer.name.startswith(f"{stage}.")][-1] for stage in stages}
    return {
        "name": name,
        "depth": net.depth,
        "block": net.block,
        "blocks": list(net.blocks),
        "shortcut": net.shortcut,
        "input": [net.channels, net.natural_input, net.natural_input],
        "stem_output": list(found[0].output),
        "stage_outputs": {stage: list(size) for stage, size in sizes.items()},
        "parameters": sum(layer.parameters for layer in found),
        "macs": sum(layer.macs for layer in found),
        "paper_flops": PAPER_FLOPS.get(name),
        "paper_parameters": PAPER_PARAMETERS.get(name),
    }


def table(every: bool = False) -> list[dict[str, Any]]:
    """Table 1 of the paper: a row for 18, 34, 50, 101 and 152; `every` named network with `every`.

    `macs` is the exact count, `paper_flops` the paper's figure beside it (None where the paper gives none).
    """
    return [row(name) for name in (NAMED if every else PAPER_FLOPS)]
