"""Keras Applications' ResNet50, 101 and 152: layers by name ("conv2_block1_1_conv"), HWIO kernels, convolutions with biases.

Source: keras/src/applications/resnet.py of Keras 3.15. Padding is explicit and symmetric, 3 pixels before the 7×7 and 1
before the pool (of zeros, which is the same as of −∞ after a ReLU). A weight is called LAYER/VARIABLE here, in whatever
file it lies.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from resnets.architecture import Architecture
from resnets.data.preprocessing import Preprocessing
from resnets.model import Model
from resnets.weights.ecosystem import Configured, Conventions, Ecosystem, Shapes, State, Taken, Weights

BLOCKS: dict[tuple[int, ...], str] = {  # of each stage
    (3, 4, 6, 3): "ResNet50",
    (3, 4, 23, 3): "ResNet101",
    (3, 8, 36, 3): "ResNet152",
}
READ = "of Keras Applications, ResNet50, 101 and 152 are read"
EPSILON = 1.001e-5
PREPROCESSING = Preprocessing(colour="BGR", scale=1.0, mean=(103.939, 116.779, 123.68), deviation=(1.0, 1.0, 1.0))

KERNEL = ("kernel", "bias")  # a layer's variables, in Keras' order
NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}  # theirs → ours
MODULES = {"conv1_conv": "conv1", "conv1_bn": "bn1", "predictions": "fc", "probs": "fc"}  # "probs": Keras 2's first versions
LAYER = re.compile(r"conv([2-9]|[1-9]\d)_block([1-9]\d*)_([0-3])_(conv|bn)")
WEIGHTLESS = re.compile(
    r"conv1_(pad|relu)|pool1_(pad|pool)|(avg|max)_pool|conv\d+_block\d+_(1_relu|2_relu|add|out)|"
    r"(input|input_layer|global_average_pooling2d|dropout)(_\d+)?"
)
DROPPED = re.compile(r"(.+/)?vars/\d+|optimizer_weights/.+")  # an optimizer's slots and a metric's counts
OTHERS = {  # what a part of a layer's name gives away
    "_preact_": "a ResNetV2 (pre-activation)",
    "res2a_branch2a": "the ResNet50 of Keras before 2.3",
    "_2_reduce": "a ResNeXt",
    "pool2_conv": "a DenseNet",
    "_sepconv1": "an Xception",
    "block1_conv1": "a VGG",
    "conv_dw_1": "a MobileNet",
    "expanded_conv": "a MobileNet",
    "block1a_": "an EfficientNet",
    "normal_conv": "a NASNet",
    "mixed": "an Inception network",
    "convnext": "a ConvNeXt",
}
CLASSES = {  # of layers with weights: how a name ends
    "conv2d": "_conv",
    "batch_normalization": "_bn",
    "dense": "predictions",
}
COUNTS = {"conv2d": (1, 2), "batch_normalization": (4,), "dense": (2,)}  # variables that such a layer may have
WEIGHTLESS_CLASSES = (
    "input_layer", "zero_padding2d", "activation", "max_pooling2d", "add", "dropout", "global_average_pooling2d",
    "global_max_pooling2d",
)  # fmt: skip
OTHER_CLASSES = {  # a class of layers that gives another network away
    "depthwise_conv2d": "a MobileNet, an EfficientNet or a ResNeXt",
    "separable_conv2d": "an Xception or a NASNet",
    "concatenate": "a DenseNet or an Inception network",
    "layer_normalization": "a ConvNeXt or a transformer",
    "flatten": "a VGG",
}


def layers(blocks: Sequence[int]) -> tuple[str, ...]:
    """The layers that have weights, in the order of `model.layers`: a projection's come beside those of the last 1×1."""
    names = ["conv1_conv", "conv1_bn"]
    for stage, count in enumerate(blocks, 2):
        for index in range(1, count + 1):
            order = ("1_conv", "1_bn", "2_conv", "2_bn", "0_conv", "3_conv", "0_bn", "3_bn")
            names += [f"conv{stage}_block{index}_{part}" for part in order if index == 1 or part[0] != "0"]
    return (*names, "predictions")


def variables(layer: str) -> tuple[str, ...]:
    """What a layer's variables are called, in Keras' order."""
    return tuple(NORM) if layer.endswith("_bn") else KERNEL


def module_of(layer: str) -> str | None:
    """Our name of a layer that has weights, or None where these networks have no such layer."""
    found = LAYER.fullmatch(layer)
    if found is None:
        return MODULES.get(layer)
    stage, block, index, kind = found.groups()
    place = f"layer{int(stage) - 1}.{int(block) - 1}"
    if index == "0":
        return f"{place}.downsample.{0 if kind == 'conv' else 1}"
    return f"{place}.{kind}{index}"


