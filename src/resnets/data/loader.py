"""Images brought to the network: decoded on threads ahead of it, augmented a batch at a time, in order."""

import copy
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
from typing import NamedTuple

import numpy as np

from resnets import machine
from resnets.data.augmentation import Augmentation, lighting, numbers, random_box
from resnets.data.augmenting import SHARES, Resize, augmented
from resnets.data.dataset import Images
from resnets.data.decode import UnreadableImage
from resnets.data.learned import Learned
from resnets.data.order import Sequence, part_of, sequence
from resnets.data.preprocessing import Preprocessing, crop, middle, resample

AHEAD = 4  # batches prepared before they are asked for
CACHE_BYTES = 2**30  # of decoded squares kept in memory, where every epoch starts from the same


class Batch(NamedTuple):
    """Some images of an epoch, ready but for `normalise`."""

    images: np.ndarray  # uint8 [batch, size, size, channels]
    labels: np.ndarray  # int64 [batch]
    lighting: np.ndarray | None  # float32 [batch, 3], to be added to RGB in 0…1
    samples: np.ndarray  # int64 [batch]: the place of each image in `Samples`; those that can't be read are left out
    weights: np.ndarray | None = None  # float32 [batch], of each image's loss


@dataclass(frozen=True)
class Samples:
    """What a loader goes through: some images of a dataset with their labels."""

    images: Images
    indices: np.ndarray
    labels: np.ndarray  # of each index

    def __len__(self) -> int:
        return len(self.indices)


