"""What the counts of images say: classes that splits don't share, unequal classes, images that are too small."""

from collections.abc import Iterator, Sequence

import numpy as np

from resnets.data.dataset import Dataset
from resnets.data.health.found import Problem
from resnets.data.health.likeness import SMALL
from resnets.data.health.looking import Look

UNEQUAL = 10  # times the images of the smallest class that the largest has
PHOTO = 224  # pixels that networks for images of more than `SMALL` read
NAMED = 10  # classes that a sentence names


def table(data: Dataset) -> dict[str, dict[str, int]]:
    """Class → split → images; {} without splits. Classes of empty folders have 0."""
    by_split = {split: data.counts(indices) for split, indices in data.splits.items()}
    return {name: {split: by_split[split].get(name, 0) for split in by_split} for name in classes(data)} if by_split else {}


def classes(data: Dataset) -> dict[str, int]:
    """Class → images, 0 of a class that has only an empty folder."""
    empty = {name: 0 for names in data.empty.values() for name in names}
    return {**data.counts(), **{name: 0 for name in empty if name not in data.classes}}


def mismatches(data: Dataset) -> Iterator[Problem]:
    """Of each split, the classes it lacks; without splits, the classes whose folders are empty."""
    if not data.splits:
        if names := data.empty.get(""):
            yield Problem("class_mismatch", (), f"no image in the folder of {_named(names)}")
        return
    for split, row in ((split, data.counts(indices)) for split, indices in data.splits.items()):
        if names := [name for name in classes(data) if not row.get(name)]:
            yield Problem("class_mismatch", (), f"{split} has no image of {_named(names)}")


def imbalances(data: Dataset, train: np.ndarray | None = None) -> Iterator[Problem]:
    """Whether the largest class of what trains has 10 times the images of the smallest, of those that have any.

    What trains are the images `train`, else the split of that name, else all.
    """
    where = data.splits.get("train") if train is None else train
    counts = {name: images for name, images in data.counts(where).items() if images}
    if not counts:
        return
    most, least = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    if counts[most] >= UNEQUAL * counts[least]:
        detail = f"{counts[most]:,} images of {most} and {counts[least]:,} of {least}"
        yield Problem("imbalance", (), detail + (", in train" if where is not None else ""))


def too_small(data: Dataset, looks: Sequence[Look], size: int | None) -> Iterator[Problem]:
    """Images whose shorter side is less than `size` pixels, what the network will read.

    Without `size` by training's own rule: images whose longer sides have a median of up to 64 pixels are read as they are,
    and none is too small; others are read at 224.
    """
    longer = [max(look.width, look.height) for look in looks if look.width]
    if size is None and (not longer or np.median(longer) <= SMALL):
        return
    least = PHOTO if size is None else size
    for key, look in zip(data.images.keys, looks, strict=True):
        if look.width and look.type != "array" and min(look.width, look.height) < least:
            yield Problem("too_small", (key,), f"{look.width}×{look.height} pixels, less than {least}")


def _named(names: Sequence[str]) -> str:
    said = ", ".join(repr(name) for name in names[:NAMED])
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"the class{'es' * (len(names) > 1)} {said}{more}"
