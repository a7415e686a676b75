"""A line on standard error that counts what takes long: on a terminal alone, and from the second second on."""

import sys
import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

AFTER = 1.0  # seconds until it is worth a line
EVERY = 0.2  # seconds from one figure to the next


class Counting(AbstractContextManager["Counting"]):
    """Counts up to `total`, where that is known."""

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
        self.next = now + EVERY
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
