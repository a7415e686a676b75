"""What the processes of a run tell each other now and then."""

import signal
from typing import NamedTuple

from resnets.data.loader import Batch
from resnets.errors import WorkFailed
from resnets.training.feed import Feed
from resnets.training.interruptions import Interruptions
from resnets.training.processes.world import World

GONE = 20  # batches without an image, one after the other, after which the data counts as gone


class Agreed(NamedTuple):
    """What all processes know of each other."""

    stop: bool
    terminate: bool
    save: bool
    seconds: float  # the first process's clock


class Agreement:
    """Whether to stop or to save, of all processes together; and whether there are still images."""

    def __init__(self, world: World, loader: Feed) -> None:
        self.world, self.loader = world, loader
        self.missing = 0  # batches without an image, up to now

    def saw(self, batch: Batch) -> None:
        """Note whether a batch had an image."""
        self.missing = 0 if len(batch.labels) else self.missing + 1

    def reached(self, asked: Interruptions, due: bool, seconds: float) -> Agreed:
        """What all know, from what each does. Raises WorkFailed, on all, where none of them reads anything any more."""
        first = self.world.first
        signals = asked.asked(signal.SIGINT), asked.asked(signal.SIGTERM)
        mine = [*signals, first and due, seconds * first, self.missing >= GONE]
        stopped, terminated, save, time, without = self.world.total(mine)
        if without == self.world.size:
            path, reason = next(reversed(self.loader.failures.items()), ("an image", "it can't be read"))
            raise WorkFailed(
                f"no image of the last {GONE} batches could be read; the last was {path}: {reason}. Is the data still "
                "there? What the run has saved before is kept, and --resume goes on from it"
            )
        return Agreed(stopped > 0, terminated > 0, save > 0, time)
