"""What a check finds: the problems, and the figures of a dataset."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from resnets.data.health.looking import Look

# Every kind of problem, in the order they are shown, and what to do about it.
KINDS = {
    "unreadable": "can't be decoded; mend or remove them, or leave them out",
    "truncated": "cut off; fetch them again, or leave them out",
    "empty_file": "0 bytes; fetch them again, or leave them out",
    "wrong_type": "not what the suffix says; rename those that decode, replace the others",
    "too_large": "more pixels than are ever decoded; scale them down, or leave them out",
    "too_small": "smaller than what the network reads, so enlarged; take larger images, or a smaller --input",
    "duplicate": "the same file more than once in a class; one is enough",
    "near_duplicate": "the same picture more than once in a class; each counts again",
    "leak": "in several splits, so that what is measured is too good; leave the training copy out",
    "label_conflict": "in several classes; decide which is right, or leave them out",
    "multi_page": "several pictures in a file, of which the first alone is used; split it if the others matter",
    "outside_root": "links out of the data, or in a circle; put the files there instead",
    "class_mismatch": "classes without images; what measures should have the classes that train",
    "imbalance": "classes of very unequal size; the recipe's field `balance` evens them out",
}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong."""

    kind: str  # one of KINDS
    paths: tuple[str, ...]  # relative paths; of a group all of it, and none of a class or the whole
    detail: str

    def to_json(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"kind": self.kind, "paths": list(self.paths), "detail": self.detail}


@dataclass(frozen=True)
class Health:
    """What `check` found."""

    name: str  # the dataset's
    images: int
    classes: dict[str, int]  # name → images, 0 of a class's empty folder
    splits: dict[str, int]  # name → images; {} without splits
    problems: tuple[Problem, ...]  # in the order of KINDS, then of the images
    table: dict[str, dict[str, int]] = field(default_factory=dict)  # class → split → images; {} without splits
    sizes: dict[str, dict[str, float]] = field(default_factory=dict)  # "width", "height" → min, median, max in pixels
    types: dict[str, int] = field(default_factory=dict)  # "jpeg", … → images, of those that could be read
    modes: dict[str, int] = field(default_factory=dict)  # Pillow's mode → images
    leave_out: tuple[str, ...] = ()  # relative paths of the images that training is better off without, in order

    def counts(self) -> dict[str, int]:
        """Problems of each kind that there is."""
        found = Counter(problem.kind for problem in self.problems)
        return {kind: found[kind] for kind in KINDS if found[kind]}

    def of(self, kind: str) -> list[Problem]:
        """The problems of a kind."""
        return [problem for problem in self.problems if problem.kind == kind]

    def in_words(self) -> list[str]:
        """The figures, a line each."""
        what = (
            f"{self.images:,} image{'s' * (self.images != 1)}, {len(self.classes):,} class{'es' * (len(self.classes) != 1)}"
        )
        sides = [
            f"{name} {side['min']:,} to {side['max']:,}, median {side['median']:,g}" for name, side in self.sizes.items()
        ]
        types, modes = (", ".join(f"{name} {n:,}" for name, n in kinds.items()) for kinds in (self.types, self.modes))
        return [f"{printable(self.name)}: {what}", *([f"pixels: {'; '.join(sides)}"] if sides else []),
                *([f"types: {types}; modes: {modes}"] if modes else [])]  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "images": self.images,
            "classes": self.classes,
            "splits": self.splits,
            "problems": [problem.to_json() for problem in self.problems],
            "sizes": self.sizes,
            "types": self.types,
            "modes": self.modes,
        }


def printable(name: str) -> str:
    """A file's name as people can read it, whatever bytes it has: what doesn't print is escaped."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in name)


def sizes(looks: Sequence[Look]) -> dict[str, dict[str, float]]:
    """The least, median and largest width and height; {} where no image could be read."""
    sides = np.array([(look.width, look.height) for look in looks if look.width], np.int64).reshape(-1, 2)
    if not len(sides):
        return {}
    return {
        name: {"min": int(side.min()), "median": float(np.median(side)), "max": int(side.max())}
        for name, side in zip(("width", "height"), sides.T, strict=True)
    }


def counted(values: Sequence[str]) -> dict[str, int]:
    """How often each occurs, the most frequent first; "" is left out."""
    return dict(Counter(value for value in values if value).most_common())
