"""What a residual network is: one small value, and the table of the networks that have names.

An `Architecture` says all there is to say about a network; output sizes, parameters, weight names, the modules that train
and the graphs that run are derived from it. The vocabulary is the paper's (He et al., "Deep Residual Learning for Image
Recognition", 2015): stem, stage, block, shortcut, bottleneck.
"""

import difflib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, NamedTuple, get_args, get_origin

Block = Literal["basic", "bottleneck"]
Shortcut = Literal["A", "B", "C", "none"]
Stem = Literal["imagenet", "cifar", "deep"]
Padding = Literal["symmetric", "same"]
Initialisation = Literal["he", "xavier"]


class Unit(NamedTuple):
    """One residual block of the network, as `Architecture.units` lists them."""

    name: str  # "layer2.0": torchvision's module path
    width_in: int  # channels that come in
    width: int  # channels of the 3×3 convolution
    width_out: int  # channels that go out
    stride: int  # 2 where the map halves


@dataclass(frozen=True)
class Architecture:
    """A residual network, complete. Frozen and comparable; `dataclasses.replace` makes variants.

    Raises ValueError, naming the field, where a value cannot be.
    """

    block: Block
    blocks: tuple[int, ...]  # residual blocks a stage (Table 1)
    shortcut: Shortcut = "B"  # option A, B or C (section 3.3); "none" is the plain network
    stem: Stem = "imagenet"  # 7×7 stride 2 and max pool; one 3×3 (section 4.2); three 3×3 and max pool (ResNet-D)
    width: int = 64  # channels of the first stage, doubled at each further one
    width_factor: int = 1  # the 3×3 of a bottleneck is this much wider (Wide ResNet)
    groups: int = 1  # groups of the 3×3 of a bottleneck (ResNeXt's cardinality)
    group_width: int = 0  # channels a group in the first stage; 0: all of `width`
    stride_in_3x3: bool = False  # a bottleneck's stride: first 1×1 (the paper) or 3×3 ("v1.5")
    pool_shortcut: bool = False  # ResNet-D: average pool, then an unstrided projection
    preactivation: bool = False  # He et al. 2016: norm and ReLU before each convolution
    padding: Padding = "symmetric"  # or TensorFlow's SAME, which puts the odd pixel after
    norm_epsilon: float = 1e-5
    norm_momentum: float = 0.1  # weight of the newest batch in the moving averages: 1 − decay
    norm_debias: bool = False  # TensorFlow 1's zero-debiased moving averages, of the biased variance
    initialisation: Initialisation = "he"  # He et al. 2015, as the paper; Glorot uniform, as the TF reference
    channels: int = 3  # of the input
    classes: int = 1000

    def __post_init__(self) -> None:
        if not isinstance(self.blocks, tuple | list) or not self.blocks or not all(_is_count(n) for n in self.blocks):
            raise ValueError(f"blocks lists at least one block a stage, not {self.blocks!r}")
        object.__setattr__(self, "blocks", tuple(self.blocks))
        for field in fields(self):
            value = getattr(self, field.name)
            if get_origin(field.type) is Literal and value not in get_args(field.type):
                choices = ", ".join(map(repr, get_args(field.type)))
                raise ValueError(f"{field.name} is one of {choices}, not {value!r}")
            if field.type is int and not _is_count(value, 0 if field.name == "group_width" else 1):
                smallest = 0 if field.name == "group_width" else 1
                raise ValueError(f"{field.name} is a whole number of at least {smallest}, not {value!r}")
            if field.type is bool and not isinstance(value, bool):
                raise ValueError(f"{field.name} is True or False, not {value!r}")
            if field.type is float and (not isinstance(value, float) or not 0 < value <= 1):
                raise ValueError(f"{field.name} is a number above 0 and at most 1, not {value!r}")
        if self.stem == "deep" and self.width % 2:
            raise ValueError(f"width is even with the deep stem, whose first convolutions have half of it, not {self.width}")
        if self.block == "basic" and (self.groups, self.group_width, self.width_factor) != (1, 0, 1):
            raise ValueError("groups, group_width and width_factor are a bottleneck's, and this block is basic")
        if self.inner_width(0) % self.groups:
            raise ValueError(f"{self.inner_width(0)} channels don't divide into {self.groups} groups")

    @property
    def expansion(self) -> int:
        """Channels out of a block for each of its stage's width: 4 for the bottleneck (Table 1)."""
        return 4 if self.block == "bottleneck" else 1

    @property
    def depth(self) -> int:
        """Weighted layers as the paper counts them: the stem, each block's convolutions, the fully connected layer."""
        return 2 + sum(self.blocks) * (3 if self.block == "bottleneck" else 2)

    @property
    def features(self) -> int:
        """Length of the pooled vector before the fully connected layer."""
        return self.width * 2 ** (len(self.blocks) - 1) * self.expansion

    @property
    def smallest_input(self) -> int:
        """Least height and width of an image, in pixels."""
        return 8 if self.stem == "cifar" else 32

    @property
    def natural_input(self) -> int:
        """The paper's input size, in pixels: 32 for CIFAR (section 4.2), 224 for ImageNet (section 3.4)."""
        return 32 if self.stem == "cifar" else 224

    def inner_width(self, stage: int) -> int:
        """Channels of the 3×3 convolution in stage 0, 1, …"""
        if self.group_width:
            return self.groups * self.group_width * 2**stage
        return self.width * self.width_factor * 2**stage

    def units(self) -> Iterator[Unit]:
        """The residual blocks in order; the first of every stage but the first halves the map (section 3.3)."""
        width_in = self.width
        for stage, blocks in enumerate(self.blocks):
            width_out = self.width * 2**stage * self.expansion
            for index in range(blocks):
                stride = 2 if stage > 0 and index == 0 else 1
                yield Unit(f"layer{stage + 1}.{index}", width_in, self.inner_width(stage), width_out, stride)
                width_in = width_out

    def strides(self, unit: Unit) -> tuple[int, ...]:
        """The stride of each convolution of a block: a bottleneck has it in the first 1×1, or in the 3×3."""
        if self.block == "basic":
            return unit.stride, 1
        return (1, unit.stride, 1) if self.stride_in_3x3 else (unit.stride, 1, 1)

    def projects(self, unit: Unit) -> bool:
        """Whether a block's shortcut is a projection: option B where shapes differ, option C everywhere."""
        differs = unit.stride > 1 or unit.width_in != unit.width_out
        return self.shortcut == "C" or (self.shortcut == "B" and differs)

    def splits_after_activation(self, unit: Unit) -> bool:
        """Whether a pre-activation block's shortcut reads the activated map: a projection's does, and the first block's."""
        return self.projects(unit) or unit.name == "layer1.0"

    def check_input(self, channels: int, height: int, width: int) -> None:
        """Raise ValueError, in a sentence, if such an image can't enter this network."""
        if channels != self.channels:
            raise ValueError(f"this network takes images of {self.channels} channels, and these have {channels}")
        if min(height, width) < self.smallest_input:
            raise ValueError(
                f"this network takes images from {self.smallest_input}×{self.smallest_input} pixels up, "
                f"and these have {height}×{width}"
            )

    def to_json(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "blocks": list(self.blocks)}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "Architecture":
        """The inverse of `to_json`; ValueError on a field unknown here, so that nothing is dropped in silence."""
        unknown = sorted(set(document) - {field.name for field in fields(cls)})
        if unknown:
            raise ValueError(f"unknown architecture field {unknown[0]!r}")
        return cls(**document)


