"""A way to label images, and the speeds that it has in stretches that are long enough to be timed."""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from resnets import machine

LEAST = 3.0  # seconds of each timed stretch
MARGIN = 1.15  # by how much more is planned


@dataclass
class Way:
    """One way: `run` gives the labels of so many images of a source, from the first again where there are fewer."""

    name: str
    run: Callable[[Any, int], list[str]]
    source: Sequence[Any] | np.ndarray
    images: str  # what they are
    precision: str
    about: dict[str, Any] = field(default_factory=dict)  # more for the row
    same: bool = True  # the weights and preprocessing of every other way
    count: int = 0  # images of a stretch
    labels: list[str] = field(default_factory=list)  # of the first images
    rates: list[float] = field(default_factory=list)  # images a second

    @property
    def title(self) -> str:
        """The name, what the images are and the precision."""
        return f"{self.name}, {self.images}, {self.precision}"

    @property
    def speed(self) -> float:
        """The median of its images a second."""
        return statistics.median(self.rates)

    def warm_up(self, batch: int) -> None:
        """Run it, and settle how many images a stretch has: whole batches, one a core at least, so that no DataLoader's
        worker is idle."""
        seconds, count = self._seconds(batch), batch
        if seconds < LEAST / 2:  # else that it was the first time matters little
            seconds = self._seconds(count)
        while seconds < LEAST / 4:
            count *= 4
            seconds = self._seconds(count)
        wanted = max(len(self.source), batch * machine.cores(), MARGIN * LEAST * count / seconds)
        self.count = math.ceil(wanted / batch) * batch

    def _seconds(self, count: int) -> float:
        began = time.perf_counter()
        labels = self.run(self.source, count)
        self.labels = self.labels or labels
        return time.perf_counter() - began

    def stretch(self) -> None:
        """Once through the images of a stretch, and again while that took too little."""
        began, done = time.perf_counter(), 0
        while done == 0 or time.perf_counter() - began < LEAST:
            self.run(self.source, self.count)
            done += self.count
        self.rates.append(done / (time.perf_counter() - began))

    def row(self, reference: Sequence[str]) -> dict[str, Any]:
        """The results, with the share of the first labels that are as the reference's where they should be."""
        pairs = list(zip(self.labels, reference, strict=False)) if self.same else []
        alike = {"labels_as_plain": sum(a == b for a, b in pairs) / len(pairs)} if pairs else {}
        return {
            "name": self.title, "images_per_second": self.speed, "least": min(self.rates), "most": max(self.rates),
            "n": len(self.rates), "images": self.count, "precision": self.precision, **self.about, **alike,
        }  # fmt: skip
