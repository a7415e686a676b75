"""timm: its names are torchvision's, with a deep stem too. A folder's `config.json` says the rest."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from resnets.architecture import Architecture
from resnets.data.preprocessing import RESAMPLING, Fit, Preprocessing
from resnets.model import Model
from resnets.weights.ecosystem import Configured, Conventions, Ecosystem, Shapes, State, Taken, Weights
from resnets.weights.ecosystems.huggingface import named_classes
from resnets.weights.ecosystems.torchvision import standard_why_not
from resnets.weights.processors import of_each, without_place
from resnets.weights.timm_networks import named_in_timm, network_of

WRAPPED = "timm_model."  # before every name in a folder that transformers wrote of a timm model
FITS: dict[str, Fit] = {"center": "crop", "squash": "squash"}  # its "border" rounds the rim otherwise than a "pad" here
DEFAULTS = {  # of `PretrainedCfg`, where a config.json is silent
    "input_size": (3, 224, 224),
    "interpolation": "bicubic",
    "crop_pct": 0.875,
    "crop_mode": "center",
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
}


def recognises(names: Iterable[str]) -> bool:
    """By the deep stem; its other names are torchvision's."""
    found = set(names)
    return {"conv1.0.weight", "conv1.6.weight"} <= found or any(name.startswith(WRAPPED) for name in found)


def to_ours(weights: Weights) -> Taken:
    """The same dictionary; of a folder that transformers wrote, without `timm_model.` before every name."""
    return Taken({name.removeprefix(WRAPPED): array for name, array in weights.items()})


def from_ours(weights: Weights, net: Architecture) -> State:
    """The same dictionary."""
    return dict(weights)


def candidates(net: Architecture) -> tuple[Architecture, ...]:
    """All of them stride in the 3×3. Raises ValueError for shapes that none has."""
    found = replace(net, stride_in_3x3=net.block == "bottleneck")
    reason = why_not(found)
    if reason is not None:
        raise ValueError(f"these are no weights of a ResNet of timm: {reason}")
    return (found,)


def why_not(net: Architecture) -> str | None:
    """Why timm's ResNet can't be this network; its channels are free."""
    if net.stem == "cifar":
        return "its stem is a 7×7 convolution or three 3×3, and a pool, and this one's is a 3×3 convolution"
    return standard_why_not(replace(net, channels=3))


def configured(configuration: Mapping[str, Any], shapes: Shapes) -> Configured:
    """What a folder's `config.json` says, as timm writes it or wrote it before 2023, with all keys at the top.

    Raises ValueError, naming the key, where it has no place here.
    """
    document = configuration.get("config.json")
    if document is None:
        return Configured()
    try:
        config = _split(document)
        net = network_of(config)
        return Configured(net, _classes(config, net.classes), _preprocessing(config["pretrained_cfg"], net.channels))
    except (TypeError, AttributeError, KeyError, IndexError) as error:
        raise ValueError(f"config.json isn't one of timm: {type(error).__name__}: {error}") from None
    except ValueError as error:
        raise ValueError(f"config.json: {error}") from None


