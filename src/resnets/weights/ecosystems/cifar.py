"""The CIFAR ResNets that people share: `module.` before every name, the last layer called `linear`, `shortcut` projecting.

Without projections these are option A of the paper (section 4.2), which has no parameters.
"""

import re
from collections.abc import Iterable
from dataclasses import replace

from resnets.architecture import Architecture
from resnets.weights.ecosystem import Conventions, Ecosystem, State, Taken, Weights

TABLE = ((r"^linear\.", "fc."), (r"\.shortcut\.", ".downsample."))  # theirs → ours
BACK = ((r"^fc\.", "linear."), (r"\.downsample\.", ".shortcut."))


def recognises(names: Iterable[str]) -> bool:
    """By the name of the last layer, or of a projection."""
    return any(re.search(pattern, name) for name in names for pattern, _ in TABLE)


def to_ours(weights: Weights) -> Taken:
    """`linear` → `fc`, `shortcut` → `downsample`."""
    return Taken({_renamed(name, TABLE): array for name, array in weights.items()})


def from_ours(weights: Weights, net: Architecture) -> State:
    """The names of `DataParallel`, as these files have them."""
    return {f"module.{_renamed(name, BACK)}": array for name, array in weights.items()}


def _renamed(name: str, table: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in table:
        name = re.sub(pattern, replacement, name)
    return name


def candidates(net: Architecture) -> tuple[Architecture, ...]:
    """Option A where nothing projects; bottlenecks, which the paper's CIFAR networks lack, stride in the 3×3."""
    return (replace(net, stride_in_3x3=net.block == "bottleneck"),)


def why_not(net: Architecture) -> str | None:
    """Why this network isn't among those."""
    reasons = (
        (net.stem != "cifar", "its stem is one 3×3 convolution"),
        (net.preactivation, "its blocks normalise after the convolution, not before (pre-activation)"),
        (net.padding == "same", "it pads symmetrically, not as TensorFlow's SAME"),
        (net.shortcut == "none", "without projections its shortcuts are option A, and the plain network has none"),
        (net.block == "bottleneck" and not net.stride_in_3x3, "its bottlenecks stride in the 3×3, these in the first 1×1"),
    )
    return next((reason for holds, reason in reasons if holds), None)


ECOSYSTEM = Ecosystem(
    name="cifar",
    title="the CIFAR ResNets of PyTorch",
    conventions=Conventions("symmetric", "3×3", 1e-5, "OIHW", "RGB, CIFAR-10's mean and deviation; 32 pixels, whole"),
    recognises=recognises,
    to_ours=to_ours,
    from_ours=from_ours,
    candidates=candidates,
    why_not=why_not,
    forms=(".th", ".pth", ".safetensors"),
)
