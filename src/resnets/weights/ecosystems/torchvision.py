"""torchvision: its names are ours. A bottleneck's stride is in the 3×3, which its files don't say."""

from collections.abc import Iterable
from dataclasses import replace

from resnets.architecture import Architecture
from resnets.weights.ecosystem import Conventions, Ecosystem, State, Taken, Weights


def recognises(names: Iterable[str]) -> bool:
    """Never: timm, and whoever writes a residual network in PyTorch, uses the same names."""
    return False


def to_ours(weights: Weights) -> Taken:
    """The same dictionary."""
    return Taken(dict(weights))


def from_ours(weights: Weights, net: Architecture) -> State:
    """The same dictionary."""
    return dict(weights)


def candidates(net: Architecture) -> tuple[Architecture, ...]:
    """`torchvision.models.resnet` strides in the 3×3, pads symmetrically, and has projections where shapes differ."""
    return (replace(net, stride_in_3x3=net.block == "bottleneck"),)


def why_not(net: Architecture) -> str | None:
    """Why `torchvision.models.ResNet` can't be this network."""
    if net.stem != "imagenet":
        return f"its stem is the 7×7 convolution and a pool, and this one's is {net.stem!r}"
    return standard_why_not(net)


def standard_why_not(net: Architecture) -> str | None:
    """Why PyTorch's usual ResNet of four stages can't be this network, whatever its stem."""
    reasons = (
        (net.preactivation, "its blocks normalise after the convolution, not before (pre-activation)"),
        (net.padding == "same", "it pads symmetrically: TensorFlow's SAME, which puts the odd pixel after, isn't there"),
        (net.shortcut != "B", f"its shortcuts are option B, and these are {net.shortcut}"),
        (net.block == "bottleneck" and not net.stride_in_3x3, "its bottlenecks stride in the 3×3, these in the first 1×1"),
        (len(net.blocks) != 4 or net.width != 64, "it has four stages from 64 channels"),
        (net.stem != "deep" and net.channels != 3, f"it reads 3 channels, and this one {net.channels}"),
    )
    return next((reason for holds, reason in reasons if holds), None)


ECOSYSTEM = Ecosystem(
    name="torchvision",
    title="torchvision",
    conventions=Conventions(
        "symmetric", "3×3", 1e-5, "OIHW", "RGB, ImageNet's mean and deviation; 224 of 256 (V1), 224 of 232 (V2)"
    ),
    recognises=recognises,
    to_ours=to_ours,
    from_ours=from_ours,
    candidates=candidates,
    why_not=why_not,
    forms=(".pth", ".safetensors"),
)
