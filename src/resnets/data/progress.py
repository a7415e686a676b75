"""Lines on standard error that say how far something is."""

import logging
import sys
import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self

from resnets.words import duration

log = logging.getLogger("resnets")

AFTER = 1.0  # seconds until counting is worth a line
MOVES = 0.2  # seconds from one figure to the next
EVERY = 10.0  # and from one line to the next, where standard error is no terminal


class Counting(AbstractContextManager["Counting"]):
    """Counts up to `total`, where that is known: on a terminal alone, and from the second second on."""

    def __init__(self, what: str, total: int | None = None) -> None:
        self.what = what
        self.total = total
        self.done = 0
        self.next = time.monotonic() + AFTER
        self._bar: Any = None

    def add(self, count: int) -> None:
        """So many more are done."""
        self.done += count
        now = time.monotonic()
        if now < self.next:
            return
        self.next = now + MOVES
        if self._bar is None:
            self._bar = self._begin()
        self._bar.update(0, completed=self.done)

    def _begin(self) -> Any:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        console = Console(file=sys.stderr)
        figure = "{task.completed:,}" if self.total is None else "{task.completed:,}/{task.total:,}"
        columns = TextColumn("{task.description}"), BarColumn(10), TextColumn(figure)
        bar = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
        bar.add_task(self.what, total=self.total)
        bar.start()
        return bar

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()


class ImageProgress:
    """Images, images a second and the time left: one line that moves on a terminal, elsewhere a line every ten seconds."""

    first = EVERY  # seconds to the first line

    def __init__(self, name: str, images: int, done: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.name = name
        self.images = images
        self.begun = self.done = done
        self.start = self.last = time.monotonic()
        self.next = self.start + self.first
        console = Console(file=sys.stderr)
        self.live = console.is_terminal
        self.bar = Progress(
            TextColumn("{task.completed:,}/{task.total:,}"), BarColumn(10), TimeRemainingColumn(),
            TextColumn("{task.fields[said]}"), console=console, disable=not self.live,
        )  # fmt: skip
        self.task = self.bar.add_task("", total=images, completed=done, said="")

    def __enter__(self) -> Self:
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
    def said(self) -> str:
        """The speed, in words."""
        return f"{self.speed:,.0f} images/s"

    def step(self) -> None:
        """Show that one more image is done."""
        self.done += 1
        self.last = time.monotonic()
        if self.last < self.next and self.done < self.images:
            return
        self.next = self.last + (MOVES if self.live else EVERY)
        if self.live:
            self.bar.update(self.task, completed=self.done, said=self.said)
        elif self.done < self.images:
            left = duration((self.images - self.done) / self.speed)
            log.info("%s: %d of %d images, %s left, %s", self.name, self.done, self.images, left, self.said)
