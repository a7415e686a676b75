"""Policies: RandAugment (Cubuk et al. 2019), TrivialAugment (Müller & Hutter 2021) and colour jitter, of one image each.

The operations are Pillow's, with the strengths of torchvision's RandAugment, TrivialAugmentWide and ColorJitter; where
Pillow makes a table of 256 entries in a loop, NumPy makes the same one. Nothing is drawn here: each function is given the
numbers in [0, 1) that it needs.
"""

import math
from collections.abc import Callable
from itertools import permutations
from typing import Literal

import numpy as np
from PIL import Image, ImageFilter

Policy = Literal["none", "randaugment", "trivialaugment"]
Fill = int | tuple[int, ...]
Strengths = dict[str, tuple[float, bool]]  # of each operation: the highest, and whether it goes both ways

LEVELS = np.arange(256)
BINS = 30  # the highest magnitude's bin, of 31
OPERATION_DRAWS = 4  # numbers of an operation: which, its sign, and two for its magnitude
JITTER_DRAWS = 5  # its order, and four factors


def _blend(image: Image.Image, other: Image.Image, strength: float) -> Image.Image:
    return Image.blend(other, image, 1.0 + strength)


def shear_x(image: Image.Image, strength: float, fill: Fill) -> Image.Image:
    """Rows moved sideways by `strength` pixels a pixel down, the top row not."""
    return _affine(image, (1.0, strength, 0.0, 0.0, 1.0, 0.0), fill)


def shear_y(image: Image.Image, strength: float, fill: Fill) -> Image.Image:
    """Columns moved up or down by `strength` pixels a pixel across, the left column not."""
    return _affine(image, (1.0, 0.0, 0.0, strength, 1.0, 0.0), fill)


def translate_x(image: Image.Image, strength: float, fill: Fill) -> Image.Image:
    """Moved to the right by whole pixels."""
    return _affine(image, (1.0, 0.0, -float(int(strength)), 0.0, 1.0, 0.0), fill)


def translate_y(image: Image.Image, strength: float, fill: Fill) -> Image.Image:
    """Moved down by whole pixels."""
    return _affine(image, (1.0, 0.0, 0.0, 0.0, 1.0, -float(int(strength))), fill)


def _affine(image: Image.Image, matrix: tuple[float, ...], fill: Fill) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST, fillcolor=fill)


def rotate(image: Image.Image, strength: float, fill: Fill) -> Image.Image:
    """Turned by `strength` degrees."""
    return image.rotate(strength, Image.Resampling.NEAREST, fillcolor=fill)


def brightness(image: Image.Image, strength: float, fill: Fill = 0) -> Image.Image:
    """Times 1 + strength."""
    return _blend(image, Image.new(image.mode, image.size, 0), strength)


def colour(image: Image.Image, strength: float, fill: Fill = 0) -> Image.Image:
    """The distance of each pixel from its grey times 1 + strength."""
    return _blend(image, image.convert("L").convert(image.mode), strength)


def contrast(image: Image.Image, strength: float, fill: Fill = 0) -> Image.Image:
    """The distance of each pixel from the image's mean grey times 1 + strength."""
    mean = int(LEVELS @ np.array(image.convert("L").histogram()) / (image.width * image.height) + 0.5)
    return _blend(image, Image.new(image.mode, image.size, mean if image.mode == "L" else (mean,) * 3), strength)


def sharpness(image: Image.Image, strength: float, fill: Fill = 0) -> Image.Image:
    """The distance of each pixel from the smoothed image times 1 + strength."""
    return _blend(image, image.filter(ImageFilter.SMOOTH), strength)


def posterize(image: Image.Image, strength: float, fill: Fill = 0) -> Image.Image:
    """With so many bits a channel, rounded: 8 leaves all."""
    return _through(image, LEVELS & ~(2 ** (8 - round(strength)) - 1))


def solarize(image: Image.Image, strength: float, fill: Fill = 0) -> Image.Image:
    """Pixels from `strength` times 255 up inverted."""
    return _through(image, np.where(255.0 * strength > LEVELS, LEVELS, 255 - LEVELS))


