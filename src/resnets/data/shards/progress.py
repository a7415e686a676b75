"""How far a pack is: images, images a second, the time left."""

import logging
import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from resnets.words import duration

log = logging.getLogger("resnets")

EVERY = 10.0  # seconds between two lines where standard error is no terminal


class PackProgress:
    """One line on standard error, moving on a terminal; elsewhere a line every ten seconds."""

    def __init__(self, name: str, images: int, done: int) -> None:
        self.name = name
        self.images = images
        self.begun = self.done = done
        self.start = self.last = time.monotonic()
        self.next = self.start + EVERY
        console = Console(file=sys.stderr)
        self.live = console.is_terminal
        self.bar = Progress(
            TextColumn("{task.completed:,}/{task.total:,}"), BarColumn(10), TimeRemainingColumn(),
            TextColumn("{task.fields[said]}"), console=console, disable=not self.live,
        )  # fmt: skip
        self.task = self.bar.add_task("", total=images, completed=done, said="")

    def __enter__(self) -> "PackProgress":
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    @property
    def speed(self) -> float:
        """Images a second of this run."""
        return (self.done - self.begun) / max(self.last - self.start, 1e-9)

    def step(self) -> None:
        """Show that one more image is done."""
        self.done += 1
        self.last = time.monotonic()
        if self.last < self.next and self.done < self.images:
            return
        self.next = self.last + (0.2 if self.live else EVERY)
        if self.live:
            self.bar.update(self.task, completed=self.done, said=f"{self.speed:,.0f} images/s")
        elif self.done < self.images:
            left = duration((self.images - self.done) / self.speed)
            log.info("%s: %d of %d images, %.0f images/s, %s left", self.name, self.done, self.images, self.speed, left)
