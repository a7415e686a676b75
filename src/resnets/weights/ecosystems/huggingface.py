"""Hugging Face transformers: `ResNetForImageClassification`, whose folder says stride, classes and preprocessing too.

`config.json` has the architecture and the classes' names, `preprocessor_config.json` what happens to an image.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from resnets.architecture import Architecture
from resnets.model import Model
from resnets.weights.ecosystem import Configured, Conventions, Ecosystem, Shapes, State, Taken, Weights
from resnets.weights.processors import preprocessing_of, processor_of, without_place

BLOCK = r"encoder\.stages\.(\d+)\.layers\.(\d+)\."
CONFIG = {  # of `ResNetConfig`, where config.json is silent
    "model_type": "resnet",
    "num_channels": 3,
    "embedding_size": 64,
    "hidden_sizes": [256, 512, 1024, 2048],
    "depths": [3, 4, 6, 3],
    "layer_type": "bottleneck",
    "hidden_act": "relu",
    "downsample_in_first_stage": False,
    "downsample_in_bottleneck": False,
}
LABELS = 2  # of `PretrainedConfig`, where nothing says how many


def recognises(names: Iterable[str]) -> bool:
    """By the name of the stem, which no other library has."""
    return any("embedder.embedder.convolution." in name for name in names)


def to_ours(weights: Weights) -> Taken:
    """`resnet.encoder.stages.0.layers.0.layer.0.convolution` → `layer1.0.conv1`; also of a `ResNetModel`, which has no
    `resnet.` before its names and no classifier."""
    return Taken({_ours(name): array for name, array in weights.items()})


def _ours(name: str) -> str:
    place, _, part = name.removeprefix("resnet.").rpartition(".")
    if found := re.fullmatch(BLOCK + r"layer\.(\d+)\.(convolution|normalization)", place):
        stage, block, layer, what = found.groups()
        return f"layer{int(stage) + 1}.{block}.{'conv' if what == 'convolution' else 'bn'}{int(layer) + 1}.{part}"
    if found := re.fullmatch(BLOCK + r"shortcut\.(convolution|normalization)", place):
        stage, block, what = found.groups()
        return f"layer{int(stage) + 1}.{block}.downsample.{int(what == 'normalization')}.{part}"
    known = {"embedder.embedder.convolution": "conv1", "embedder.embedder.normalization": "bn1", "classifier.1": "fc"}
    if place not in known:
        what = "a RegNet" if name.startswith("regnet.") else "no ResNet"
        raise ValueError(f"the weight {name} is of {what} of transformers; its ResNetForImageClassification is what is read")
    return f"{known[place]}.{part}"


def from_ours(weights: Weights, net: Architecture) -> State:
    """The names of `ResNetForImageClassification`."""
    return {_theirs(name): array for name, array in weights.items()}


def _theirs(name: str) -> str:
    place, _, part = name.rpartition(".")
    fixed = {"conv1": "resnet.embedder.embedder.convolution", "bn1": "resnet.embedder.embedder.normalization"}
    if place == "fc":
        return f"classifier.1.{part}"
    if place in fixed:
        return f"{fixed[place]}.{part}"
    stage, block, rest = place.removeprefix("layer").split(".", 2)
    before = f"resnet.encoder.stages.{int(stage) - 1}.layers.{block}"
    if rest.startswith("downsample."):
        return f"{before}.shortcut.{'convolution' if rest.endswith('0') else 'normalization'}.{part}"
    what, index = ("convolution", rest[4:]) if rest.startswith("conv") else ("normalization", rest[2:])
    return f"{before}.layer.{int(index) - 1}.{what}.{part}"


def candidates(net: Architecture) -> tuple[Architecture, ...]:
    """A bottleneck's stride is what `downsample_in_bottleneck` says, the 3×3 first as its default is; a basic block has one.

    Raises ValueError for shapes that no `ResNetForImageClassification` has.
    """
    reason = why_not(net)
    if reason is not None:
        raise ValueError(f"these are no weights of transformers' ResNetForImageClassification: {reason}")
    if net.block == "basic":
        return (replace(net, stride_in_3x3=False),)
    return tuple(replace(net, stride_in_3x3=in_3x3) for in_3x3 in (True, False))


def why_not(net: Architecture) -> str | None:
    """Why `ResNetForImageClassification` can't be this network; its depths, width and channels are free."""
    reasons = (
        (net.stem != "imagenet", f"its stem is the 7×7 convolution and a pool, and this one's is {net.stem!r}"),
        (net.preactivation, "its blocks normalise after the convolution, not before (pre-activation)"),
        (net.padding == "same", "it pads symmetrically: TensorFlow's SAME, which puts the odd pixel after, isn't there"),
        (net.shortcut != "B", f"its shortcuts are option B, and these are {net.shortcut}"),
        (net.pool_shortcut, "its projections have the stride, and these a pool before them (ResNet-D)"),
        (
            net.groups > 1 or net.inner_width(0) != net.width,
            "its bottlenecks are the paper's, without groups (ResNeXt) or extra width (Wide ResNet)",
        ),
    )
    return next((reason for holds, reason in reasons if holds), None)


