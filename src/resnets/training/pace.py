"""How fast an epoch goes."""

import time
from typing import Any

from resnets.training.feed import Feed


class Pace:
    """A stopwatch from the first step of an epoch (or the first after a resume)."""

    def __init__(self, loader: Feed, step: int, seconds: float) -> None:
        """`seconds`: of training before."""
        self.loader, self.first, self.before = loader, step, seconds
        self.waited, self.began = loader.waited, time.perf_counter()
        self.ended: float | None = None

    def end(self) -> None:
        """Stop."""
        self.ended = time.perf_counter()

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return max((self.ended or time.perf_counter()) - self.began, 1e-9)

    @property
    def seconds(self) -> float:
        """Of training in all."""
        return self.before + self.elapsed

    def row(self, step: int, batch_size: int) -> dict[str, Any]:
        """Images a second, and the share of the time that went by waiting for them."""
        return {
            "images_per_second": (step - self.first) * batch_size / self.elapsed,
            "waiting": (self.loader.waited - self.waited) / self.elapsed,
        }
