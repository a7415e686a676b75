"""From a source to a model: which ecosystem, network, classes and preprocessing; what isn't said anywhere is asked for."""

import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from resnets.architecture import Architecture, name_of, named
from resnets.data.preprocessing import Preprocessing
from resnets.graph import weight_shapes
from resnets.model import Model
from resnets.weights import hub
from resnets.weights.ecosystem import Configured, Ecosystem, State, Taken
from resnets.weights.ecosystems import ecosystems
from resnets.weights.imagenet import class_names
from resnets.weights.shapes import COUNTER, architecture_of, check_shapes
from resnets.weights.source import Source, open_source

log = logging.getLogger("resnets")

BACKGROUND = 1001  # logits of TensorFlow-Slim's ImageNet models, whose first class is none
CONSTANTS = ("norm_epsilon", "norm_momentum", "norm_debias", "initialisation")  # what a name of an architecture needn't say


@dataclass(frozen=True)
class Wishes:
    """What the user says of a source; None: to be found out."""

    ecosystem: str | None = None  # --from
    architecture: str | None = None  # --arch
    classes: str | os.PathLike[str] | None = None  # --classes: a file, or "imagenet"
    preprocessing: Preprocessing | None = None  # --preprocessing
    weights: str | None = None  # --weights: plain or ema


@dataclass(frozen=True)
class Reading:
    """A model that was elsewhere's, and what became of its weights on the way."""

    model: Model
    ecosystem: Ecosystem | None  # None: a model of ours, or names of PyTorch that no ecosystem has alone
    source: Source | None  # None: a model of ours
    taken: Taken
    not_finite: int = 0  # numbers among the weights that are none, or infinite


def read(given: str | os.PathLike[str], wishes: Wishes | None = None) -> Reading:
    """The model that a source means: a path, or a name of weights that are fetched.

    Raises ValueError, saying what is wanted, where the source isn't a residual network's, or more than one network has
    its weights and nothing says which; and WorkFailed where a name can't be fetched.
    """
    wishes, known = wishes or Wishes(), Configured()
    if hub.is_name(given):
        given, ecosystem, known = hub.fetched(str(given))
        if wishes.ecosystem not in (None, ecosystem):
            raise ValueError(f"{given} is {ecosystem}'s; leave --from {wishes.ecosystem} out")
        wishes = replace(wishes, ecosystem=ecosystem)
    if wishes.ecosystem is not None and wishes.ecosystem not in ecosystems():
        raise ValueError(f"no ecosystem is called {wishes.ecosystem!r}; there are {', '.join(ecosystems())}")
    opened = open_source(given, wishes.weights)
    if isinstance(opened, Model):
        return Reading(_with_wishes(opened, wishes), None, None, Taken(opened.state), _not_finite(opened.state, Path(given)))
    for words in opened.peeled:
        log.info("%s: %s", opened.path.name, words)
    try:
        return _read(opened, wishes, known)
    except ValueError as error:
        if str(opened.path) in str(error):
            raise
        raise ValueError(f"{opened.path}: {error}") from None


def _read(source: Source, wishes: Wishes, known: Configured) -> Reading:
    ecosystem = _ecosystem(source, wishes)
    taken = Taken(dict(source.weights)) if ecosystem is None else ecosystem.to_ours(source.weights)
    shapes = {name: array.shape for name, array in taken.state.items()}
    files = {
        name: said for name, said in source.configuration.items() if not (wishes.preprocessing and "preprocessor" in name)
    }
    said = Configured() if ecosystem is None else ecosystem.configured(files, shapes)
    said = Configured(
        known.architecture or said.architecture, known.classes or said.classes, known.preprocessing or said.preprocessing
    )
    net = _architecture(ecosystem, said.architecture, wishes, shapes)
    _check_kinds(taken.state)
    classes = _classes(net, said.classes, wishes)
    how = wishes.preprocessing or said.preprocessing
    if how is None:
        log.info("preprocessing unknown: predicting images with this model will ask for --preprocessing")
    model = Model(net, classes, how, _whole(taken.state, net))
    return Reading(model, ecosystem, source, taken, _not_finite(taken.state, source.path))


def _with_wishes(model: Model, wishes: Wishes) -> Model:
    """A model of ours with other classes or preprocessing."""
    if wishes.ecosystem is not None or wishes.weights is not None:
        raise ValueError("this is a model of resnets, which says itself what it is; leave --from and --weights out")
    if wishes.architecture is not None and named(wishes.architecture).blocks != model.architecture.blocks:
        raise ValueError(f"this model is a {name_of(model.architecture)}, not a {wishes.architecture}")
    if wishes.classes is not None:
        model = replace(model, classes=class_names(Path(wishes.classes), model.architecture.classes))
    return model if wishes.preprocessing is None else replace(model, preprocessing=wishes.preprocessing)


