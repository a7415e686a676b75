"""The order of an epoch and its random numbers as pure functions: nothing is drawn from a generator with a state.

Each random number is a hash of (seed, epoch, sample, view, which draw), so a run that resumes in the middle, or on other
workers or processes, sees the same images. A view is one of the times that an epoch shows a sample.
"""

from typing import Any, NamedTuple

import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
AT_ONCE = 2**20  # samples, where there may be millions
VIEW = np.uint64(40)  # bits of a sample's number below its view's
ROUNDS, WITHIN = 0x726F756E6473, 0x77697468696E  # mixed into the seed, so that these draws are no image's


class Sequence(NamedTuple):
    """What an epoch goes through."""

    samples: np.ndarray  # int64 [length]
    views: np.ndarray  # int64 [length]: how often the epoch has shown that sample before
    weights: np.ndarray | None = None  # float32 [length], of each sample's loss


def uniform(seed: int, epoch: int, samples: np.ndarray, draws: int, views: np.ndarray | None = None) -> np.ndarray:
    """Numbers in [0, 1), float64 [samples, draws], each a hash of (seed, epoch, sample, view, draw): SplitMix64's mixing.

    Without `views` each sample's view is 0.
    """
    with np.errstate(over="ignore"):
        key = _mix(_mix(np.uint64(seed) + GOLDEN) + np.uint64(epoch) * GOLDEN + GOLDEN)
        numbers = samples.astype(np.uint64)
        if views is not None:
            numbers = numbers | (views.astype(np.uint64) << VIEW)
        rows = _mix(key ^ _mix(numbers * GOLDEN + GOLDEN))
        cells = _mix(rows[:, None] + np.arange(1, draws + 1, dtype=np.uint64) * GOLDEN)
    return (cells >> np.uint64(11)).astype(np.float64) * 2.0**-53


def noise(keys: np.ndarray, counts: np.ndarray) -> list[np.ndarray]:
    """Bytes, uint8 [count] for each of `counts`, hashed from as many numbers in [0, 1): eight at a time, all at once."""
    words = -(-counts // 8)
    starts = np.cumsum(words) - words
    with np.errstate(over="ignore"):
        begin = _mix((keys * 2.0**53).astype(np.uint64) + GOLDEN)
        within = (np.arange(words.sum()) - np.repeat(starts, words)).astype(np.uint64)
        every = _mix(np.repeat(begin, words) + within * GOLDEN)
    values = every.astype("<u8").view(np.uint8)
    return [values[8 * start : 8 * start + count] for start, count in zip(starts, counts, strict=True)]


def _mix(x: Any) -> Any:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def order(seed: int, epoch: int, count: int) -> np.ndarray:
    """The order of an epoch: a permutation of 0…count−1, a function of (seed, epoch) alone."""
    numbers = np.empty(count)
    for start in range(0, count, AT_ONCE):
        stop = min(start + AT_ONCE, count)
        numbers[start:stop] = uniform(seed, epoch, np.arange(start, stop), 1)[:, 0]
    return np.argsort(numbers, kind="stable")


def sequence(
    seed: int, epoch: int, labels: np.ndarray, batch_size: int, *, repeats: int = 1, balanced: bool = False
) -> Sequence:
    """The whole batches of an epoch, one after the other: as many as there are without `repeats` and `balanced`.

    With `repeats` (repeated augmentation, Hoffer et al. 2020) a batch shows batch_size / repeats images, each so often: all
    of them once, then all of them again, so that neighbours differ; the epoch shows a share 1 / repeats of the images.
    `balanced` draws each class of `labels`, int64 [samples], equally often. ValueError where repeats don't divide a batch.
    """
    if batch_size % repeats:
        raise ValueError(f"a batch of {batch_size} can't show each image {repeats} times: the batch is a multiple of that")
    batches = len(labels) // batch_size
    different = batch_size // repeats
    if balanced:
        chosen = _balanced(seed, epoch, labels, batches * different)
    else:
        chosen = order(seed, epoch, len(labels))[: batches * different]
    if repeats == 1 and not balanced:
        return Sequence(chosen, np.broadcast_to(0, len(chosen)))
    samples = np.tile(chosen.reshape(batches, 1, different), (1, repeats, 1)).reshape(-1)
    return Sequence(samples, seen_before(samples))


def _balanced(seed: int, epoch: int, labels: np.ndarray, length: int) -> np.ndarray:
    """Samples of which the classes are drawn equally often, int64 [length].

    The run is a series of rounds, cut into epochs. A round shows each class once, in an order of its own; a class shows its
    images in an order of its own, and all of them before any comes again.
    """
    if not length:
        return np.zeros(0, int)
    classes, of_class = np.unique(labels, return_inverse=True)
    first, last = epoch * length // len(classes), -(-(epoch + 1) * length // len(classes))
    cells = uniform(seed ^ ROUNDS, 0, np.arange(first * len(classes), last * len(classes)), 1)
    turns = np.argsort(cells.reshape(-1, len(classes)), axis=1, kind="stable")  # [rounds, classes]
    shown = np.empty((last - first, len(classes)), int)  # of each class in each round
    by_class = np.split(np.argsort(of_class, kind="stable"), np.cumsum(np.bincount(of_class))[:-1])
    for number, members in enumerate(by_class):
        passes = np.arange(first // len(members), -(-last // len(members)))
        grid = np.tile(members, len(passes))
        cells = uniform(seed ^ WITHIN, 0, grid, 1, np.repeat(passes, len(members))).reshape(-1, len(members))
        through = members[np.argsort(cells, axis=1, kind="stable")].reshape(-1)
        skipped = first - passes[0] * len(members)
        shown[:, number] = through[skipped : skipped + last - first]
    start = epoch * length - first * len(classes)
    return np.take_along_axis(shown, turns, axis=1).reshape(-1)[start : start + length]


def seen_before(samples: np.ndarray) -> np.ndarray:
    """Of each place, how many earlier places hold the same sample: int64 [length]."""
    by_sample = np.argsort(samples, kind="stable")
    ordered = samples[by_sample]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])[: len(ordered)]
    lengths = np.diff(np.r_[starts, len(ordered)])
    before = np.empty(len(samples), int)
    before[by_sample] = np.arange(len(samples)) - np.repeat(starts, lengths)
    return before


def part_of(count: int, rank: int, world: int) -> slice:
    """The contiguous part of a batch of `count` that one of `world` processes takes; it may be empty.

    It begins at an even place, so that places 2k and 2k + 1 stay together; parts differ by at most two.
    """
    pairs = -(-count // 2)
    return slice(min(count, 2 * (pairs * rank // world)), min(count, 2 * (pairs * (rank + 1) // world)))
