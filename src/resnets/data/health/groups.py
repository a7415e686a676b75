"""Images that are the same, or look it: which belong together, and what is wrong with that."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from resnets.data.dataset import Dataset
from resnets.data.health.found import Problem
from resnets.data.health.likeness import SMALL, SMALLEST, alike
from resnets.data.health.looking import Look

KEPT = {"train": 0, "val": 1, "test": 3}  # of a leak, the copy in the split of the highest number stays; others have 2


class Group(NamedTuple):
    """Images that show the same."""

    members: tuple[int, ...]  # in the dataset's order
    contents: tuple[bytes, ...]  # the hash of each

    @property
    def how(self) -> str:
        """In words."""
        return "the same bytes" if len(set(self.contents)) == 1 else "look the same"


def grouped(looks: Sequence[Look], thumbnails: np.ndarray) -> list[Group]:
    """All groups of at least two images, by bytes and by looks; what has a fault is left out.

    `thumbnails` are those of all images, uint8 [images, 32, 32, 3]; they count for images of at least 16 pixels a side.
    A looks like B and B like C, they are one group.
    """
    same: dict[bytes, list[int]] = defaultdict(list)
    for index, look in enumerate(looks):
        if look.fault is None and look.digest:
            same[look.digest].append(index)
    firsts = [members[0] for members in same.values()]
    leader = {index: index for index in firsts}

    def lead(index: int) -> int:
        while leader[index] != index:
            leader[index] = index = leader[leader[index]]
        return index

    shorter = np.array([min(looks[index].width, looks[index].height) for index in firsts], np.int64)
    shown = shorter >= SMALLEST
    for one, other in alike(thumbnails, np.array(firsts, np.int64)[shown], shorter[shown] <= SMALL).tolist():
        first, second = sorted((lead(one), lead(other)))
        leader[second] = first
    together: dict[int, list[int]] = defaultdict(list)
    for first, members in zip(firsts, same.values(), strict=True):
        together[lead(first)] += members
    groups = [sorted(members) for members in together.values() if len(members) > 1]
    return [Group(tuple(group), tuple(looks[index].digest for index in group)) for group in sorted(groups)]


def split_names(data: Dataset) -> list[str]:
    """The split of each image; "" without splits."""
    names = [""] * len(data)
    for split, indices in data.splits.items():
        for index in indices.tolist():
            names[index] = split
    return names


def problems_of(data: Dataset, groups: Sequence[Group]) -> Iterator[Problem]:
    """What is wrong with the groups: across splits a leak, across classes a conflict, else duplicates and near ones."""
    splits = split_names(data)
    for group in groups:
        paths = tuple(data.images.keys[index] for index in group.members)
        labels = dict.fromkeys(data.classes[data.labels[index]] for index in group.members)
        where = dict.fromkeys(splits[index] for index in group.members)
        if len(where) > 1:
            yield Problem("leak", paths, f"{group.how}, in {listed(where)}")
        if len(labels) > 1:
            yield Problem("label_conflict", paths, f"{group.how}, in the classes {listed(labels)}")
        for cell in _cells(data, group, splits):
            for members in cell.values():
                if len(members) > 1:
                    yield Problem("duplicate", _keys(data, members), "the same bytes")
            if len(cell) > 1:
                yield Problem("near_duplicate", _keys(data, [members[0] for members in cell.values()]), "look the same")


def left_out(data: Dataset, groups: Sequence[Group]) -> set[int]:
    """Images that training is better off without: all of a conflict, of a leak all copies but those in the split that
    measures last (test, else val), of the same bytes in a class and split all but the first. Near duplicates stay, as does
    a file that a manifest lists twice: its path stands for both."""
    splits = split_names(data)
    unwanted: set[int] = set()
    for group in groups:
        if len({data.labels[index] for index in group.members}) > 1:
            unwanted |= set(group.members)
            continue
        rank = {index: KEPT.get(splits[index], 2) for index in group.members}
        unwanted |= {index for index in group.members if rank[index] < max(rank.values())}
        for cell in _cells(data, group, splits):
            for first, *others in cell.values():
                unwanted |= {index for index in others if data.images.keys[index] != data.images.keys[first]}
    return unwanted


def _cells(data: Dataset, group: Group, splits: Sequence[str]) -> Iterator[dict[bytes, list[int]]]:
    """The members of each class and split, by their content."""
    cells: dict[tuple[int, str], dict[bytes, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, content in zip(group.members, group.contents, strict=True):
        cells[int(data.labels[index]), splits[index]][content].append(index)
    yield from cells.values()


def _keys(data: Dataset, indices: Sequence[int]) -> tuple[str, ...]:
    return tuple(data.images.keys[index] for index in indices)


def listed(names: dict[str, None]) -> str:
    """Up to ten names, as a sentence has them."""
    return ", ".join(list(names)[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
