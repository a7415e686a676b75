"""The images that an export is measured on: the user's, with labels where they have some."""

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from resnets.data import open_dataset
from resnets.data.decode import UnreadableImage
from resnets.data.shards import read
from resnets.evaluation import choose
from resnets.model import Model
from resnets.prediction.exported import Exported
from resnets.prediction.paths import expand
from resnets.prediction.predictor import Reader

log = logging.getLogger("resnets")

MOST = 10_000  # real images that a certificate measures


@dataclass(frozen=True)
class Pictures:
    """Images by the functions that read them, and what they show where that is known."""

    readers: list[Reader]
    labels: np.ndarray | None = None  # int64 [images], in the model's classes
    calibration: tuple[Reader, ...] = ()  # to take int8's scales from, shuffled: not the measured, where there are others
    name: str = ""
    part: str = ""  # which of the data's images: test, val, held-out, all


def real(model: Model | Exported, data: str | os.PathLike[str]) -> Pictures:
    """The user's images: a dataset, of which the part that `evaluate` would measure; or images without labels.

    Raises ValueError where there are none.
    """
    try:
        dataset = open_dataset(data)
        part = choose(model, dataset, None)
        labels = dataset.labels_as(model.classes)[part.indices]
    except ValueError as error:
        if not Path(data).exists():
            raise
        paths = _spread(list(expand([data])))
        if not paths:
            raise ValueError(f"{data} names no image") from None
        log.info("%s has no labels (%s): agreement stands for accuracy", data, error)
        readers: list[Reader] = [partial(read, path) for path in paths]
        return Pictures(readers, calibration=_shuffled(readers), name=Path(data).name, part="all")
    known = _spread(part.indices[labels >= 0].tolist())
    if not known:
        raise ValueError(f"{data} has no image of a class that the model knows")
    others = np.setdiff1d(dataset.splits.get("train", dataset.indices()), known).tolist()
    return Pictures(
        readers=[partial(dataset.images.read, index) for index in known],
        labels=dataset.labels_as(model.classes)[known],
        calibration=_shuffled([partial(dataset.images.read, index) for index in others or known]),
        name=dataset.name,
        part=part.name,
    )


def readable(readers: Iterable[Reader], grey: bool) -> Iterator[np.ndarray]:
    """The images that can be read, one by one, decoded in full."""
    for reader in readers:
        with contextlib.suppress(UnreadableImage):
            yield reader(grey, 0)


def _shuffled(readers: Sequence[Reader]) -> tuple[Reader, ...]:
    """In an order of chance that is always the same, since a folder's images come class by class."""
    return tuple(readers[index] for index in np.random.default_rng(0).permutation(len(readers)))


def _spread(items: list) -> list:
    """At most `MOST` of the items, evenly spread."""
    if len(items) <= MOST:
        return items
    log.info("measured on %d of %d images, evenly spread", MOST, len(items))
    return [items[index * len(items) // MOST] for index in range(MOST)]