class Loader:
    """Batches of samples. With an augmentation they are shuffled by (seed, epoch); without, they come in order.

    Of each batch of all processes a loader gives its own part; what an image looks like does not depend on the parts.
    """

    def __init__(
        self,
        samples: Samples,
        how: Preprocessing,
        batch_size: int,
        *,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        workers: int = 0,
        part: tuple[int, int] = (0, 1),
        size_of: Callable[[int], int] | None = None,
    ) -> None:
        """`workers` are threads that decode; 0 takes one a core. Their number changes no image.

        `part` is (rank, world): the processes share each batch of `batch_size` as `part_of` says, and a part may be empty.
        `size_of` gives the pixels of a training epoch's images; without it they are `how.size`. ValueError where one can't
        be.
        """
        if not 0 <= part[0] < part[1]:
            raise ValueError(f"part is (rank, world) with rank from 0 to below world, not {part}")
        if size_of and augmentation is None:
            raise ValueError("size_of is for training; images that are measured have the preprocessing's size")
        if augmentation and batch_size % augmentation.repeats:
            raise ValueError(f"a batch of {batch_size} can't show each image {augmentation.repeats} times; take a multiple")
        self.samples = samples
        self.how = how
        self.batch_size = batch_size
        self.augmentation = augmentation
        self.seed = seed
        self.workers = workers or machine.cores()
        self.part = part
        self.size_of = size_of
        self.resize: Resize = resample  # what makes a part of an image a square in training; another takes its place
        self.shuffled = augmentation is not None
        self.learned: Learned | None = None  # what epochs go by, where they leave out what is learned
        self.failures: dict[str, str] = {}  # relative path → why it can't be read
        self.waited = 0.0  # seconds that the one who asked has waited for data
        keeps = keeps_squares(len(samples), how, augmentation)
        self._kept = np.empty((len(samples), how.size, how.size, how.channels), np.uint8) if keeps else None
        self._in_order = np.broadcast_to(0, 0) if self.shuffled else np.arange(len(samples))
        self._ordered: tuple[int, Sequence] | None = None  # the last epoch and its order
        self._known = np.zeros(len(samples), np.int8)  # of each kept square: 1 it is there, −1 it can't be read

    @property
    def steps(self) -> int:
        """Batches of an epoch: in training the last, incomplete one is left out."""
        whole, rest = divmod(len(self.samples), self.batch_size)
        return whole + (rest > 0 and not self.shuffled)

    def in_order(self) -> "Loader":
        """The same images as these epochs show them, but each exactly once and in order."""
        other = copy.copy(self)
        other.shuffled = False
        other._in_order = np.arange(len(self.samples))
        return other

    def batches(self, epoch: int, start: int = 0) -> Generator[Batch, None, None]:
        """The batches of an epoch from number `start` on, prepared ahead on a thread."""
        ready: queue.Queue[Batch | BaseException | None] = queue.Queue(AHEAD)
        stopped = threading.Event()

        def fill() -> None:
            pool = ThreadPoolExecutor(self.workers)
            try:
                last: Callable[[], Batch] | None = None  # so that threads have the next batch while one is put together
                for number in range(start, self.steps):
                    begun = self.begin(epoch, number, pool)
                    if last is not None:
                        _put(ready, last(), stopped)
                    if stopped.is_set():
                        return
                    last = begun
                _put(ready, last and last(), stopped)
                _put(ready, None, stopped)
            except BaseException as error:  # raised again where the batches are taken
                _put(ready, error, stopped)
            finally:
                pool.shutdown(cancel_futures=True)

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

    def begin(self, epoch: int, number: int, pool: Executor) -> Callable[[], Batch]:
        """Have the images of a batch decoded in a pool; what comes back waits for them and gives the batch, augmented."""
        every = self._sequence(epoch)
        first = number * self.batch_size
        count = min(self.batch_size, len(every.samples) - first)
        part = part_of(count, *self.part)
        part = slice(first + part.start, first + part.stop)
        chosen, what = every.samples[part], self.augmentation
        how = replace(self.how, size=self.size_of(epoch)) if self.size_of else self.how
        draws = numbers(self.seed, epoch, chosen, every.views[part], what) if what else np.zeros((len(chosen), 0))
        squares = self._squares(chosen, draws, how, pool)

        def finish() -> Batch:
            images, readable = squares()
            places, own = chosen[readable], draws[readable]
            if what is not None:
                images = augmented(images, own, what, how, pool, self.resize)
            shift = lighting(own, what.lighting) if what is not None and what.lighting else None
            shares = None if every.weights is None else every.weights[part][readable]
            return Batch(images, self.samples.labels[places], shift, places, shares)

        return finish

    def _sequence(self, epoch: int) -> Sequence:
        if self.augmentation is None or not self.shuffled:
            return Sequence(self._in_order, np.broadcast_to(0, len(self.samples)))
        if self._ordered is None or self._ordered[0] != epoch:
            what, labels = self.augmentation, self.samples.labels
            if self.learned is None:
                balanced = what.balance == "sample"
                made = sequence(self.seed, epoch, labels, self.batch_size, repeats=what.repeats, balanced=balanced)
            else:
                made = self.learned.sequence(self.seed, epoch, self.steps * self.batch_size)
            self._ordered = (epoch, made)
        return self._ordered[1]

    def _squares(
        self, chosen: np.ndarray, draws: np.ndarray, how: Preprocessing, pool: Executor
    ) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
        """Begin to decode; then, the squares of the chosen samples that can be read, a fresh array, and which those are.

        They have the epoch's pixels, those of `how`, where each epoch decodes another part of the image, else `self.how`'s.
        """
        if self._kept is not None:
            return self._kept_squares(self._kept, chosen, pool)
        size = how.size if self.augmentation and not self.augmentation.keeps_the_frame else self.how.size
        out = np.empty((len(chosen), size, size, self.how.channels), np.uint8)
        good = self._decoded(out, chosen, draws, pool)

        def squares() -> tuple[np.ndarray, np.ndarray]:
            readable = np.fromiter(good, bool, len(chosen))
            return (out if readable.all() else out[readable]), readable

        return squares

    def _kept_squares(
        self, kept: np.ndarray, chosen: np.ndarray, pool: Executor
    ) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
        """The same of squares that are kept: those are decoded that haven't been."""
        new, size = np.unique(chosen[self._known[chosen] == 0]), self.how.size  # a batch may show one more than once
        if middle(size, size, self.how) == (0, 0, size, size):  # then an image of that size is its own square
            ready = self.samples.images.squares(self.samples.indices[new], size, self.how.channels)
            if ready is not None:
                kept[new], self._known[new] = ready, 1
                new = new[:0]
        good = self._decoded([kept[place] for place in new], new, np.zeros((len(new), 0)), pool)

        def squares() -> tuple[np.ndarray, np.ndarray]:
            self._known[new] = [1 if readable else -1 for readable in good]
            readable = self._known[chosen] == 1
            return kept[chosen] if readable.all() else kept[chosen[readable]], readable

        return squares

    def _decoded(self, out: Iterable[np.ndarray], places: np.ndarray, draws: np.ndarray, pool: Executor) -> Iterator[bool]:
        """Begin to decode samples, several in a task, each to its own place; then, whether each can be read."""
        each = list(zip(out, places.tolist(), draws, strict=True))
        share = max(1, len(each) // SHARES)
        tasks = [each[start : start + share] for start in range(0, len(each), share)]
        return chain.from_iterable(pool.map(lambda task: [self._decode_into(*one) for one in task], tasks))

    def _decode_into(self, out: np.ndarray, place: int, draws: np.ndarray) -> bool:
        """One sample's square, written to `out`; False, and a line in `failures`, if it can't be read."""
        index = int(self.samples.indices[place])
        what = self.augmentation
        try:
            if what is None or what.keeps_the_frame:
                image = self.samples.images.read(index, self.how.channels == 1, self.how.resized)
                out[:] = crop(image, self.how)
            else:
                how = self.how if len(out) == self.how.size else replace(self.how, size=len(out))
                image = self.samples.images.read(index, how.channels == 1, how.size)
                box = random_box(image.shape[0], image.shape[1], draws, what, self.how)  # the same part at any size
                out[:] = self.resize(image, box, how)
        except UnreadableImage as error:
            self.failures[self.samples.images.keys[index]] = str(error)
            return False
        return True


def keeps_squares(count: int, how: Preprocessing, augmentation: Augmentation | None) -> bool:
    """Whether a loader keeps the squares of so many images in memory, since each epoch starts from the same."""
    fits = count * how.size * how.size * how.channels <= CACHE_BYTES
    return fits and (augmentation is None or augmentation.keeps_the_frame)


def _put(ready: queue.Queue, item: Batch | BaseException | None, stopped: threading.Event) -> None:
    """Hand on, unless nobody takes it any more."""
    while not stopped.is_set():
        try:
            ready.put(item, timeout=0.1)
            return
        except queue.Full:
            continue
