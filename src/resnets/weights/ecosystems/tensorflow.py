"""TensorFlow 1: checkpoints of the paper's bottleneck networks in plain TensorFlow, whose blocks are called `bottlencek`.

Under a scope (`resnet50`, or as the caller named it) lie `conv1/kernel`, `bn1/…`, `block2…5/bottlencek1…/conv_1…4/kernel`
and `bn_1…4/…`, and `fc6/{weight,bias}`; conv_4 and bn_4 are the projection. Kernels are [height, width, in, out]. It pads as
SAME, strides in the first 1×1, and its moving averages are zero-debiased with decay 0.999. From training each average has
two companions: `biased`, the average before debiasing, and `local_step`, the number of updates.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from resnets.architecture import Architecture
from resnets.model import Model
from resnets.weights.ecosystem import Conventions, Ecosystem, State, Taken, Weights

DECAY = 0.999
COUNTER = "num_batches_tracked"
NORM = {"beta": "bias", "gamma": "weight", "moving_mean": "running_mean", "moving_variance": "running_var"}  # theirs → ours
OURS = {ours: theirs for theirs, ours in NORM.items()}
AVERAGES = ("moving_mean", "moving_variance")
WEIGHT = re.compile(
    r"(?:(?P<scope>.+)/)?(?:(?P<layer>conv1|bn1|fc6)|block(?P<block>[2-9]|[1-9]\d+)/bottlencek(?P<unit>[1-9]\d*)/"
    r"(?P<kind>conv|bn)_(?P<number>[1-4]))/(?P<part>kernel|weight|bias|beta|gamma|moving_mean|moving_variance)"
)
SLOT = re.compile(  # what optimizers, and averages over weights, keep beside a weight
    r"/(?:Momentum|Adam|AdamW|AdaMax|RMSProp|Adagrad|Adadelta|Ftrl|ExponentialMovingAverage)(?:_\d+)?(?:/(?:biased|local_step))?$"
)
ALONE = re.compile(r"(?:.+/)?(?:global_step|beta[12]_power(?:_\d+)?)")  # what training keeps once
SLIM = re.compile(r"resnet_v[12]_\d+/|/bottleneck_v[12]/")


class Named(NamedTuple):
    """What the name of a weight says."""

    scope: str
    block: int  # 2, 3, …; 0: none
    unit: int
    part: str  # the last of it
    ours: str


def recognises(names: Iterable[str]) -> bool:
    """By the blocks' misspelt name, which nobody else has."""
    return any(re.search(r"(?:^|/)bottlencek\d+/conv_1/kernel$", name) for name in names)


def to_ours(weights: Weights) -> Taken:
    """Names and layouts of a checkpoint → ours; each `local_step` becomes its norm's counter.

    Optimizers' slots, averages over weights and `global_step` are dropped, and so is a `biased` of another decay than
    0.999: only further training would see it. Raises ValueError where a name is unknown, a weight is missing, or a norm's
    companions contradict each other or its averages.
    """
    slim = next((name for name in weights if SLIM.search(name)), None)
    if slim is not None:
        raise ValueError(
            f"{slim} is a name of TF-Slim's network, which isn't read: it halves the map in the last block of a stage, "
            "where these halve it in the first"
        )
    found = {name: named for name in weights if (named := _named(name))}
    _check_whole(found)
    companions, dropped = _others(weights, found)
    counters, folded, unfit = _counters(weights, found, companions)
    state = {named.ours: _laid_out(name, weights[name], named.part, back=False) for name, named in found.items()}
    return Taken(state | counters, tuple(sorted(dropped + unfit)), tuple(sorted(folded)))


def from_ours(weights: Weights, net: Architecture) -> State:
    """Ours → a checkpoint's, under the scope `resnet50` (by the depth). A norm that was trained has its companions."""
    scope, theirs = f"resnet{net.depth}", {}
    for name, array in weights.items():
        module, last = name.rsplit(".", 1)
        if last == COUNTER:
            continue
        place = f"{scope}/{_place(module)}"
        is_norm = place.rsplit("/", 1)[1].startswith("bn")
        part = OURS[last] if is_norm else last if module == "fc" else "kernel"
        theirs[f"{place}/{part}"] = _laid_out(name, array, part, back=True)
        steps = int(weights.get(f"{module}.{COUNTER}", 0))
        if part in AVERAGES and steps > 0:
            companion = f"{place.rsplit('/', 1)[0]}/{place}/{part}"  # the enclosing scope, and the average's whole name
            theirs[f"{companion}/biased"] = array * _share(steps, array.dtype)
            theirs[f"{companion}/local_step"] = np.array(steps, array.dtype)
    return theirs


def _share(steps: int, kind: np.dtype) -> np.floating:
    """What an average that starts at 0 has of its value after so many updates: 1 − dᵗ, rounded as TensorFlow does it."""
    one, rate, power = (kind.type(number) for number in (1, 1 - DECAY, steps))
    return one - (one - rate) ** power