def _ecosystem(source: Source, wishes: Wishes) -> Ecosystem | None:
    """Whose names these are: as the user says, as the form says, or as the names alone can say."""
    if wishes.ecosystem is not None:
        if source.ecosystem is not None and source.ecosystem != wishes.ecosystem:
            raise ValueError(f"this is a {source.form}, which --from {wishes.ecosystem} doesn't read")
        return ecosystems()[wishes.ecosystem]
    if source.ecosystem is not None:
        return ecosystems()[source.ecosystem]
    found = next((each for each in ecosystems().values() if each.recognises(source.weights)), None)
    if found is not None:
        log.info("%s: names of %s", source.path.name, found.title)
    return found


def _architecture(
    ecosystem: Ecosystem | None, configured: Architecture | None, wishes: Wishes, shapes: Mapping[str, tuple[int, ...]]
) -> Architecture:
    """The one network that has these weights in that ecosystem. ValueError, with those there are, where it isn't one."""
    if configured is not None and wishes.architecture is None:
        check_shapes(configured, shapes)
        return configured
    base = architecture_of(shapes)
    fitting = _possible(base) if ecosystem is None else ecosystem.candidates(base)
    possible = list(dict.fromkeys(_as_one(net) for net in fitting))
    if wishes.architecture is not None:
        return _asked_for(wishes.architecture, possible, shapes, ecosystem)
    if len(possible) > 1:
        whose = ", or --from torchvision, timm or cifar if they are from there" if ecosystem is None else ""
        raise ValueError(
            f"these weights fit {_listed(possible)}: they predict differently. Say which with --arch NAME{whose}"
        )
    return possible[0]


def _possible(net: Architecture) -> tuple[Architecture, ...]:
    """What a bare state dictionary under PyTorch's usual names may be."""
    if net.block == "bottleneck" and not net.stride_in_3x3:
        return net, replace(net, stride_in_3x3=True)
    if net.shortcut == "A":
        return net, replace(net, shortcut="none")
    return (net,)


def _as_one(net: Architecture) -> Architecture:
    """The same value for networks that compute the same: a basic block's stride has but one place."""
    return replace(net, stride_in_3x3=False) if net.block == "basic" else net


def _asked_for(
    name: str, possible: Iterable[Architecture], shapes: Mapping[str, tuple[int, ...]], ecosystem: Ecosystem | None
) -> Architecture:
    """The network called so, with the constants that it has in the ecosystem."""
    base = architecture_of(shapes)
    wanted = _as_one(replace(named(name), channels=base.channels, classes=base.classes))
    check_shapes(wanted, shapes)
    if ecosystem is None:
        return wanted
    for net in possible:
        if replace(wanted, **{field: getattr(net, field) for field in CONSTANTS}) == net:
            return net
    raise ValueError(f"{ecosystem.title}'s network with these weights is {_listed(possible)}, not {name}")


def _listed(nets: Iterable[Architecture]) -> str:
    """Architectures as --arch names them, with what they differ in."""
    said = []
    for net in nets:
        where = "stride in the 3×3" if net.stride_in_3x3 else "stride in the first 1×1, the paper's"
        what = where if net.block == "bottleneck" else f"shortcut {net.shortcut}" if net.shortcut in ("A", "none") else ""
        said.append(name_of(net) + f" ({what})" * bool(what))
    return " and ".join(said)


def _check_kinds(state: State) -> None:
    for name, array in state.items():
        if array.dtype.kind != ("i" if name.endswith(COUNTER) else "f") and not (name.endswith(COUNTER) and array.size == 1):
            raise ValueError(f"the weight {name} is of the kind {array.dtype}, and has to be floating point")


def _classes(net: Architecture, configured: tuple[str, ...] | None, wishes: Wishes) -> tuple[str, ...]:
    """Class names: the user's, the source's own, or the indices."""
    if wishes.classes is not None:
        return class_names(Path(wishes.classes), net.classes)
    if configured is not None:
        if len(configured) != net.classes:
            raise ValueError(f"the configuration names {len(configured)} classes, and the weights have {net.classes} logits")
        return configured
    if net.classes == BACKGROUND:
        raise ValueError(
            "it has 1001 logits: ImageNet's 1,000 and a background class first, as TensorFlow-Slim trains; give --classes "
            "imagenet, or a file of 1001 names with the background's first"
        )
    hint = ", or --classes imagenet" if net.classes == BACKGROUND - 1 else ""
    log.info("class names unknown: they are 0 to %d; --classes FILE names them%s", net.classes - 1, hint)
    return tuple(str(index) for index in range(net.classes))


def _whole(state: State, net: Architecture) -> State:
    """The state with counters: those of files that have none, or lack some, are 0."""
    counters = {name: np.zeros((), np.int64) for name in weight_shapes(net) if name.endswith(COUNTER)}
    return {**counters, **state}


def _not_finite(state: State, source: Path) -> int:
    """How many numbers are NaN or infinite; said, with the first weight that has one."""
    bad = {name: int(array.size - np.isfinite(array).sum()) for name, array in state.items() if array.dtype.kind == "f"}
    count = sum(bad.values())
    if count:
        first = next(name for name, number in bad.items() if number)
        log.warning("%s: %d of its numbers are NaN or infinite, first in %s: it won't predict", source.name, count, first)
    return count