def check_layers(names: Iterable[str]) -> None:
    """ValueError at a layer, with weights or without, that these networks haven't; it names what has it where known."""
    found = list(names)
    unknown = [name for name in found if module_of(name) is None and not WEIGHTLESS.fullmatch(name)]
    if not unknown:
        return
    other = next((what for mark, what in OTHERS.items() if any(mark in name for name in unknown)), None)
    if other == OTHERS["_preact_"]:
        blocks = sum(name.endswith("_3_conv") for name in found)
        other = f"ResNet{3 * blocks + 2}V2 (pre-activation)"
    if other:
        raise ValueError(f"these are weights of {other}; {READ}")
    more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
    raise ValueError(
        f"this Keras model has the layer {unknown[0]!r}{more}, which Keras Applications' ResNet50, 101 and 152 haven't; "
        "their last is 'predictions'. A head of your own is read as the 'predictions' of such a model with its `classes`"
    )


def class_of(place: str) -> str:
    """The class of the layer at a place of Keras 3's files: "conv2d_12" → "conv2d"."""
    return re.sub(r"_\d+$", "", place)


def check_classes(variables_at: Mapping[str, int]) -> None:
    """ValueError at a class of layers that these networks haven't, or a number of variables that such a layer hasn't."""
    for place, count in variables_at.items():
        kind = class_of(place)
        if kind not in CLASSES and kind not in WEIGHTLESS_CLASSES:
            what = (
                f"are weights of {OTHER_CLASSES[kind]}" if kind in OTHER_CLASSES else f"have a layer of the class {kind!r}"
            )
            raise ValueError(f"these {what}; {READ}")
        if count and count not in COUNTS.get(kind, ()):
            raise ValueError(f"the layer at {place!r} has {count} variables, which none of ResNet50, 101 and 152 has")