# Names and layouts


def _named(name: str) -> Named | None:
    """A weight of the network by its name; None for every other name."""
    match = WEIGHT.fullmatch(name)
    if match is None:
        return None
    layer, kind, number, part = match["layer"], match["kind"], match["number"], match["part"]
    kind = kind or layer.rstrip("16")
    if part not in {"conv": ("kernel",), "bn": NORM, "fc": ("weight", "bias")}[kind]:
        return None
    scope, last = match["scope"] or "", NORM.get(part, "bias" if part == "bias" else "weight")
    if layer:
        return Named(scope, 0, 0, part, f"{'fc' if kind == 'fc' else layer}.{last}")
    block, unit = int(match["block"]), int(match["unit"])
    place = f"{kind}{number}" if number != "4" else f"downsample.{('conv', 'bn').index(kind)}"
    return Named(scope, block, unit, part, f"layer{block - 1}.{unit - 1}.{place}.{last}")


def _place(module: str) -> str:
    """`layer1.0.conv2` → `block2/bottlencek1/conv_2`, `fc` → `fc6`."""
    match = re.fullmatch(r"layer(\d+)\.(\d+)\.(?:(conv|bn)(\d)|downsample\.(\d))", module)
    if match is None:
        return "fc6" if module == "fc" else module
    stage, unit, kind, number, shortcut = match.groups()
    kind, number = (kind, number) if kind else (("conv", "bn")[int(shortcut)], "4")
    return f"block{int(stage) + 1}/bottlencek{int(unit) + 1}/{kind}_{number}"


def _laid_out(name: str, array: np.ndarray, part: str, back: bool) -> np.ndarray:
    """[height, width, in, out] → [out, in, height, width], [in, out] → [out, in], or back; `part` is theirs."""
    axes = {"kernel": (2, 3, 1, 0) if back else (3, 2, 0, 1), "weight": (1, 0)}.get(part)
    if axes is None:
        return array
    if array.ndim != len(axes):
        raise ValueError(f"the weight {name} is {list(array.shape)}, where {len(axes)} numbers are wanted")
    return np.ascontiguousarray(array.transpose(axes))


# What is there, and what else


def _check_whole(found: Mapping[str, Named]) -> None:
    """ValueError where there is no network or several, or one lacks a weight. Of fc6 the shapes tell."""
    if not any(named.block for named in found.values()):
        raise ValueError("the checkpoint holds no network whose blocks are called bottlencek, which is the one read here")
    scopes = sorted({named.scope for named in found.values()})
    if len(scopes) > 1:
        raise ValueError(
            f"the checkpoint holds several networks, in the scopes {', '.join(map(repr, scopes))}; save one alone"
        )
    prefix = f"{scopes[0]}/" if scopes[0] else ""
    lacking = next((prefix + name for name in _owed(found.values()) if prefix + name not in found), None)
    if lacking is not None:
        raise ValueError(f"the checkpoint lacks {lacking}")


def _owed(found: Iterable[Named]) -> Iterator[str]:
    """The names, without the scope, that a network with these blocks has before fc6."""
    units: dict[int, int] = {}
    for named in found:
        units[named.block] = max(units.get(named.block, 1), named.unit)
    yield "conv1/kernel"
    yield from (f"bn1/{part}" for part in NORM)
    for block in range(2, max(units) + 1):
        for unit in range(1, units.get(block, 1) + 1):
            for number in range(1, 5 if unit == 1 else 4):  # a stage's first block projects
                yield f"block{block}/bottlencek{unit}/conv_{number}/kernel"
                yield from (f"block{block}/bottlencek{unit}/bn_{number}/{part}" for part in NORM)


def _others(weights: Weights, found: Mapping[str, Named]) -> tuple[dict[tuple[str, str], str], list[str]]:
    """The companions, (average, "biased" or "local_step") → name, and what is dropped. ValueError at any other name."""
    companions: dict[tuple[str, str], str] = {}
    dropped = []
    averages = {name for name, named in found.items() if named.part in AVERAGES}
    for name in sorted(weights.keys() - found.keys()):
        before, _, last = name.rpartition("/")
        average = _ending(before, averages) if last in ("biased", "local_step") else None
        slot = SLOT.search(name)
        if average:
            twin = companions.setdefault((average, last), name)
            if twin != name:
                raise ValueError(f"{name} and {twin} are both the {last} of {average}")
        elif ALONE.fullmatch(name) or (slot and _ending(name[: slot.start()], found)):
            dropped.append(name)
        else:
            raise ValueError(f"{name} is no weight of this network, nor anything that its training is known to keep")
    return companions, dropped


def _ending(name: str, known: Iterable[str]) -> str | None:
    """The known name that this one is, or ends in after a scope."""
    parts = name.split("/")
    return next((end for start in range(len(parts)) if (end := "/".join(parts[start:])) in known), None)