def configured(configuration: Mapping[str, Any], shapes: Shapes) -> Configured:
    """What the folder's `config.json` and `preprocessor_config.json` say; a missing file leaves its part unsaid.

    Raises ValueError, naming the file and the key, where it has no place here.
    """
    config, processor = (configuration.get(f"{name}.json") for name in ("config", "preprocessor_config"))
    try:
        net = None if config is None else _architecture(config, shapes)
        classes = None if config is None else _classes(config)
    except (TypeError, AttributeError) as error:
        raise ValueError(f"config.json isn't one of transformers' ResNet: {error}") from None
    except ValueError as error:
        raise ValueError(f"config.json: {error}") from None
    channels = 3 if net is None else net.channels
    try:
        how = None if processor is None or channels not in (1, 3) else preprocessing_of(processor, channels)
    except (TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"preprocessor_config.json isn't one of an image processor: {error}") from None
    except ValueError as error:
        raise ValueError(f"preprocessor_config.json: {error}") from None
    return Configured(net, classes, how)


def _architecture(config: Mapping[str, Any], shapes: Shapes) -> Architecture:
    said = CONFIG | {key: value for key, value in config.items() if value is not None}
    if said["model_type"] != "resnet":
        raise ValueError(f"model_type is {said['model_type']!r}, and a 'resnet' is what is read")
    if said["downsample_in_first_stage"]:
        raise ValueError("downsample_in_first_stage is true; here no network halves the map in its first stage")
    if said["hidden_act"] != "relu":
        raise ValueError(f"hidden_act is {said['hidden_act']!r}, and a network here has relu")
    block, width, hidden = said["layer_type"], said["embedding_size"], list(said["hidden_sizes"])
    if block not in ("basic", "bottleneck"):
        raise ValueError(f"layer_type is basic or bottleneck, not {block!r}")
    head = shapes.get("fc.weight") or shapes.get("classifier.1.weight")
    labels = len(said.get("id2label") or ()) or said.get("num_labels") or (head[0] if head else LABELS)
    net = Architecture(
        block,
        tuple(said["depths"]),
        width=width,
        stride_in_3x3=block == "bottleneck" and not said["downsample_in_bottleneck"],
        channels=said["num_channels"],
        classes=labels,
    )
    wanted = _hidden_sizes(net)
    if hidden != wanted:
        raise ValueError(f"hidden_sizes is {hidden}, and with embedding_size {width} a network here has {wanted}")
    return net


def _hidden_sizes(net: Architecture) -> list[int]:
    return [net.width * net.expansion * 2**stage for stage in range(len(net.blocks))]


def _classes(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The names in `id2label`, by number."""
    names = {int(index): str(name) for index, name in (config.get("id2label") or {}).items()}
    if lacking := sorted(set(range(len(names))) - names.keys()):
        raise ValueError(f"id2label names {len(names)} classes, and number {lacking[0]} isn't among them")
    return named_classes([names[index] for index in range(len(names))])


def named_classes(names: Sequence[str]) -> tuple[str, ...] | None:
    """The names, a second "crane" as "crane (2)", as a class here is its name; None where they are `LABEL_0`, …, which is
    what transformers calls classes without names."""
    if all(re.fullmatch(r"LABEL_\d+", name) for name in names):
        return None
    taken: dict[str, None] = {}
    for name in names:
        count, free = 1, name
        while free in taken:
            count += 1
            free = f"{name} ({count})"
        taken[free] = None
    return tuple(taken)


def configuration(model: Model) -> dict[str, Any]:
    """`config.json`, and `preprocessor_config.json` where transformers has a processor that does what the model needs."""
    net, classes = model.architecture, model.classes
    config = {
        "architectures": ["ResNetForImageClassification"],
        **CONFIG,
        "num_channels": net.channels,
        "embedding_size": net.width,
        "hidden_sizes": _hidden_sizes(net),
        "depths": list(net.blocks),
        "layer_type": net.block,
        "downsample_in_bottleneck": net.block == "bottleneck" and not net.stride_in_3x3,
        "id2label": {str(index): name for index, name in enumerate(classes)},
        "label2id": {name: index for index, name in enumerate(classes)},
        "dtype": "float32",
    }
    processor = processor_of(model.preprocessing)
    return {"config.json": config} | ({} if processor is None else {"preprocessor_config.json": processor})


def not_carried(model: Model) -> tuple[str, ...]:
    """What of the preprocessing no processor of transformers does."""
    how = model.preprocessing
    if how is None:
        return ("the preprocessing, which isn't known: there is no preprocessor_config.json",)
    lacking = without_place(how)
    if lacking:
        return (f"the preprocessing, for {' and '.join(lacking)}: there is no preprocessor_config.json",)
    reasons = (
        (
            how.interpolation == "lanczos",
            "interpolation 'lanczos' where torchvision is installed: its processors say so and take bicubic",
        ),
        (
            how.fit == "crop" and (how.resized - how.size) % 4 == 3,
            "the middle of an image to the pixel: its processors cut a pixel further up and left",
        ),
    )
    return tuple(reason for holds, reason in reasons if holds)


ECOSYSTEM = Ecosystem(
    name="huggingface",
    title="Hugging Face transformers",
    conventions=Conventions("symmetric", "as configured", 1e-5, "OIHW", "as preprocessor_config.json says"),
    recognises=recognises,
    to_ours=to_ours,
    from_ours=from_ours,
    candidates=candidates,
    why_not=why_not,
    configured=configured,
    configuration=configuration,
    not_carried=not_carried,
    forms=("folder", ".safetensors"),
)