def layers_by_place(kernels: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """The name of the layer at each place ("conv2d_12" → "conv3_block1_1_conv"), by the order of layers.

    `kernels` are the shapes of the first variable of each layer that has any. Raises ValueError where shapes or numbers of
    layers aren't those of a ResNet of Keras Applications.
    """
    places = {kind: sorted((p for p in kernels if class_of(p) == kind), key=lambda p: (len(p), p)) for kind in CLASSES}
    blocks = blocks_of([kernels[place] for place in places["conv2d"]])
    convs, norms, heads = (len(places[kind]) for kind in CLASSES)
    if norms == convs - len(blocks):
        raise ValueError(f"these are weights of ResNet{3 * sum(blocks) + 2}V2 (pre-activation); {READ}")
    if norms != convs:
        raise ValueError(
            f"these are {norms} norms for {convs} convolutions, and a ResNet of Keras Applications has one for each"
        )
    if heads > 1:
        raise ValueError(f"these have {heads} dense layers, and a ResNet of Keras Applications has one, 'predictions'")
    names = layers(blocks)
    return {
        place: name
        for kind, end in CLASSES.items()
        for place, name in zip(places[kind], (name for name in names if name.endswith(end)), strict=False)
    }


def blocks_of(kernels: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The blocks of each stage, from the shapes [height, width, in, out] of all kernels in the order of layers.

    A projection, the third of a block's four kernels, begins a stage. Raises ValueError at a kernel where no block begins.
    """
    if any(len(kernel) != 4 for kernel in kernels):
        raise ValueError("these are of no ResNet of Keras Applications: the kernel of a convolution hasn't four axes")
    blocks: list[int] = []
    done = 1
    while done < len(kernels):
        width_in, width = kernels[done - 1][-1], kernels[done][-1]
        first, second, last = (1, 1, width_in, width), (3, 3, width, width), (1, 1, width, 4 * width)
        if tuple(kernels[done : done + 4]) == (first, second, (1, 1, width_in, 4 * width), last):
            blocks.append(1)
            done += 4
        elif blocks and tuple(kernels[done : done + 3]) == (first, second, last):
            blocks[-1] += 1
            done += 3
        else:
            shape = "×".join(map(str, kernels[done]))
            raise ValueError(
                f"these are of no ResNet of Keras Applications: no block begins with convolution {done + 1}, {shape}"
            )
    if not blocks:
        raise ValueError("these are of no ResNet of Keras Applications: they have no convolutions of blocks")
    return tuple(blocks)


def recognises(names: Iterable[str]) -> bool:
    """By a layer of a block: LAYER/VARIABLE. Those of ResNetV2 and DenseNet are alike, which `to_ours` refuses by name."""
    return any(LAYER.fullmatch(name.split("/")[0]) or "_preact_bn/" in name for name in names)


def to_ours(weights: Weights) -> Taken:
    """Our names and layouts; a convolution's bias goes into its norm: running_mean = moving_mean − bias.

    Raises ValueError at a layer or variable that isn't known.
    """
    dropped = tuple(name for name in weights if DROPPED.fullmatch(name))
    kept = {name: array for name, array in weights.items() if not DROPPED.fullmatch(name)}
    check_layers(dict.fromkeys(name.rpartition("/")[0] for name in kept))
    biases = {name: array for name, array in kept.items() if name.endswith("_conv/bias")}
    state = dict(_ours(name, array) for name, array in kept.items() if name not in biases)
    for name, bias in biases.items():
        layer = name.removesuffix("_conv/bias")
        mean = f"{module_of(f'{layer}_bn')}.running_mean"
        if mean not in state or state[mean].shape != bias.shape:
            raise ValueError(f"the bias {name} {list(bias.shape)} has no {layer}_bn/moving_mean of its shape to go into")
        state[mean] = state[mean] - bias
    return Taken(state, dropped, tuple(biases))


def _ours(name: str, array: np.ndarray) -> tuple[str, np.ndarray]:
    """A weight's name and array here; a kernel is a transposed view."""
    layer, _, variable = name.rpartition("/")
    module, known = module_of(layer), variables(layer)
    if module is None or variable not in known:
        raise ValueError(f"this Keras model has the weight {name!r}; the layer {layer!r} has {', '.join(known)}")
    if variable == "bias":
        return f"{module}.bias", array
    if variable != "kernel":
        return f"{module}.{NORM[variable]}", array
    if array.ndim != (2 if module == "fc" else 4):
        raise ValueError(f"the kernel {name} has the shape {list(array.shape)}, which isn't that of its kind of layer")
    return f"{module}.weight", array.T if module == "fc" else array.transpose(3, 2, 0, 1)


def from_ours(weights: Weights, net: Architecture) -> State:
    """Keras' names in its order, kernels as transposed views, the convolutions' biases 0. Counters have no place there."""
    found: State = {}
    for layer in layers(net.blocks):
        module = module_of(layer)
        if layer.endswith("_bn"):
            found |= {f"{layer}/{theirs}": weights[f"{module}.{ours}"] for theirs, ours in NORM.items()}
            continue
        kernel = weights[f"{module}.weight"]
        found[f"{layer}/kernel"] = kernel.T if kernel.ndim == 2 else kernel.transpose(2, 3, 1, 0)
        found[f"{layer}/bias"] = weights["fc.bias"] if kernel.ndim == 2 else np.zeros(len(kernel), np.float32)
    return found


def candidates(net: Architecture) -> tuple[Architecture, ...]:
    """The one: strides in the first 1×1, Keras' epsilon, momentum (its 0.99 keeps, ours renews) and initialisation."""
    theirs = replace(net, stride_in_3x3=False, padding="symmetric", norm_epsilon=EPSILON, norm_momentum=0.01)
    return (replace(theirs, norm_debias=False, initialisation="xavier"),)


def why_not(net: Architecture) -> str | None:
    """Why none of the three can be this network."""
    reasons = (
        (net.block != "bottleneck", "its blocks are bottlenecks, and these are basic"),
        (net.preactivation, "its blocks normalise after the convolution, not before (pre-activation)"),
        (net.stem != "imagenet", f"its stem is the 7×7 convolution and a pool, and this one's is {net.stem!r}"),
        (net.padding == "same", "it pads symmetrically, not as TensorFlow's SAME, which puts the odd pixel after"),
        (net.shortcut != "B", f"its shortcuts are option B, and these are {net.shortcut}"),
        (net.pool_shortcut, "its projections stride themselves, and before these a pool does (ResNet-D)"),
        (net.groups > 1, f"its 3×3 convolutions are of one group, and these of {net.groups}"),
        (net.inner_width(0) != net.width, "its 3×3 convolutions are as wide as its stage, and these aren't"),
        (net.width != 64, f"it starts with 64 channels, and this one with {net.width}"),
        (net.blocks not in BLOCKS, f"it is ResNet50, 101 or 152, and none has {'-'.join(map(str, net.blocks))} blocks"),
        (net.stride_in_3x3, "its bottlenecks stride in the first 1×1, these in the 3×3"),
    )
    return next((reason for holds, reason in reasons if holds), None)


def configured(configuration: Mapping[str, Any], shapes: Shapes) -> Configured:
    """ImageNet's preprocessing where there are its 1000 classes and 3 channels (shapes under our names); else nothing.

    It is `keras.applications.resnet.preprocess_input`: BGR, the mean taken off, no scaling. Of resizing Keras itself says
    nothing; 224 of 256 pixels is how such weights are measured.
    """
    imagenet = shapes.get("fc.bias") == (1000,) and shapes.get("conv1.weight", ())[1:2] == (3,)
    return Configured(preprocessing=PREPROCESSING if imagenet else None)


def not_carried(model: Model) -> tuple[str, ...]:
    """Keras' files hold weights and layers alone."""
    own = model.preprocessing not in (None, PREPROCESSING)
    return ("the names of the classes", *(["the preprocessing"] if own else []))


ECOSYSTEM = Ecosystem(
    name="keras",
    title="Keras Applications",
    conventions=Conventions(
        "symmetric", "first 1×1", EPSILON, "HWIO", "BGR, ImageNet's mean taken off, no scaling; 224 pixels"
    ),
    recognises=recognises,
    to_ours=to_ours,
    from_ours=from_ours,
    candidates=candidates,
    why_not=why_not,
    configured=configured,
    not_carried=not_carried,
    forms=(".weights.h5", ".keras", ".h5"),
)
