"""Which network weights are of, by their names and shapes under torchvision's names."""

from dataclasses import replace
from typing import cast

from resnets.architecture import Architecture, Shortcut, Stem
from resnets.graph import weight_shapes
from resnets.weights.ecosystem import Shapes

COUNTER = ".num_batches_tracked"
OTHERS = {  # a name that gives another kind of network away
    "cls_token": "a vision transformer",
    "patch_embed": "a vision transformer",
    "class_token": "a vision transformer",
    "vit.": "a vision transformer",
    "denselayer": "a DenseNet",
    "features.0": "a VGG, an AlexNet or a MobileNet",
    "Mixed_5": "an Inception network",
    "stages.0.blocks": "a ConvNeXt or a RegNet",
    "_blocks.": "an EfficientNet",
    "resnet_v1_": "TensorFlow-Slim's network",
}


def architecture_of(shapes: Shapes) -> Architecture:
    """The network with these weights, a bottleneck's stride in the first 1×1 where shapes don't say.

    Without projections the shortcut is said to be A; the plain twin has the same shapes. Raises ValueError, naming the
    weight, where none has them.
    """
    stem = _stem(shapes)
    blocks = tuple(_blocks(shapes))
    bottleneck = "layer1.0.conv3.weight" in shapes
    width = shapes["conv1.6.weight" if stem == "deep" else "conv1.weight"][0]
    inner = shapes["layer1.0.conv2.weight"][0] if bottleneck and "layer1.0.conv2.weight" in shapes else width
    groups = max(1, inner // shapes["layer1.0.conv2.weight"][1]) if bottleneck and "layer1.0.conv2.weight" in shapes else 1
    preactivation = "norm.weight" in shapes
    settled = groups > 1 or inner != width or stem == "deep" or preactivation  # all of these stride in the 3×3
    net = Architecture(
        "bottleneck" if bottleneck else "basic",
        blocks,
        stem=stem,
        width=width,
        width_factor=1 if groups > 1 else max(1, inner // width),
        groups=groups,
        group_width=inner // groups if groups > 1 else 0,
        stride_in_3x3=bottleneck and settled,
        pool_shortcut=len(shapes.get("layer2.0.downsample.1.weight", ())) == 4,
        preactivation=preactivation,
        channels=shapes["conv1.0.weight" if stem == "deep" else "conv1.weight"][1],
        classes=shapes["fc.weight"][0] if len(shapes.get("fc.weight", ())) == 2 else 1000,
    )
    net = replace(net, shortcut=_shortcut(net, shapes))
    check_shapes(net, shapes)
    return net


def check_shapes(net: Architecture, shapes: Shapes) -> None:
    """ValueError where weights aren't an architecture's: what is lacking, what is unknown, or whose shape differs."""
    wanted = weight_shapes(net)
    theirs = {name: shape for name, shape in shapes.items() if not name.endswith(COUNTER)}
    ours = {name: shape for name, shape in wanted.items() if not name.endswith(COUNTER)}
    lacking, unknown = sorted(ours.keys() - theirs.keys()), sorted(theirs.keys() - ours.keys())
    if {"fc.weight", "fc.bias"} == set(lacking) and not unknown:
        raise ValueError("the weights end before the fully connected layer (they lack fc.weight): features without classes")
    said = [f"{word} {_some(names)}" for word, names in (("lack", lacking), ("have the unknown", unknown)) if names]
    if said:
        raise ValueError(f"the weights {' and '.join(said)}")
    for name, shape in ours.items():
        if theirs[name] != shape:
            raise ValueError(f"the weight {name} is {list(theirs[name])}, and there it has to be {list(shape)}")


def _some(names: list[str]) -> str:
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _stem(shapes: Shapes) -> Stem:
    if "conv1.0.weight" in shapes and "conv1.6.weight" in shapes:
        return "deep"
    kernel = shapes.get("conv1.weight", ())
    if len(kernel) == 4 and kernel[2:] in ((7, 7), (3, 3)) and "layer1.0.conv1.weight" in shapes:
        return "imagenet" if kernel[2] == 7 else "cifar"
    other = next((what for mark, what in OTHERS.items() if any(mark in name for name in shapes)), None)
    named = ", ".join(list(shapes)[:3])
    raise ValueError(
        f"these are weights of {other}, not of a residual network ({named}, …)" if other else
        f"these aren't weights of a residual network that is known here: no conv1.weight and layer1.0 among {named}, …"
    )  # fmt: skip


def _blocks(shapes: Shapes) -> list[int]:
    """Blocks of each stage."""
    counts = []
    while any(name.startswith(f"layer{len(counts) + 1}.0.") for name in shapes):
        stage = f"layer{len(counts) + 1}."
        counts.append(1 + max(int(name.split(".")[1]) for name in shapes if name.startswith(stage)))
    return counts


def _shortcut(net: Architecture, shapes: Shapes) -> Shortcut:
    """A where nothing projects, else B or C: the one that projects where these weights do."""
    projecting = {name.split(".downsample")[0] for name in shapes if ".downsample." in name}
    if not projecting:
        return "A"
    for option in ("B", "C"):
        with_option = replace(net, shortcut=cast(Shortcut, option))
        if projecting == {unit.name for unit in with_option.units() if with_option.projects(unit)}:
            return cast(Shortcut, option)
    return "B"  # and `check_shapes` says what is lacking
