"""How far a bulk run is: images a second, the time left, and whether decoding or arithmetic is the limit."""

import logging
import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from resnets.prediction.predictor import Predictor
from resnets.words import duration

log = logging.getLogger("resnets")

EVERY = 10.0  # seconds between two lines
FIRST = 2.0  # and to the first


class BulkProgress:
    """One line on standard error, moving on a terminal; elsewhere a line every ten seconds."""

    def __init__(self, name: str, images: int, done: int, predictor: Predictor) -> None:
        self.name = name
        self.images = images
        self.begun = self.done = done
        self.predictor = predictor
        self.start = self.last = time.monotonic()
        self.next = self.start + FIRST
        console = Console(file=sys.stderr)
        self.live = console.is_terminal
        self.bar = Progress(
            TextColumn("{task.completed:,}/{task.total:,}"), BarColumn(10), TimeRemainingColumn(),
            TextColumn("{task.fields[said]}"), console=console, disable=not self.live,
        )  # fmt: skip
        self.task = self.bar.add_task("", total=images, completed=done, said="")

    def __enter__(self) -> "BulkProgress":
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.last = time.monotonic()
        self.bar.stop()

    @property
    def speed(self) -> float:
        """Images a second of this run."""
        return (self.done - self.begun) / max(self.last - self.start, 1e-9)

    @property
    def limit(self) -> str:
        """What takes most of the cores' time: decoding or arithmetic."""
        return "decoding" if self.predictor.decoding > self.predictor.computing else "arithmetic"

    @property
    def said(self) -> str:
        """Speed and limit, in words, and the limit's share of the cores' time."""
        spent = self.predictor.decoding, self.predictor.computing
        share = max(spent) / sum(spent) if sum(spent) else 0.0
        return f"{self.speed:,.0f} images/s, {self.limit} is the limit ({share:.0%})"

    def step(self) -> None:
        """Show that one more image is done."""
        self.done += 1
        self.last = time.monotonic()
        if self.last < self.next and self.done < self.images:
            return
        self.next = self.last + (0.2 if self.live else EVERY)
        if self.live:
            self.bar.update(self.task, completed=self.done, said=self.said)
        elif self.done < self.images:
            left = duration((self.images - self.done) / self.speed)
            log.info("%s: %d of %d images, %s left, %s", self.name, self.done, self.images, left, self.said)
