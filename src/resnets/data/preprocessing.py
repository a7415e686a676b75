"""The one preprocessing: what happens to a decoded image before the network, in validation, evaluation and prediction alike.

An image goes through two steps. `crop` resizes it and cuts it to a square, still uint8; `normalise` makes it the numbers
that the network reads. An engine may do the second inside its graph.
"""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import numpy as np
from PIL import Image

Fit = Literal["crop", "pad", "squash"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
Colour = Literal["RGB", "BGR", "grey"]
Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels of the image; may reach beyond it

RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the network's input. The defaults are those of ImageNet at 224 pixels.

    Raises ValueError, naming the field, where a value cannot be.
    """

    size: int = 224  # pixels of the square that the network reads
    crop: float = 0.875  # with fit "crop": the square is this share of the resized shorter side (224 of 256)
    fit: Fit = "crop"  # cut a square from the middle; fill up to a square; or squash to one
    interpolation: Interpolation = "bilinear"
    antialias: bool = True  # average over all source pixels when shrinking, as Pillow does; TensorFlow and Keras don't
    colour: Colour = "RGB"  # the order of channels
    scale: float = 1 / 255  # x = (pixel · scale − mean) / deviation
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)  # a channel, in the order of `colour`
    deviation: tuple[float, ...] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", tuple(self.mean))
        object.__setattr__(self, "deviation", tuple(self.deviation))
        for field in fields(self):
            value = getattr(self, field.name)
            if get_origin(field.type) is Literal and value not in get_args(field.type):
                raise ValueError(f"{field.name} is one of {', '.join(get_args(field.type))}, not {value!r}")
        if not isinstance(self.size, int) or not 8 <= self.size <= 4096:
            raise ValueError(f"size is a whole number of pixels from 8 to 4096, not {self.size!r}")
        if not 0 < self.scale < float("inf"):
            raise ValueError(f"scale is a number above 0, not {self.scale!r}")
        if not all(math.isfinite(x) for x in (*self.mean, *self.deviation)):
            raise ValueError(f"mean and deviation are numbers, not {list(self.mean)} and {list(self.deviation)}")
        if not 0 < self.crop <= 1:
            raise ValueError(f"crop is the share of the shorter side that is kept, above 0 and at most 1, not {self.crop!r}")
        if len(self.mean) != self.channels or len(self.deviation) != self.channels or min(self.deviation) <= 0:
            raise ValueError(
                f"mean and deviation have one number for each of the {self.channels} channels, deviation above 0"
            )

    @property
    def channels(self) -> int:
        """Channels that the network reads: 1 for grey, else 3."""
        return 1 if self.colour == "grey" else 3

    @property
    def resized(self) -> int:
        """Pixels of the shorter side that an image is resized to: 256 for ImageNet's 224."""
        return round(self.size / self.crop) if self.fit == "crop" else self.size

    @property
    def fill(self) -> tuple[int, ...]:
        """The colour around a padded image, (red, green, blue) or (grey,): the mean, which the network reads as 0."""
        values = tuple(min(255, max(0, round(mean / self.scale))) for mean in self.mean)
        return values[::-1] if self.colour == "BGR" else values

    @property
    def in_words(self) -> str:
        """What happens to an image, in a line."""
        fits = {
            "crop": f"shorter side to {self.resized}, middle {self.size}×{self.size}",
            "pad": f"padded to {self.size}×{self.size}",
            "squash": f"squashed to {self.size}×{self.size}",
        }
        said = f"{fits[self.fit]}, {self.interpolation}{'' if self.antialias else ' without antialias'}, {self.colour}"
        scaled = "" if self.scale == 1 / 255 else f", pixels times {self.scale:.6g}"
        return f"{said}{scaled}, mean {list(self.mean)}, deviation {list(self.deviation)}"

    def to_json(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "mean": list(self.mean), "deviation": list(self.deviation)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Preprocessing":
        """The inverse of `to_json`; ValueError on a field unknown here, so that nothing is dropped in silence."""
        unknown = sorted(set(document) - {field.name for field in fields(cls)})
        if unknown:
            raise ValueError(f"unknown preprocessing field {unknown[0]!r}")
        return cls(**document)


NAMED = {
    "imagenet": Preprocessing(),
    "cifar10": Preprocessing(size=32, crop=1.0, mean=(0.4914, 0.4822, 0.4465), deviation=(0.247, 0.2435, 0.2616)),
}


def named_preprocessing(given: str | os.PathLike[str]) -> Preprocessing:
    """The preprocessing of a name, or of a JSON file with the fields of `Preprocessing`; those left out have its defaults.

    Raises ValueError, with the names there are, for another name or a file that says none.
    """
    if str(given) in NAMED:
        return NAMED[str(given)]
    path = Path(given)
    if path.suffix != ".json":
        raise ValueError(
            f"a preprocessing is {', '.join(NAMED)}, a .json file or a model's .safetensors, not {str(given)!r}"
        )
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(document, dict):
            raise ValueError(f"it is a JSON object of {', '.join(field.name for field in fields(Preprocessing))}")
        return Preprocessing.from_json(document)
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}") from None
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} says no preprocessing: {error}") from None


