"""The one walk of a network: what is computed, in order, with no word on how.

`walk` goes through an `Architecture` once and calls an interpreter's operations; what they mean is the interpreter's:
counting sizes and multiply-adds, a graph that a runtime executes, a drawing, the list of weights. Weights are called as
torchvision calls them ("layer1.0.conv1").
"""

from typing import Protocol, TypeVar

from resnets.architecture import Architecture, Padding, Unit

T = TypeVar("T")


class Operations(Protocol[T]):
    """What an interpreter of the walk offers. `T` is whatever stands for a map of [batch, channels, height, width].

    Padding and the norm's epsilon are the architecture's, which an interpreter knows from the start.
    """

    def conv(self, x: T, name: str, width: int, kernel: int, stride: int = 1, groups: int = 1) -> T:
        """Convolution without bias to `width` channels; weight `name`.weight."""
        ...

    def norm(self, x: T, name: str) -> T:
        """Batch normalisation; `name`.weight, .bias, .running_mean, .running_var, .num_batches_tracked."""
        ...

    def relu(self, x: T) -> T: ...

    def add(self, x: T, y: T) -> T: ...

    def pad_shortcut(self, x: T, width: int, stride: int) -> T:
        """Option A: every `stride`-th pixel, then zero channels up to `width`, `pad_channels` of them before and after."""
        ...

    def max_pool(self, x: T) -> T:
        """3×3, stride 2, padded with −∞."""
        ...

    def avg_pool(self, x: T) -> T:
        """2×2, stride 2; at an odd edge the mean of the pixels that are there (ResNet-D)."""
        ...

    def global_pool(self, x: T) -> T:
        """The mean over height and width: [batch, channels]."""
        ...

    def linear(self, x: T, name: str, width: int) -> T:
        """Fully connected layer; `name`.weight [width, channels] and .bias [width]."""
        ...


def walk(net: Architecture, ops: Operations[T], x: T) -> T:
    """The whole network, from images to logits (Table 1)."""
    x = stem(net, ops, x)
    for unit in net.units():
        x = preactivated(net, ops, x, unit) if net.preactivation else block(net, ops, x, unit)
    if net.preactivation:
        x = ops.relu(ops.norm(x, "norm"))
    return ops.linear(ops.global_pool(x), "fc", net.classes)


def stem(net: Architecture, ops: Operations[T], x: T) -> T:
    """What comes before the first stage. With pre-activation its norm and ReLU are the first block's own."""
    if net.stem == "deep":
        half = net.width // 2
        x = ops.relu(ops.norm(ops.conv(x, "conv1.0", half, 3, 2), "conv1.1"))
        x = ops.relu(ops.norm(ops.conv(x, "conv1.3", half, 3), "conv1.4"))
        x = ops.conv(x, "conv1.6", net.width, 3)
    elif net.stem == "cifar":
        x = ops.conv(x, "conv1", net.width, 3)
    else:
        x = ops.conv(x, "conv1", net.width, 7, 2)
    if not net.preactivation:
        x = ops.relu(ops.norm(x, "bn1"))
    return x if net.stem == "cifar" else ops.max_pool(x)


def block(net: Architecture, ops: Operations[T], x: T, unit: Unit) -> T:
    """One residual block: relu(F(x) + shortcut(x)), equation 1 of the paper; plain: relu(F(x))."""
    y = x
    convolutions = residual_convolutions(net, unit)
    for index, (width, kernel, stride, groups) in enumerate(convolutions, 1):
        y = ops.norm(ops.conv(y, f"{unit.name}.conv{index}", width, kernel, stride, groups), f"{unit.name}.bn{index}")
        if index < len(convolutions):
            y = ops.relu(y)
    return ops.relu(y if net.shortcut == "none" else ops.add(y, shortcut(net, ops, x, unit)))


