"""What training does to images, as pure functions of pixels and of each image's random numbers."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from resnets.data import policies
from resnets.data.erasing import ERASING_DRAWS
from resnets.data.order import order as order
from resnets.data.order import uniform as uniform
from resnets.data.policies import Policy
from resnets.data.preprocessing import Box, Preprocessing, middle

Crop = Literal["resized", "padded", "short-side", "none"]
Fill = Literal["mean", "black", "reflect"]
Flip = bool | Literal["alternate"]
TRIES = 10  # of a random-resized crop, as torchvision
OWN = 8  # random numbers of one sample that no try takes: flip, two of its place, colour
DRAWS = OWN + 4 * TRIES
JITTER = slice(DRAWS, DRAWS + policies.JITTER_DRAWS)  # and after those numbers, the places of the others
ERASING = slice(JITTER.stop, JITTER.stop + ERASING_DRAWS)
HALVES = 0x68616C766573  # mixed into the seed, so that the half of alternate flips is no other draw

# AlexNet's colour augmentation (Krizhevsky et al. 2012, section 4.1): the principal components of ImageNet's RGB values
LIGHTING_VALUES = np.array([0.2175, 0.0188, 0.0045])
LIGHTING_VECTORS = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])


@dataclass(frozen=True)
class Augmentation:
    """What training does to an image, beyond the preprocessing, and how often it shows which."""

    crop: Crop = "none"
    scale: tuple[float, float] = (0.08, 1.0)  # "resized": the crop's share of the image's area (Szegedy et al. 2015)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)  # "resized": the crop's width to its height
    padding: int = 4  # "padded": pixels around the image before a random crop (section 4.2 of the paper)
    fill: Fill = "mean"  # what is there: the preprocessing's colour, zeros, or the image's own reflection
    short_side: tuple[int, int] = (256, 480)  # "short-side": the shorter side is resized at random (section 3.4)
    flip: Flip = False  # mirror every other image; "alternate": see `alternating`
    lighting: float = 0.0  # the deviation of AlexNet's colour augmentation: 0.1 in its paper
    policy: Policy = "none"
    operations: int = 2  # of RandAugment
    magnitude: float = 9.0  # of RandAugment, 0…10, which are torchvision's bins 0…30
    spread: float = 0.0  # its deviation from image to image
    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)  # of brightness, contrast, saturation, hue
    erasing: float = 0.0  # the probability of a rectangle erased (Zhong et al. 2017)
    erasing_area: tuple[float, float] = (0.02, 0.4)  # its share of the image
    repeats: int = 1  # views of an image within a batch
    balance: Literal["none", "sample"] = "none"  # "sample": classes are drawn equally often

    @property
    def keeps_the_frame(self) -> bool:
        """Whether every epoch starts from the same square of the image, which can then be kept decoded."""
        return self.crop in ("padded", "none")

    @property
    def still(self) -> bool:
        """Whether every epoch shows the same images, in another order."""
        return self.crop == "none" and not (self.flip or self.lighting or self.erasing or self.goes_image_by_image)

    @property
    def goes_image_by_image(self) -> bool:
        """Whether something is done to each image by itself, after crop and flip."""
        return self.policy != "none" or any(self.jitter)

    @property
    def draws(self) -> int:
        """Random numbers that an image needs."""
        if self.policy != "none":
            operations = self.operations if self.policy == "randaugment" else 1
            return ERASING.stop + policies.OPERATION_DRAWS * operations
        return ERASING.stop if self.erasing else JITTER.stop if any(self.jitter) else DRAWS


def numbers(seed: int, epoch: int, samples: np.ndarray, views: np.ndarray, what: Augmentation) -> np.ndarray:
    """The random numbers of some images, float64 [samples, what.draws]; an image whose first is below ½ is mirrored."""
    draws = uniform(seed, epoch, samples, what.draws, views)
    if what.flip == "alternate":
        draws[:, 0] = np.where(alternating(seed, epoch, samples, views), 0.0, 0.5)
    return draws


def alternating(seed: int, epoch: int, samples: np.ndarray, views: np.ndarray) -> np.ndarray:
    """Which images are mirrored, bool [samples]: in epoch 0 a hashed half, in each other epoch the other half of the last's.

    Alternating flip (Jordan 2024, section 3.6). Within an epoch an image's views alternate too.
    """
    half = uniform(seed ^ HALVES, 0, samples, 1)[:, 0] < 0.5
    return half ^ ((epoch + views) % 2 == 1)


def random_box(height: int, width: int, draws: np.ndarray, what: Augmentation, how: Preprocessing) -> Box:
    """The part of a height × width image that one sample shows, for the crops that change it; `draws` are its numbers.

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
    for share, shape, x, y in draws[OWN:DRAWS].reshape(TRIES, 4):
        area = height * width * (what.scale[0] + share * (what.scale[1] - what.scale[0]))
        low, high = math.log(what.ratio[0]), math.log(what.ratio[1])
        ratio = math.exp(low + shape * (high - low))
        w, h = math.sqrt(area * ratio), math.sqrt(area / ratio)
        if w <= width and h <= height:
            return x * (width - w), y * (height - h), x * (width - w) + w, y * (height - h) + h
    left, top, right, bottom = middle(height, width, how)
    return max(left, 0), max(top, 0), min(right, width), min(bottom, height)


def pad_and_crop(images: np.ndarray, draws: np.ndarray, padding: int, fill: tuple[int, ...] | None) -> np.ndarray:
    """Each of uint8 [batch, size, size, channels] padded and cut at random to its size again.

    `fill` is a colour; None is the reflection of the image itself, whose outermost pixels aren't said twice.
    """
    count, size, _, channels = images.shape
    side = size + 2 * padding
    if fill is None:
        padded = np.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)), mode="reflect")
    else:
        padded = np.empty((count, side, side, channels), np.uint8)
        padded.reshape(count, side * side * channels)[:] = np.tile(np.array(fill, np.uint8), side * side)
        padded[:, padding : padding + size, padding : padding + size] = images
    top, left = (draws[:, 1:3] * (2 * padding + 1)).astype(int).T
    every = np.lib.stride_tricks.sliding_window_view(padded, (size, size, channels), (1, 2, 3))
    return every[np.arange(count), top, left, 0]


def mirror(images: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Every other image mirrored, in place."""
    chosen = draws[:, 0] < 0.5
    as_they_are = images[chosen]
    mirrored = np.empty_like(as_they_are)
    for channel in range(images.shape[3]):  # five times as fast as all of a pixel at once
        mirrored[..., channel] = as_they_are[:, :, ::-1, channel]
    images[chosen] = mirrored
    return images


def lighting(draws: np.ndarray, deviation: float) -> np.ndarray:
    """What AlexNet's colour augmentation adds to the RGB values (in 0…1) of each image: float32 [batch, 3]."""
    radius = np.sqrt(-2 * np.log1p(-draws[:, [3, 3, 5]]))  # normal numbers by Box and Muller
    angle = 2 * np.pi * draws[:, [4, 4, 6]] - np.array([0, np.pi / 2, 0])
    strength = deviation * radius * np.cos(angle)
    return ((strength * LIGHTING_VALUES) @ LIGHTING_VECTORS.T).astype(np.float32)
