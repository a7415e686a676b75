"""Batches on their way to the network, timed: stage by stage on one thread, from the loader as a whole, and by training."""

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import torch

from resnets.data.dataset import Images, OverImages
from resnets.data.loader import AHEAD, Batch, Loader
from resnets.training.loop import Trainer
from resnets.training.parts import Progress


@dataclass(frozen=True)
class Stretch:
    """Batches that came, timed once the first was there."""

    images: int
    seconds: float
    waited: float  # seconds of these for data
    steps: int  # batches from the epoch's first on, the first with them

    @property
    def waiting(self) -> float:
        """The share of the time that went by waiting for data."""
        return self.waited / self.seconds

    @property
    def behind(self) -> int:
        """Batches after which a loader, which runs ahead, has met no others when they are taken again."""
        return max(1, self.steps - AHEAD - 2)


@dataclass(frozen=True)
class Stages:
    """What one thread did to some images, in seconds."""

    images: int
    decode: float  # reading the file with it
    augment: float  # from the decoded image to its place in the batch: crop, resize, flip, policy, jitter, erasing
    collate: float  # the batch normalised, on the device
    decoded: int  # bytes of pixels


class Here(Executor):
    """Does at once what it is given, on the thread that gives it."""

    def map(self, fn: Callable[..., Any], *iterables: Iterable[Any], **_: Any) -> Iterator[Any]:
        """The results, all of them there."""
        return iter([fn(*each) for each in zip(*iterables, strict=False)])


class Clocked(OverImages):
    """Images, and the seconds that reading them takes."""

    def __init__(self, images: Images) -> None:
        super().__init__(images)
        self.seconds, self.decoded = 0.0, 0

    def read(self, index: int, grey: bool = False, least: int = 0) -> np.ndarray:
        """One image, as the images give it."""
        began = time.perf_counter()
        try:
            image = self.images.read(index, grey, least)
        finally:
            self.seconds += time.perf_counter() - began
        self.decoded += image.nbytes
        return image

    def squares(self, indices: np.ndarray, side: int, channels: int) -> np.ndarray | None:
        """Some images at once, as the images give them."""
        began = time.perf_counter()
        found = self.images.squares(indices, side, channels)
        self.seconds += time.perf_counter() - began
        self.decoded += 0 if found is None else found.nbytes
        return found


def stages(loader: Loader, take: Callable[[Batch], object], seconds: float) -> Stages:
    """Each stage by itself, of the first batches of an epoch, for about so long. The loader is used up by it."""
    clocked = Clocked(loader.samples.images)
    loader.samples = replace(loader.samples, images=clocked)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    images, before, after = 0, 0.0, 0.0
    try:
        for number in range(loader.steps):
            began = time.perf_counter()
            batch = loader.begin(0, number, Here())()
            ready = time.perf_counter()
            take(batch)
            ended = time.perf_counter()
            images, before, after = images + len(batch.labels), before + ready - began, after + ended - ready
            if before + after > seconds:
                break
    finally:
        torch.set_num_threads(threads)
    return Stages(images, clocked.seconds, before - clocked.seconds, after, clocked.decoded)


def stretch(loader: Loader, take: Callable[[Batch], object], seconds: float, steps: int) -> Stretch:
    """Take so many batches of an epoch at most, for about so long."""
    images, steps = 0, min(steps, loader.steps)
    began, waited = time.perf_counter(), loader.waited
    with closing(loader.batches(0)) as batches:
        for number, batch in enumerate(islice(batches, steps), 1):
            take(batch)
            now = time.perf_counter()
            if number == 1 and steps > 1:
                began, waited = now, loader.waited
                continue
            images += len(batch.labels)
            if now - began > seconds or number == steps:
                return Stretch(images, now - began, loader.waited - waited, number)
    raise AssertionError("a loader gave fewer batches than it has steps")


def again(loader: Loader, take: Callable[[Batch], object], seconds: float, before: Stretch) -> Stretch:
    """Batches of an earlier stretch taken over and over, for about so long in all."""
    steps = before.steps if before.steps == loader.steps else before.behind
    found: list[Stretch] = []
    began = time.perf_counter()
    while not found or time.perf_counter() - began < seconds:
        found.append(stretch(loader, take, seconds, steps))
    return Stretch(sum(each.images for each in found), sum(each.seconds for each in found),
                   sum(each.waited for each in found), steps)  # fmt: skip


def trained(training: Trainer, seconds: float, steps: int) -> Stretch:
    """Really train, from the epoch's beginning for about so long: for so many steps or an epoch at most.

    What is timed begins after the first step; of an epoch that says nothing before its end, with it.
    """
    progress, size = Progress(), training.recipe.batch_size
    first: tuple[float, float, int] | None = None
    for event, row in training.fit(progress):
        now = time.perf_counter(), training.loader.waited, progress.step
        if event == "step" and first is None and progress.step < min(steps, training.steps_per_epoch):
            first = now
            continue
        done = event == "epoch" or progress.step >= steps or (first is not None and now[0] - first[0] > seconds)
        if not done:
            continue
        if first is None or first[2] == progress.step:
            spent = progress.step * size / row["images_per_second"]
            return Stretch(progress.step * size, spent, row["waiting"] * spent, progress.step)
        return Stretch((now[2] - first[2]) * size, now[0] - first[0], now[1] - first[1], progress.step)
    raise AssertionError("training ended without an epoch's end")
