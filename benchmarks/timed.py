"""A way to label images, and the speeds that it has in stretches that are long enough to be timed."""

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
        """Run it on a batch, and settle how many batches a stretch has: one a core at least, that a DataLoader's workers are
        all at work."""
        self.labels = self.run(self.source, batch)
        count, seconds = batch, 0.0
        while seconds < LEAST / 4:
            count = 4 * count if seconds else count
            began = time.perf_counter()
            self.run(self.source, count)
            seconds = time.perf_counter() - began
        wanted = max(len(self.source), batch * machine.cores(), MARGIN * LEAST * count / seconds)
        self.count = -int(-wanted // batch) * batch

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
