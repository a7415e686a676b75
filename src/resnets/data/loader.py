"""Images brought to the network: decoded on threads ahead of it, augmented a batch at a time, in order."""

import queue
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from resnets import machine
from resnets.data.augmentation import DRAWS, Augmentation, lighting, mirror, order, pad_and_crop, random_box, uniform
from resnets.data.dataset import Images
from resnets.data.decode import UnreadableImage
from resnets.data.preprocessing import Preprocessing, crop, resample

AHEAD = 4  # batches prepared before they are asked for
CACHE_BYTES = 2**30  # of decoded squares kept in memory, where every epoch starts from the same


class Batch(NamedTuple):
    """Some images of an epoch, ready but for `normalise`."""

    images: np.ndarray  # uint8 [batch, size, size, channels]
    labels: np.ndarray  # int64 [batch]
    lighting: np.ndarray | None  # float32 [batch, 3], to be added to RGB in 0…1


@dataclass(frozen=True)
class Samples:
    """What a loader goes through: some images of a dataset with their labels."""

    images: Images
    indices: np.ndarray
    labels: np.ndarray  # of each index

    def __len__(self) -> int:
        return len(self.indices)


class Loader:
    """Batches of samples. With an augmentation they are shuffled by (seed, epoch); without, they come in order."""

    def __init__(
        self,
        samples: Samples,
        how: Preprocessing,
        batch_size: int,
        *,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        workers: int = 0,
    ) -> None:
        """`workers` are threads that decode; 0 takes one a core. Their number changes no image."""
        self.samples = samples
        self.how = how
        self.batch_size = batch_size
        self.augmentation = augmentation
        self.seed = seed
        self.workers = workers or machine.cores()
        self.failures: dict[str, str] = {}  # relative path → why it can't be read
        self.waited = 0.0  # seconds that the one who asked has waited for data
        square = how.size * how.size * how.channels
        fits = len(samples) * square <= CACHE_BYTES
        keeps = fits and (augmentation is None or augmentation.keeps_the_frame)
        self._kept = np.empty((len(samples), how.size, how.size, how.channels), np.uint8) if keeps else None
        self._ordered = (-1, np.empty(0, int))  # the last epoch's order
        self._known = np.zeros(len(samples), np.int8)  # of each kept square: 1 it is there, −1 it can't be read

    @property
    def steps(self) -> int:
        """Batches of an epoch: in training the last, incomplete one is left out."""
        whole, rest = divmod(len(self.samples), self.batch_size)
        return whole + (rest > 0 and self.augmentation is None)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from number `start` on, prepared ahead on a thread."""
        ready: queue.Queue[Batch | BaseException | None] = queue.Queue(AHEAD)
        stopped = threading.Event()

        def fill() -> None:
            try:
                with ThreadPoolExecutor(self.workers) as pool:
                    for number in range(start, self.steps):
                        _put(ready, self._batch(epoch, number, pool), stopped)
                        if stopped.is_set():
                            return
                _put(ready, None, stopped)
            except BaseException as error:  # raised again where the batches are taken
                _put(ready, error, stopped)

        thread = threading.Thread(target=fill, daemon=True)
        thread.start()
        try:
            while True:
                asked = time.perf_counter()
                batch = ready.get()
                self.waited += time.perf_counter() - asked
                if batch is None:
                    return
                if isinstance(batch, BaseException):
                    raise batch
                yield batch
        finally:
            stopped.set()
            thread.join()

    def _batch(self, epoch: int, number: int, pool: ThreadPoolExecutor) -> Batch:
        places = np.arange(len(self.samples)) if self.augmentation is None else self._order(epoch)
        chosen = places[number * self.batch_size : (number + 1) * self.batch_size]
        draws = uniform(self.seed, epoch, chosen, DRAWS) if self.augmentation else np.zeros((len(chosen), DRAWS))
        images, readable = self._squares(chosen, draws, pool)
        chosen, draws = chosen[readable], draws[readable]
        what, shift = self.augmentation, None
        if what is not None:
            if what.crop == "padded":
                images = pad_and_crop(images, draws, what.padding, self.how.fill)
            if what.flip:
                images = mirror(images, draws)
            shift = lighting(draws, what.lighting) if what.lighting else None
        return Batch(images, self.samples.labels[chosen], shift)

    def _order(self, epoch: int) -> np.ndarray:
        if self._ordered[0] != epoch:
            self._ordered = (epoch, order(self.seed, epoch, len(self.samples)))
        return self._ordered[1]

    def _squares(self, chosen: np.ndarray, draws: np.ndarray, pool: ThreadPoolExecutor) -> tuple[np.ndarray, np.ndarray]:
        """The squares of the chosen samples that can be read, a fresh array, and which those are."""
        if self._kept is None:
            out = np.empty((len(chosen), self.how.size, self.how.size, self.how.channels), np.uint8)
            readable = np.fromiter(pool.map(self._decode_into, out, chosen, draws), bool, len(chosen))
        else:
            new = chosen[self._known[chosen] == 0]
            good = pool.map(self._decode_into, [self._kept[place] for place in new], new, draws)
            self._known[new] = [1 if readable else -1 for readable in good]
            out, readable = self._kept[chosen], self._known[chosen] == 1
        return (out if readable.all() else out[readable]), readable

    def _decode_into(self, out: np.ndarray, place: int, draws: np.ndarray) -> bool:
        """One sample's square, written to `out`; False, and a line in `failures`, if it can't be read."""
        index = int(self.samples.indices[place])
        what = self.augmentation
        try:
            if what is None or what.keeps_the_frame:
                image = self.samples.images.read(index, self.how.channels == 1, self.how.resized)
                out[:] = crop(image, self.how)
            else:
                image = self.samples.images.read(index, self.how.channels == 1, self.how.size)
                out[:] = resample(image, random_box(image.shape[0], image.shape[1], draws, what, self.how), self.how)
        except UnreadableImage as error:
            self.failures[self.samples.images.keys[index]] = str(error)
            return False
        return True


def _put(ready: queue.Queue, item: Batch | BaseException | None, stopped: threading.Event) -> None:
    """Hand on, unless nobody takes it any more."""
    while not stopped.is_set():
        try:
            ready.put(item, timeout=0.1)
            return
        except queue.Full:
            continue