def preactivated(net: Architecture, ops: Operations[T], x: T, unit: Unit) -> T:
    """One pre-activation block: F(a) + shortcut, a = relu(norm(x)) (He et al. 2016, section 4.1).

    A projection reads a; so does the network's very first shortcut, which splits after its activation (their appendix).
    """
    y = activated = ops.relu(ops.norm(x, f"{unit.name}.bn1"))
    for index, (width, kernel, stride, groups) in enumerate(residual_convolutions(net, unit), 1):
        if index > 1:
            y = ops.relu(ops.norm(y, f"{unit.name}.bn{index}"))
        y = ops.conv(y, f"{unit.name}.conv{index}", width, kernel, stride, groups)
    if net.shortcut == "none":
        return y
    return ops.add(y, shortcut(net, ops, activated if net.splits_after_activation(unit) else x, unit))


def residual_convolutions(net: Architecture, unit: Unit) -> list[tuple[int, int, int, int]]:
    """(width, kernel, stride, groups) of each convolution in F: 3×3, 3×3, or 1×1, 3×3, 1×1 (figure 5 of the paper)."""
    if net.block == "basic":
        first, second = net.strides(unit)
        return [(unit.width, 3, first, 1), (unit.width_out, 3, second, 1)]
    first, second, third = net.strides(unit)
    return [(unit.width, 1, first, 1), (unit.width, 3, second, net.groups), (unit.width_out, 1, third, 1)]


def shortcut(net: Architecture, ops: Operations[T], x: T, unit: Unit) -> T:
    """Options A, B and C of section 3.3; the identity where option A or B finds the shapes equal."""
    if net.projects(unit):
        if net.pool_shortcut:  # ResNet-D: timm's places, 0 the pool, 1 the convolution, 2 the norm
            x = ops.avg_pool(x) if unit.stride > 1 else x
            return ops.norm(ops.conv(x, f"{unit.name}.downsample.1", unit.width_out, 1), f"{unit.name}.downsample.2")
        x = ops.conv(x, f"{unit.name}.downsample.0", unit.width_out, 1, unit.stride)
        return x if net.preactivation else ops.norm(x, f"{unit.name}.downsample.1")
    if unit.stride > 1 or unit.width_in != unit.width_out:
        return ops.pad_shortcut(x, unit.width_out, unit.stride)
    return x


def pad_channels(width_in: int, width_out: int) -> tuple[int, int]:
    """Zero channels that option A puts before and after: half each, the odd one after, as the CIFAR weights in use are."""
    missing = width_out - width_in
    return missing // 2, missing - missing // 2


def edges(padding: Padding, size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Pixels of padding before and after, along one axis, for an odd kernel.

    "symmetric" is (kernel − 1)/2 on both sides; "same" is TensorFlow's: in all max((⌈size/stride⌉ − 1)·stride + kernel −
    size, 0), the smaller half before. Both give ⌈size/stride⌉ pixels.
    """
    if padding == "symmetric":
        return kernel // 2, kernel // 2
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class WeightShapes:
    """The interpreter that lists weights and buffers with their shapes; a map is its number of channels."""

    def __init__(self) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}

    def conv(self, x: int, name: str, width: int, kernel: int, stride: int = 1, groups: int = 1) -> int:
        self.shapes[f"{name}.weight"] = (width, x // groups, kernel, kernel)
        return width

    def norm(self, x: int, name: str) -> int:
        for part in ("weight", "bias", "running_mean", "running_var"):
            self.shapes[f"{name}.{part}"] = (x,)
        self.shapes[f"{name}.num_batches_tracked"] = ()
        return x

    def relu(self, x: int) -> int:
        return x

    def add(self, x: int, y: int) -> int:
        return x

    def pad_shortcut(self, x: int, width: int, stride: int) -> int:
        return width

    def max_pool(self, x: int) -> int:
        return x

    def avg_pool(self, x: int) -> int:
        return x

    def global_pool(self, x: int) -> int:
        return x

    def linear(self, x: int, name: str, width: int) -> int:
        self.shapes[f"{name}.weight"] = (width, x)
        self.shapes[f"{name}.bias"] = (width,)
        return width


def weight_shapes(net: Architecture) -> dict[str, tuple[int, ...]]:
    """Every entry of the network's state dictionary, buffers included, with its shape."""
    lister = WeightShapes()
    walk(net, lister, net.channels)
    return lister.shapes
