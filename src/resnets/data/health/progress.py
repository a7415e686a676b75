"""How far a check is: a bar on a terminal's standard error, elsewhere a line every ten seconds."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

log = logging.getLogger("resnets")

EVERY = 10.0  # seconds between two lines
Item = TypeVar("Item")


def shown(items: Iterable[Item], total: int, name: str) -> Iterator[Item]:
    """The same items, counted where people see it."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(file=sys.stderr)
    bar = Progress(
        TextColumn("{task.completed:,}/{task.total:,} images"), BarColumn(20), TimeRemainingColumn(),
        console=console, disable=not console.is_terminal, transient=True,
    )  # fmt: skip
    with bar:
        task, following = bar.add_task("", total=total), time.monotonic() + EVERY
        for done, item in enumerate(items, 1):
            yield item
            if console.is_terminal:
                bar.update(task, completed=done)
            elif time.monotonic() > following and done < total:
                following = time.monotonic() + EVERY
                log.info("%s: looked at %d of %d images", name, done, total)
