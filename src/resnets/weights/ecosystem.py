"""What an ecosystem is: the names and conventions that weights have elsewhere, and how they become ours and theirs again.

Ours are torchvision's names, OIHW kernels and [out, in] for the fully connected layer. An ecosystem is a value of pure
functions from dictionaries to dictionaries; files are read and written in `forms`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from resnets.architecture import Architecture, Padding
from resnets.data.preprocessing import Preprocessing
from resnets.model import Model

State = dict[str, np.ndarray]
Weights = Mapping[str, np.ndarray]
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Conventions:
    """What has to be the same for the same numbers to give the same logits."""

    padding: Padding
    stride: Literal["3×3", "first 1×1", "as configured", "unsaid"]  # of a bottleneck that halves the map
    norm_epsilon: float
    kernel: Literal["OIHW", "HWIO"]
    preprocessing: str  # in words: what the ecosystem does to an image unless told otherwise


class Taken(NamedTuple):
    """What became of a dictionary under an ecosystem's names."""

    state: State  # under our names
    dropped: tuple[str, ...] = ()  # their names of what has no place here: an optimizer's slots, say
    folded: tuple[str, ...] = ()  # their names of what went into another weight: a convolution's bias, say


@dataclass(frozen=True)
class Configured:
    """What a source's own configuration says; None is unsaid."""

    architecture: Architecture | None = None
    classes: tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None


def nothing_configured(configuration: Mapping[str, Any], shapes: Shapes) -> Configured:
    """Of an ecosystem whose files say no more than the numbers."""
    return Configured()


@dataclass(frozen=True)
class Ecosystem:
    """An ecosystem's names and conventions, both directions."""

    name: str  # as --from and --to say it
    title: str  # as a sentence says it
    conventions: Conventions
    recognises: Callable[[Iterable[str]], bool]  # whether names, all of a dictionary's, can only be this ecosystem's
    to_ours: Callable[[Weights], Taken]  # raises ValueError at a name that is neither a weight nor known to be dropped
    from_ours: Callable[[Weights, Architecture], State]  # of an architecture that `why_not` lets through
    candidates: Callable[[Architecture], tuple[Architecture, ...]]  # what a network of these shapes may be there
    why_not: Callable[[Architecture], str | None]  # why it can't be represented there, as half a sentence; None: it can
    configured: Callable[[Mapping[str, Any], Shapes], Configured] = nothing_configured  # of a source's configuration files
    configuration: Callable[[Model], dict[str, Any]] | None = None  # a folder's files beside the weights: name → document
    not_carried: Callable[[Model], tuple[str, ...]] = lambda model: ()  # what of a model has no place there, in words
    forms: tuple[str, ...] = ()  # what can be written: suffixes, "folder" or "prefix"; the first is the usual one
