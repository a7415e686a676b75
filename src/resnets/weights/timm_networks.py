"""timm's names of residual networks: those of its `resnet.py` that are networks here, and the arguments that change one."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from resnets.architecture import Architecture

BASIC = {"18": (2, 2, 2, 2), "34": (3, 4, 6, 3)}
BOTTLENECK = {"26": (2, 2, 2, 2), "50": (3, 4, 6, 3), "101": (3, 4, 23, 3), "152": (3, 8, 36, 3), "200": (3, 24, 36, 3)}
OLD = ((r"^(tv|ssl|swsl|ig|gluon)_", ""), (r"_v1b$", ""), (r"_v1([cds])$", r"\1"))  # names from before timm's tags
ARGUMENTS: dict[str, Any] = {  # those of `model_args` that a network here has one value of
    "output_stride": 32,
    "global_pool": "avg",
    "replace_stem_pool": False,
    "block_reduce_first": 1,
    "down_kernel_size": 1,
    "channels": [64, 128, 256, 512],
    "act_layer": "relu",
    "norm_layer": "batchnorm2d",
    "aa_layer": None,
    "block_args": None,
}
TRAINING = ("drop_rate", "drop_path_rate", "drop_block_rate", "zero_init_last", "pretrained", "scriptable", "exportable")


def _table() -> dict[str, Architecture]:
    """The networks of timm's `resnet.py` that are networks here, by its names."""
    basic = {f"resnet{depth}": Architecture("basic", blocks) for depth, blocks in BASIC.items()}
    bottleneck = {
        f"resnet{depth}": Architecture("bottleneck", blocks, stride_in_3x3=True) for depth, blocks in BOTTLENECK.items()
    }
    plain = basic | bottleneck
    deep = {f"{name}c": replace(net, stem="deep") for name, net in plain.items() if name[-3:] in ("t50", "101", "152")}
    pooled = {f"{name}d": replace(net, stem="deep", pool_shortcut=True) for name, net in plain.items()}
    wide = {f"wide_resnet{depth}_2": replace(plain[f"resnet{depth}"], width_factor=2) for depth in ("50", "101")}
    cardinal = {
        f"resnext{depth}_{groups}x{each}d": replace(plain[f"resnet{depth}"], groups=groups, group_width=each)
        for depth, groups, each in (
            ("50", 32, 4), ("101", 32, 4), ("101", 32, 8), ("101", 32, 16), ("101", 32, 32), ("101", 64, 4)
        )
    }  # fmt: skip
    both = {"resnext50d_32x4d": replace(pooled["resnet50d"], groups=32, group_width=4)}
    return plain | deep | pooled | wide | cardinal | both


TABLE = _table()


class Named(NamedTuple):
    """A network as timm's `create_model` takes it."""

    name: str
    arguments: dict[str, Any]  # those that change it; none where it has a name of its own


def named_in_timm(net: Architecture) -> Named:
    """Of a network that `why_not` lets through, whatever its channels and classes."""
    for name, known in TABLE.items():
        if _layers(known) == _layers(net):
            return Named(name, {})
    arguments: dict[str, Any] = {"layers": list(net.blocks)}
    if net.block == "bottleneck":
        arguments |= {"cardinality": net.groups, "base_width": net.inner_width(0) // net.groups}
    if net.stem == "deep":
        arguments |= {"stem_type": "deep", "stem_width": net.width // 2}
    return Named("resnet50" if net.block == "bottleneck" else "resnet18", arguments | {"avg_down": net.pool_shortcut})


def _layers(net: Architecture) -> tuple[Any, ...]:
    return net.block, net.blocks, net.stem, net.pool_shortcut, net.groups, net.inner_width(0)


def network_of(config: Mapping[str, Any]) -> Architecture:
    """The network of a `config.json` in timm's present form. Raises ValueError, naming the key, where it is none here."""
    name = config["architecture"].partition(".")[0]
    for old, new in OLD:
        name = re.sub(old, new, name)
    if name not in TABLE:
        raise ValueError(
            f"architecture is {config['architecture']!r}, and of timm's networks these are read: {', '.join(TABLE)}"
        )
    said = {key: value for key, value in (config.get("model_args") or {}).items() if key not in TRAINING}
    pool = config.get("global_pool") or "avg"
    for key, value in {"global_pool": pool, **{key: said.pop(key) for key in ARGUMENTS if key in said}}.items():
        if (list(value) if isinstance(value, tuple) else value) != ARGUMENTS[key]:
            raise ValueError(f"{key} is {value!r}, and a network here has {ARGUMENTS[key]!r}")
    classes = said.pop("num_classes", config.get("num_classes", 1000))
    channels = said.pop("in_chans", None) or (config["pretrained_cfg"].get("input_size") or [3])[0]
    if not classes:
        raise ValueError("num_classes is 0: features without classes")
    return replace(_changed(TABLE[name], said), channels=channels, classes=classes)


def _changed(net: Architecture, said: Mapping[str, Any]) -> Architecture:
    """The network with what `model_args` changes."""
    groups, width = said.get("cardinality", net.groups), said.get("base_width", net.inner_width(0) // net.groups)
    stem = said.get("stem_type", "deep" if net.stem == "deep" else "")
    unknown = sorted(said.keys() - {"layers", "cardinality", "base_width", "stem_type", "stem_width", "avg_down"})
    if unknown:
        raise ValueError(f"{unknown[0]} is {said[unknown[0]]!r}, which has no place in a network here")
    if stem not in ("", "deep") or (stem == "deep" and said.get("stem_width", 32 if net.stem == "deep" else 64) != 32):
        raise ValueError(
            f"stem_type is {stem!r} and stem_width {said.get('stem_width')}; here a deep stem is 32, 32 and 64 wide"
        )
    factor = groups == 1 and width % net.width == 0
    return replace(
        net,
        blocks=tuple(said.get("layers", net.blocks)),
        stem="deep" if stem == "deep" else "imagenet",
        pool_shortcut=said.get("avg_down", net.pool_shortcut),
        groups=groups,
        width_factor=width // net.width if factor else 1,
        group_width=0 if factor else width,
    )
