"""The progress line of a run: loss, accuracy, learning rate, images/s, the share spent waiting for data, time left."""

import math
import sys
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from resnets.words import duration

BAR = 12  # columns
REFRESH = 0.1  # seconds, as often as Rich draws


class ProgressLine:
    """One line on standard error, moving on a terminal; elsewhere a line an epoch, plain."""

    def __init__(self, steps: int, start: int, epochs: float = 0, console: Console | None = None) -> None:
        """`epochs` are those of the whole run, which is `steps` long; without them the steps are counted."""
        self.console = console or Console(file=sys.stderr)
        self.steps, self.start, self.epochs = steps, start, epochs
        self.live = self.console.is_terminal and not self.console.is_dumb_terminal
        self.began = self.epoch_began = time.monotonic()
        self.shown = -math.inf
        self.bar = Progress(
            TextColumn("{task.fields[place]}", markup=False),
            BarColumn(BAR),
            TextColumn("{task.fields[said]}", markup=False),
            console=self.console,
            disable=not self.live,
        )
        self.task = self.bar.add_task("", total=steps, completed=start, place=self.place(start), said="")

    def __enter__(self) -> "ProgressLine":
        self.began = self.epoch_began = time.monotonic()
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def place(self, step: int) -> str:
        """Where a step is: "epoch 3/10"."""
        if not self.epochs:
            return f"step {step}/{self.steps}"
        return f"epoch {max(1, math.ceil(step * self.epochs / self.steps - 1e-9))}/{math.ceil(self.epochs)}"

    def step(self, row: dict[str, Any]) -> None:
        """Show a step: "loss", "top1", "learning_rate", "images_per_second", "waiting" and, where it is known, "left"."""
        now = time.monotonic()
        if not self.live or (now - self.shown < REFRESH and row["step"] < self.steps):
            return
        self.shown = now
        done = row["step"] - self.start
        left = row.get("left")
        if left is None and done > 0:
            left = (now - self.began) / done * (self.steps - row["step"])
        place = self.place(row["step"])
        parts = [
            (6, f"loss {row['loss']:.3f}"),
            (4, f"top-1 {row['top1']:.1%}"),
            (1, f"rate {row['learning_rate']:.3g}"),
            (3, f"{row['images_per_second']:,.0f} images/s"),
            (2, f"waiting {row['waiting']:.0%}"),
            (5, f"{duration(left)} left" if left is not None else ""),
        ]
        said = fitted(parts, self.console.width - len(place) - BAR - 3)
        self.bar.update(self.task, completed=row["step"], place=place, said=said)

    def epoch(self, row: dict[str, Any], best: bool = False) -> None:
        """Say what an epoch came to, how long it took, and whether it is the best so far."""
        now = time.monotonic()
        took, self.epoch_began = now - self.epoch_began, now
        of = f" of {math.ceil(self.epochs)}" if self.epochs else ""
        parts = [f"epoch {row['epoch']}{of}: loss {row['train_loss']:.3f}", f"top-1 {row['train_top1']:.1%}"]
        if "val_top1" in row:
            parts.append(f"measured {row['val_top1']:.1%} (loss {row['val_loss']:.3f})")
        if best:
            parts.append("best so far")
        if row.get("unreadable"):
            parts.append(f"{row['unreadable']} unreadable")
        parts.append(f"rate {row['learning_rate']:.3g}")
        if "images_per_second" in row:
            parts.append(f"{row['images_per_second']:,.0f} images/s")
        if "waiting" in row:
            parts.append(f"waiting {row['waiting']:.0%}")
        parts.append(f"{took:.1f} s" if took < 9.95 else duration(took))
        self.console.print(", ".join(parts), highlight=False, markup=False, soft_wrap=True)


def fitted(parts: Sequence[tuple[int, str]], width: int) -> str:
    """The parts, (how much it matters, text), in one line of at most `width` letters; those that matter least go first."""
    kept = [part for part in parts if part[1]]
    while len(kept) > 1 and sum(len(text) + 2 for _, text in kept) - 2 > width:
        kept.remove(min(kept))
    return "  ".join(text for _, text in kept)