def crop(image: np.ndarray, how: Preprocessing) -> np.ndarray:
    """The square that the network sees of a whole image: uint8 [height, width, channels] → uint8 [size, size, channels].

    Raises ValueError where the image hasn't the channels that the preprocessing is for.
    """
    if image.ndim != 3 or image.shape[2] != how.channels:
        raise ValueError(f"this model reads images of {how.channels} channels, [height, width, channels], not {image.shape}")
    return resample(image, middle(image.shape[0], image.shape[1], how), how)


def normalise(crops: np.ndarray, how: Preprocessing) -> np.ndarray:
    """uint8 [batch, size, size, channels] → what the network reads, float32 [batch, channels, size, size]."""
    ordered = crops[..., ::-1] if how.colour == "BGR" else crops
    mean, deviation = np.array(how.mean, np.float32), np.array(how.deviation, np.float32)
    return np.ascontiguousarray(((ordered * np.float32(how.scale) - mean) / deviation).transpose(0, 3, 1, 2))


def middle(height: int, width: int, how: Preprocessing) -> Box:
    """The part of a height × width image that evaluation looks at, by `fit`. The crop is torchvision's to the pixel."""
    if how.fit == "squash":
        return 0, 0, width, height
    if how.fit == "pad":
        side = max(height, width)
        return (width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2
    short = how.resized
    new_width, new_height = (short, short * height // width) if width <= height else (short * width // height, short)
    left, top = round((new_width - how.size) / 2), round((new_height - how.size) / 2)
    across, down = width / new_width, height / new_height  # pixels of the image to one of the resized image
    return left * across, top * down, (left + how.size) * across, (top + how.size) * down


def resample(image: np.ndarray, box: Box, how: Preprocessing) -> np.ndarray:
    """The box of a uint8 [height, width, channels] image as a square of `how.size` pixels, in one pass.

    What the box has beyond the image is filled with `how.fill`.
    """
    height, width, channels = image.shape
    left, top, right, bottom = box
    inside = (max(left, 0), max(top, 0), min(right, width), min(bottom, height))
    if inside == (0, 0, width, height) == box and height == width == how.size:
        return image
    if inside == tuple(box):
        return _resize(image, box, (how.size, how.size), how)
    x0, x1 = (round((x - left) * how.size / (right - left)) for x in (inside[0], inside[2]))
    y0, y1 = (round((y - top) * how.size / (bottom - top)) for y in (inside[1], inside[3]))
    x1, y1 = max(x1, x0 + 1), max(y1, y0 + 1)  # a thread of an image is still seen
    canvas = np.empty((how.size, how.size, channels), np.uint8)
    canvas[:] = how.fill
    canvas[y0:y1, x0:x1] = _resize(image, inside, (x1 - x0, y1 - y0), how)
    return canvas


def _resize(image: np.ndarray, box: Box, size: tuple[int, int], how: Preprocessing) -> np.ndarray:
    """The box, all of it inside the image, resized to (width, height): uint8 [height, width, channels]."""
    if not how.antialias and how.interpolation != "nearest":
        return _resize_without_antialias(image, box, size, how.interpolation)
    source = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    resized = np.asarray(source.resize(size, RESAMPLING[how.interpolation], box=box))
    return resized.reshape(size[1], size[0], image.shape[2])


def _resize_without_antialias(image: np.ndarray, box: Box, size: tuple[int, int], interpolation: str) -> np.ndarray:
    """The same with the filter at its own width, whatever the scale: two matrix products, one a side."""
    left, top, right, bottom = box
    across = _weights(image.shape[1], left, right, size[0], interpolation)
    down = _weights(image.shape[0], top, bottom, size[1], interpolation)
    resized = np.einsum("yh,hwc,xw->yxc", down, image.astype(np.float32), across, optimize=True)
    return np.clip(np.rint(resized), 0, 255).astype(np.uint8)


def _weights(source: int, start: float, stop: float, size: int, interpolation: str) -> np.ndarray:
    """What each of `size` pixels takes from each of `source` pixels, when start…stop is stretched to it: [size, source]."""
    centres = start + (np.arange(size) + 0.5) * (stop - start) / size - 0.5
    reach = {"bilinear": 1, "bicubic": 2, "lanczos": 3}[interpolation]
    taps = np.floor(centres)[:, None] + np.arange(1 - reach, reach + 1)
    away = np.abs(centres[:, None] - taps)
    if interpolation == "bilinear":
        weight = np.maximum(1 - away, 0)
    elif interpolation == "bicubic":  # Keys 1981, a = −0.5, as Pillow
        near, far = (1.5 * away - 2.5) * away**2 + 1, ((-0.5 * away + 2.5) * away - 4) * away + 2
        weight = np.where(away < 1, near, np.where(away < 2, far, 0))
    else:
        weight = np.where(away < 3, np.sinc(away) * np.sinc(away / 3), 0)
    weight /= weight.sum(1, keepdims=True)
    matrix = np.zeros((size, source), np.float32)
    columns = np.clip(taps, 0, source - 1).astype(int)
    np.add.at(matrix, (np.arange(size)[:, None], columns), weight)
    return matrix
