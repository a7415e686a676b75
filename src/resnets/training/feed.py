"""What brings a run its batches: a loader of images, or of features computed once."""

from collections.abc import Generator
from typing import Protocol

from resnets.data.augmentation import Augmentation
from resnets.data.loader import Batch, Samples


class Feed(Protocol):
    """Batches of an epoch, in its order; see `Loader`."""

    samples: Samples
    augmentation: Augmentation | None
    failures: dict[str, str]  # relative path → why it can't be read
    waited: float  # seconds that the one who asked has waited for data

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        ...

    def batches(self, epoch: int, start: int = 0) -> Generator[Batch, None, None]:
        """The batches of an epoch from number `start` on."""
        ...