def _split(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document in timm's present form: architecture, model_args, label_names, …, and pretrained_cfg."""
    if not isinstance(document.get("architecture"), str):
        raise ValueError("it names no architecture, as timm's do")
    if "pretrained_cfg" in document:
        weights = document["pretrained_cfg"] or {}
        return {
            **{key: weights[key] for key in ("num_classes", "label_names", "label_descriptions") if key in weights},
            **document,
        }
    return {**document, "label_names": document.get("labels", document.get("label_names")), "pretrained_cfg": dict(document)}


def _classes(config: Mapping[str, Any], count: int) -> tuple[str, ...] | None:
    """The classes' descriptions, where there are any; else their names, an ImageNet synset's being its first lemma."""
    from resnets.weights.imagenet import NAMES, SYNSETS

    given = config.get("label_names")
    if not given:
        return None
    if isinstance(given, Mapping):  # number → name, with gaps
        names = [str(given.get(str(index), index)) for index in range(count)]
    else:
        names = [str(name) for name in given]
    if len(names) != count:
        raise ValueError(f"label_names has {len(names)} names, and num_classes is {count}")
    described = dict(zip(SYNSETS, NAMES, strict=True)) | (config.get("label_descriptions") or {})
    return named_classes([str(described.get(name, name)) for name in names])


def _preprocessing(weights: Mapping[str, Any], channels: int) -> Preprocessing | None:
    """What `timm.data.create_transform` does; None where nothing of it is said, or images have 2 or more than 3 channels."""
    if not describes(weights) or channels not in (1, 3):
        return None
    said = DEFAULTS | {key: value for key, value in weights.items() if value is not None}
    (height, width), share = said["input_size"][1:], said["crop_pct"]
    fit = FITS.get(said["crop_mode"])
    if height != width:
        raise ValueError(f"input_size is {said['input_size']}, and what a network here reads is a square")
    if said["interpolation"] not in RESAMPLING:
        raise ValueError(f"interpolation is {said['interpolation']!r}, and here it is one of {', '.join(RESAMPLING)}")
    resized = math.floor(height / share)
    if fit is None or resized < height or (fit != "crop" and resized != height):
        raise ValueError(
            f"crop_mode is {said['crop_mode']!r} and crop_pct {share}; here an image is cropped in the middle (center), or "
            "squashed whole (squash with a crop_pct of 1)"
        )
    mean, deviation = (of_each(said[key], channels) for key in ("mean", "std"))
    if len(mean) != channels or len(deviation) != channels:  # as timm has it for images of another number of channels
        mean, deviation = ((sum(numbers) / len(numbers),) * channels for numbers in (mean, deviation))
    return Preprocessing(
        size=height,
        crop=height / resized,
        fit=fit,
        interpolation=said["interpolation"],
        colour="grey" if channels == 1 else "RGB",
        mean=mean,
        deviation=deviation,
    )


def describes(weights: Mapping[str, Any]) -> bool:
    """Whether a `pretrained_cfg` says anything of how images are prepared, beyond their size."""
    return any(weights.get(key) is not None for key in DEFAULTS if key != "input_size")


def configuration(model: Model) -> dict[str, Any]:
    """`config.json`, for `timm.create_model("local-dir:FOLDER", pretrained=True)` and `timm.data.create_transform`."""
    from resnets.weights.imagenet import NAMES, SYNSETS

    net, how = model.architecture, model.preprocessing
    name, arguments = named_in_timm(net)
    size = how.size if how is not None else net.natural_input
    imagenet = model.classes == NAMES
    config = {
        "architecture": name,
        "num_classes": net.classes,
        "num_features": net.features,
        "global_pool": "avg",
        "label_names": list(SYNSETS if imagenet else model.classes),
        **({"label_descriptions": dict(zip(SYNSETS, NAMES, strict=True))} if imagenet else {}),
        **({"model_args": arguments} if arguments else {}),
        "pretrained_cfg": {
            "custom_load": False,
            "input_size": [net.channels, size, size],
            "fixed_input_size": False,
            **({} if how is None or without_place(how) else _described(how)),
            "num_classes": net.classes,
            "pool_size": None,
            "first_conv": "conv1.0" if net.stem == "deep" else "conv1",
            "classifier": "fc",
        },
    }
    return {"config.json": config}


def _described(how: Preprocessing) -> dict[str, Any]:
    return {
        "interpolation": how.interpolation,
        "crop_pct": share_of(how.size, how.resized),
        "crop_mode": next(mode for mode, fit in FITS.items() if fit == how.fit),
        "mean": [mean / (255 * how.scale) for mean in how.mean],
        "std": [deviation / (255 * how.scale) for deviation in how.deviation],
    }


def share_of(size: int, resized: int) -> float:
    """The number of fewest digits whose ⌊size / share⌋ is `resized`."""
    shares = ((math.floor(size / resized * 10**digits) - less) / 10**digits for digits in range(1, 16) for less in (0, 1))
    return next(share for share in (1.0, *shares) if share and math.floor(size / share) == resized)


def not_carried(model: Model) -> tuple[str, ...]:
    """What of the preprocessing `timm.data.create_transform` doesn't do; it does its own default then."""
    how = model.preprocessing
    why = "which isn't known" if how is None else f"for {' and '.join(without_place(how))}"
    if how is not None and not without_place(how):
        return ()
    return (f"the preprocessing, {why}: config.json says none, and timm takes its default",)


ECOSYSTEM = Ecosystem(
    name="timm",
    title="timm",
    conventions=Conventions("symmetric", "3×3", 1e-5, "OIHW", "as config.json says"),
    recognises=recognises,
    to_ours=to_ours,
    from_ours=from_ours,
    candidates=candidates,
    why_not=why_not,
    configured=configured,
    configuration=configuration,
    not_carried=not_carried,
    forms=("folder", ".safetensors", ".pth"),
)
