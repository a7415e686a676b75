"""The progress line of a run: loss, accuracy, images a second, the share of time spent waiting for data, time left."""

import sys
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


class ProgressLine:
    """One line on standard error, moving on a terminal; elsewhere a line an epoch."""

    def __init__(self, steps: int, start: int) -> None:
        console = Console(file=sys.stderr)
        self.live = console.is_terminal
        self.bar = Progress(
            TextColumn("step {task.completed}/{task.total}"), BarColumn(20), TextColumn("{task.fields[said]}"),
            TimeRemainingColumn(), console=console, disable=not self.live,
        )  # fmt: skip
        self.task = self.bar.add_task("", total=steps, completed=start, said="")

    def __enter__(self) -> "ProgressLine":
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def step(self, row: dict[str, Any]) -> None:
        """Show a step."""
        said = (
            f"loss {row['loss']:.3f}  top-1 {row['top1']:.1%}  {row['images_per_second']:.0f} images/s  "
            f"waiting for data {row['waiting']:.0%}"
        )
        self.bar.update(self.task, completed=row["step"], said=said)

    def epoch(self, row: dict[str, Any]) -> None:
        """Say what an epoch came to."""
        measured = f", measured {row['val_top1']:.1%} (loss {row['val_loss']:.3f})" if "val_top1" in row else ""
        unread = f", {row['unreadable']} unreadable" if row["unreadable"] else ""
        self.bar.console.print(
            f"epoch {row['epoch']}: loss {row['train_loss']:.3f}, top-1 {row['train_top1']:.1%}{measured}{unread}, "
            f"{row['images_per_second']:.0f} images/s, waiting {row['waiting']:.0%}",
            highlight=False,
            soft_wrap=True,
        )
