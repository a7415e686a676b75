"""Order and augmentation as pure functions of (seed, epoch, sample): nothing is drawn from a generator with a state.

Each random number is a hash of (seed, epoch, sample, which draw), so a run that resumes in the middle, or on other
workers, sees the same images.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from resnets.data.preprocessing import Box, Preprocessing, middle

Crop = Literal["resized", "padded", "short-side", "none"]
TRIES = 10  # of a random-resized crop, as torchvision
OWN = 8  # random numbers of one sample that no try takes: flip, two of its place, colour
DRAWS = OWN + 4 * TRIES

# AlexNet's colour augmentation (Krizhevsky et al. 2012, section 4.1): the principal components of ImageNet's RGB values
LIGHTING_VALUES = np.array([0.2175, 0.0188, 0.0045])
LIGHTING_VECTORS = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])


@dataclass(frozen=True)
class Augmentation:
    """What training does to an image, beyond the preprocessing."""

    crop: Crop = "none"
    scale: tuple[float, float] = (0.08, 1.0)  # "resized": the crop's share of the image's area (Szegedy et al. 2015)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)  # "resized": the crop's width to its height
    padding: int = 4  # "padded": pixels around the image before a random crop (section 4.2 of the paper)
    short_side: tuple[int, int] = (256, 480)  # "short-side": the shorter side is resized at random (section 3.4)
    flip: bool = False  # mirror every other image
    lighting: float = 0.0  # the deviation of AlexNet's colour augmentation: 0.1 in its paper

    @property
    def keeps_the_frame(self) -> bool:
        """Whether every epoch starts from the same square of the image, which can then be kept decoded."""
        return self.crop in ("padded", "none")


def uniform(seed: int, epoch: int, samples: np.ndarray, draws: int) -> np.ndarray:
    """Numbers in [0, 1), float64 [samples, draws], each a hash of (seed, epoch, sample, draw): SplitMix64's mixing."""
    with np.errstate(over="ignore"):
        key = _mix(_mix(np.uint64(seed) + GOLDEN) + np.uint64(epoch) * GOLDEN + GOLDEN)
        rows = _mix(key ^ _mix(samples.astype(np.uint64) * GOLDEN + GOLDEN))
        cells = _mix(rows[:, None] + np.arange(1, draws + 1, dtype=np.uint64) * GOLDEN)
    return (cells >> np.uint64(11)).astype(np.float64) * 2.0**-53


GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(x: Any) -> Any:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def order(seed: int, epoch: int, count: int) -> np.ndarray:
    """The order of an epoch: a permutation of 0…count−1, a function of (seed, epoch) alone."""
    return np.argsort(uniform(seed, epoch, np.arange(count), 1)[:, 0], kind="stable")


def random_box(height: int, width: int, draws: np.ndarray, what: Augmentation, how: Preprocessing) -> Box:
    """The part of a height × width image that one sample shows, for the crops that change it; `draws` are its `DRAWS`.

    With fit "squash" the image counts as a square, with "pad" as the square around it, so that training sees what
    evaluation will.
    """
    if how.fit == "squash":
        left, top, right, bottom = _box_in(how.size, how.size, draws, what, how)
        across, down = width / how.size, height / how.size
        return left * across, top * down, right * across, bottom * down
    if how.fit == "pad":
        side = max(height, width)
        left, top, right, bottom = _box_in(side, side, draws, what, how)
        across, down = (side - width) / 2, (side - height) / 2
        return left - across, top - down, right - across, bottom - down
    return _box_in(height, width, draws, what, how)


def _box_in(height: int, width: int, draws: np.ndarray, what: Augmentation, how: Preprocessing) -> Box:
    if what.crop == "short-side":
        low, high = what.short_side
        side = min(height, width) * how.size / (low + int(draws[OWN] * (high - low + 1)))
        side = min(side, height, width)
        left, top = draws[1] * (width - side), draws[2] * (height - side)
        return left, top, left + side, top + side
    for share, shape, x, y in draws[OWN:].reshape(TRIES, 4):
        area = height * width * (what.scale[0] + share * (what.scale[1] - what.scale[0]))
        low, high = math.log(what.ratio[0]), math.log(what.ratio[1])
        ratio = math.exp(low + shape * (high - low))
        w, h = math.sqrt(area * ratio), math.sqrt(area / ratio)
        if w <= width and h <= height:
            return x * (width - w), y * (height - h), x * (width - w) + w, y * (height - h) + h
    left, top, right, bottom = middle(height, width, how)
    return max(left, 0), max(top, 0), min(right, width), min(bottom, height)


def pad_and_crop(images: np.ndarray, draws: np.ndarray, padding: int, fill: tuple[int, ...]) -> np.ndarray:
    """Each of uint8 [batch, size, size, channels] padded with `fill` and cut at random to its size again."""
    count, size = images.shape[:2]
    padded = np.empty((count, size + 2 * padding, size + 2 * padding, images.shape[3]), np.uint8)
    padded[:] = fill
    padded[:, padding : padding + size, padding : padding + size] = images
    top, left = (draws[:, 1:3] * (2 * padding + 1)).astype(int).T
    rows, columns = top[:, None] + np.arange(size), left[:, None] + np.arange(size)
    return padded[np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]


def mirror(images: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Every other image mirrored, in place."""
    chosen = draws[:, 0] < 0.5
    images[chosen] = images[chosen, :, ::-1]
    return images


def lighting(draws: np.ndarray, deviation: float) -> np.ndarray:
    """What AlexNet's colour augmentation adds to the RGB values (in 0…1) of each image: float32 [batch, 3]."""
    radius = np.sqrt(-2 * np.log1p(-draws[:, [3, 3, 5]]))  # normal numbers by Box and Muller
    angle = 2 * np.pi * draws[:, [4, 4, 6]] - np.array([0, np.pi / 2, 0])
    strength = deviation * radius * np.cos(angle)
    return ((strength * LIGHTING_VALUES) @ LIGHTING_VECTORS.T).astype(np.float32)