def autocontrast(image: Image.Image, strength: float = 0, fill: Fill = 0) -> Image.Image:
    """Each channel stretched to 0…255."""
    low, high = np.array(image.getextrema(), float).reshape(-1, 2, 1).transpose(1, 0, 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = 255.0 / (high - low)
        table = LEVELS * scale + -low * scale
    return _through(image, np.where(high > low, np.clip(table, 0, 255), LEVELS).astype(int))


def equalize(image: Image.Image, strength: float = 0, fill: Fill = 0) -> Image.Image:
    """Each channel's histogram made flat."""
    counts = np.array(image.histogram()).reshape(-1, 256)
    pixels = image.width * image.height
    last = counts[np.arange(len(counts)), 255 - (counts[:, ::-1] > 0).argmax(1)]
    step = ((pixels - last) // 255)[:, None]
    table = (step // 2 + np.cumsum(counts, 1) - counts) // np.maximum(step, 1)
    return _through(image, np.where(step > 0, np.minimum(table, 255), LEVELS))


def _through(image: Image.Image, table: np.ndarray) -> Image.Image:
    """Each value replaced by a table's: int [256], or [channels, 256]."""
    return image.point(np.broadcast_to(table, (len(image.getbands()), 256)).ravel().tolist())


def hue(image: Image.Image, shift: float) -> Image.Image:
    """Hues moved by `shift` of their circle; grey as it is."""
    if image.mode == "L":
        return image
    moved = (LEVELS + int(shift * 255)) % 256
    return image.convert("HSV").point([*moved.tolist(), *range(256), *range(256)]).convert("RGB")


def _identity(image: Image.Image, strength: float = 0, fill: Fill = 0) -> Image.Image:
    return image


OPERATIONS: dict[str, Callable[[Image.Image, float, Fill], Image.Image]] = {
    "Identity": _identity, "ShearX": shear_x, "ShearY": shear_y, "TranslateX": translate_x, "TranslateY": translate_y,
    "Rotate": rotate, "Brightness": brightness, "Color": colour, "Contrast": contrast, "Sharpness": sharpness,
    "Posterize": posterize, "Solarize": solarize, "AutoContrast": autocontrast, "Equalize": equalize,
}  # fmt: skip
NAMES = {"RGB": tuple(OPERATIONS), "L": tuple(name for name in OPERATIONS if name != "Color")}  # of each mode
SIGNED = frozenset(list(OPERATIONS)[1:10])


def strength(policy: Policy, name: str, size: int, bin: float) -> float:
    """How strong an operation is at a bin of 0…30, before its sign, in an image of `size` pixels. Bins needn't be whole."""
    share, wide = bin / BINS, policy == "trivialaugment"
    if name in ("TranslateX", "TranslateY"):
        return share * (32.0 if wide else 150.0 / 331.0 * size)
    if name in ("ShearX", "ShearY"):
        return share * (0.99 if wide else 0.3)
    if name == "Rotate":
        return share * (135.0 if wide else 30.0)
    if name == "Posterize":
        return 8 - share * (6 if wide else 4)
    return 1 - share if name == "Solarize" else share * (0.99 if wide else 0.9)


def rand_augment(
    image: Image.Image, draws: np.ndarray, operations: int, magnitude: float, spread: float, fill: Fill
) -> Image.Image:
    """So many operations one after the other, at `magnitude` 0…10, which are bins 0…30; its deviation is `spread`.

    An operation may come twice; its sign is drawn. `image` is RGB or L, `draws` [4 · operations].
    """
    for which, sign, one, other in draws.reshape(operations, OPERATION_DRAWS).tolist():
        value = magnitude
        if spread:
            value += spread * math.sqrt(-2 * math.log1p(-one)) * math.cos(2 * math.pi * other)  # Box and Muller
        image = _apply("randaugment", image, which, sign, min(max(value, 0.0), 10.0) * 3, fill)
    return image


def trivial_augment(image: Image.Image, draws: np.ndarray, fill: Fill) -> Image.Image:
    """One operation at one of the 31 bins of the wide strengths. `image` is RGB or L, `draws` [4]."""
    which, sign, bin, _ = draws.tolist()
    return _apply("trivialaugment", image, which, sign, int(bin * (BINS + 1)), fill)


def _apply(policy: Policy, image: Image.Image, which: float, sign: float, bin: float, fill: Fill) -> Image.Image:
    names = NAMES[image.mode]
    name = names[int(which * len(names))]
    value = strength(policy, name, image.width, bin)
    return OPERATIONS[name](image, -value if name in SIGNED and sign < 0.5 else value, fill)


ORDERS = tuple(permutations(range(4)))


def colour_jitter(image: Image.Image, draws: np.ndarray, amounts: tuple[float, float, float, float]) -> Image.Image:
    """Brightness, contrast and saturation times 1 ± an amount, hue moved by ± one, in a drawn order; `draws` [5].

    Of a grey image brightness and contrast alone.
    """
    order, *factors = draws.tolist()
    for index in ORDERS[int(order * len(ORDERS))]:
        change = amounts[index] * (2 * factors[index] - 1)
        if not amounts[index] or (index > 1 and image.mode == "L"):
            continue
        image = hue(image, change) if index == 3 else (brightness, contrast, colour)[index](image, change)
    return image