def _counters(
    weights: Weights, found: Mapping[str, Named], companions: Mapping[tuple[str, str], str]
) -> tuple[State, list[str], list[str]]:
    """The counters of norms, the companions that these are of, and those of another decay."""
    counters: State = {}
    folded, unfit, trained = [], [], {average.rpartition("/")[0] for average, _ in companions}  # norms
    for name, named in found.items():
        if named.part not in AVERAGES or name.rpartition("/")[0] not in trained:
            continue
        biased, step = (companions.get((name, last)) for last in ("biased", "local_step"))
        if biased is None or step is None:
            raise ValueError(f"{name} lacks its {'local_step' if biased else 'biased'}, and its norm has such companions")
        counter = f"{named.ours.rsplit('.', 1)[0]}.{COUNTER}"
        steps = _steps(step, weights[step])
        if counters.setdefault(counter, steps) != steps:
            raise ValueError(
                f"{step} is {steps}, and the same norm's other is {counters[counter]}: it is no whole checkpoint"
            )
        fits = _fits(name, weights[name], biased, weights[biased], int(steps))
        (folded if fits else unfit).append(biased)
        folded.append(step)
    return counters, folded, unfit


def _steps(name: str, value: np.ndarray) -> np.ndarray:
    """A `local_step` as a counter, int64."""
    number = float(value.reshape(-1)[0]) if value.size == 1 else float("nan")
    if not (number >= 0 and number.is_integer()):
        raise ValueError(f"{name} is {value.tolist()}, and a number of updates is whole")
    return np.array(int(number), np.int64)


def _fits(name: str, average: np.ndarray, of: str, biased: np.ndarray, steps: int) -> bool:
    """Whether `biased` is this average of decay 0.999; False for another decay, ValueError where it is none of it at all."""
    if biased.shape != average.shape:
        raise ValueError(f"{of} is {list(biased.shape)}, and {name} is {list(average.shape)}")
    finite = np.isfinite(average) & np.isfinite(biased)
    m, b = average[finite].astype(np.float64), biased[finite].astype(np.float64)
    if np.allclose(b, m * _share(steps, m.dtype), 1e-3, 1e-30):
        return True
    share = float(b @ m / (m @ m)) if m.any() else 0.0
    if not (0 < share < 1.001 and steps > 0 and np.allclose(b, m * share, 1e-3, 1e-30)):
        raise ValueError(f"{name} isn't {of} debiased: their numbers have no one ratio, so they aren't of the same moment")
    return False


# What it may be


def candidates(net: Architecture) -> tuple[Architecture, ...]:
    """The one network with these weights there: TensorFlow's padding and norms, and the stride in the first 1×1."""
    norm = {"norm_epsilon": 1e-3, "norm_momentum": 1e-3, "norm_debias": True}
    return (replace(net, stride_in_3x3=False, padding="same", initialisation="xavier", **norm),)


def why_not(net: Architecture) -> str | None:
    """Why this network can't be that one."""
    same_width = net.groups == 1 and net.inner_width(0) == net.width
    reasons = (
        (net.preactivation, "its blocks normalise after the convolution, not before (pre-activation)"),
        (net.block != "bottleneck", "its blocks are bottlenecks, and these are basic"),
        (net.stem != "imagenet", f"its stem is the 7×7 convolution and a pool, and this one's is {net.stem!r}"),
        (net.padding != "same", "it pads as TensorFlow's SAME, these symmetrically"),
        (net.shortcut != "B", f"its shortcuts are option B, and these are {net.shortcut}"),
        (net.stride_in_3x3, "its bottlenecks stride in the first 1×1, these in the 3×3"),
        (net.pool_shortcut, "its projections stride themselves, and before these a pool does (ResNet-D)"),
        (not same_width, "its 3×3 convolutions are of one group and as wide as their stage, and these aren't"),
        (len(net.blocks) != 4 or net.width != 64, "it has four stages from 64 channels"),
    )
    return next((reason for holds, reason in reasons if holds), None)


def not_carried(model: Model) -> tuple[str, ...]:
    """A checkpoint holds numbers alone; the network's own code has the decay of the norms' averages."""
    net = model.architecture
    lost = (
        (model.classes != tuple(map(str, range(net.classes))), "the names of the classes"),
        (model.preprocessing is not None, "the preprocessing"),
        (not net.norm_debias or net.norm_momentum != 1e-3, "how the norms' averages go on in training (there: decay 0.999)"),
    )
    return tuple(what for holds, what in lost if holds)


ECOSYSTEM = Ecosystem(
    name="tensorflow",
    title="TensorFlow 1",
    conventions=Conventions("same", "first 1×1", 1e-3, "HWIO", "none: the caller's own code prepares images"),
    recognises=recognises,
    to_ours=to_ours,
    from_ours=from_ours,
    candidates=candidates,
    why_not=why_not,
    not_carried=not_carried,
    forms=("prefix",),
)