def _is_count(value: Any, smallest: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= smallest


def _family() -> dict[str, Architecture]:
    """The table of named networks."""
    paper = {
        "resnet18": Architecture("basic", (2, 2, 2, 2)),
        "resnet34": Architecture("basic", (3, 4, 6, 3)),
        "resnet50": Architecture("bottleneck", (3, 4, 6, 3)),
        "resnet101": Architecture("bottleneck", (3, 4, 23, 3)),
        "resnet152": Architecture("bottleneck", (3, 8, 36, 3)),
    }
    cifar = {  # 6n + 2 layers (section 4.2)
        f"resnet{6 * n + 2}": Architecture("basic", (n, n, n), "A", "cifar", width=16, classes=10)
        for n in (3, 5, 7, 9, 18, 200)
    }
    v15 = {f"{name}-v1.5": replace(net, stride_in_3x3=True) for name, net in paper.items()}
    tf = {
        f"{name}-tf": replace(
            net, padding="same", norm_epsilon=1e-3, norm_momentum=1e-3, norm_debias=True, initialisation="xavier"
        )
        for name, net in paper.items()
    }
    plain = {name.replace("resnet", "plain"): replace(net, shortcut="none") for name, net in (paper | cifar).items()}
    wider = {
        "wide-resnet50-2": replace(v15["resnet50-v1.5"], width_factor=2),
        "wide-resnet101-2": replace(v15["resnet101-v1.5"], width_factor=2),
        "resnext50-32x4d": replace(v15["resnet50-v1.5"], groups=32, group_width=4),
        "resnext101-32x8d": replace(v15["resnet101-v1.5"], groups=32, group_width=8),
        "resnet50d": replace(v15["resnet50-v1.5"], stem="deep", pool_shortcut=True),
    }
    preact = {
        f"preact-{name}": replace(net, preactivation=True, stride_in_3x3=net.block == "bottleneck")
        for name, net in (paper | cifar).items()
        if name not in ("resnet34", "resnet1202")
    }
    return paper | v15 | tf | cifar | plain | wider | preact


NAMED: dict[str, Architecture] = _family()


def named(name: str, **changes: Any) -> Architecture:
    """The architecture called `name` ("resnet50"; an underscore reads as a hyphen), with fields changed.

    Raises ValueError for an unknown name, with the nearest known ones, and for a field or value that can't be.
    """
    known = NAMED.get(name.lower().replace("_", "-"))
    if known is None:
        wanted = name.lower().replace("_", "-")
        starting = [other for other in NAMED if wanted and other.startswith(wanted)]
        near = (starting + difflib.get_close_matches(wanted, NAMED, n=3, cutoff=0.5))[:3]
        hint = f"did you mean {' or '.join(near)}?" if near else "`resnets table --all` lists them."
        raise ValueError(f"no network is called {name!r}; {hint}")
    unknown = set(changes) - {field.name for field in fields(Architecture)}
    if unknown:
        raise ValueError(f"an architecture has no field {sorted(unknown)[0]!r}")
    return replace(known, **changes)


NO_NAME = (
    "norm_epsilon",
    "norm_momentum",
    "initialisation",
    "channels",
    "classes",
)  # what a name with an epsilon leaves open


def name_of(wanted: Architecture) -> str:
    """The name of an architecture whatever its channels, classes and shortcut, or "custom"; the shortcut and the epsilon are
    added if they aren't the name's own ("resnet50, shortcut A", "resnet50, epsilon 1.001e-05")."""
    for name, known in NAMED.items():
        if replace(known, channels=wanted.channels, classes=wanted.classes) == wanted:
            return name
    for name, known in NAMED.items():
        changes = {"channels": wanted.channels, "classes": wanted.classes, "shortcut": wanted.shortcut}
        if known.shortcut != "none" and replace(known, **changes) == wanted:
            return f"{name}, shortcut {wanted.shortcut}"
    for name, known in NAMED.items():
        constants = {field: getattr(wanted, field) for field in NO_NAME}
        if replace(known, **constants) == wanted:
            return f"{name}, epsilon {wanted.norm_epsilon:g}"
    return "custom"
