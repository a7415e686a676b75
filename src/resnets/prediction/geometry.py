"""Where the square lies in an image of any size, in whole numbers that a graph can compute from the image's shape.

`data.preprocessing` does the same to an image at hand. Here height and width may be numbers, or stand for numbers that a
graph will know when it runs: anything with `+ - * // %`, and `least` and `most` of two of them. No comparison decides.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from resnets.data.preprocessing import Preprocessing

Whole = Any  # an int, or a node of a graph that stands for one


class Place(NamedTuple):
    """The image is resized to height × width; of that a part is cut (`crop`) or it is laid on the square (`pad`)."""

    height: Whole
    width: Whole
    top: Whole  # of the square in the resized image ("crop"), or of the resized image in the square ("pad")
    left: Whole


def place(height: Whole, width: Whole, how: Preprocessing, least: Callable[..., Whole], most: Callable[..., Whole]) -> Place:
    """The place of `how.size` × `how.size` pixels for an image of height × width, as `data.preprocessing.crop` has it."""
    if how.fit == "squash":
        return Place(how.size, how.size, 0, 0)
    if how.fit == "pad":
        side = most(height, width)
        (top, down), (left, across) = (_span(x, side, how.size, most) for x in (height, width))
        return Place(down - top, across - left, top, left)
    short = least(height, width)
    tall, wide = how.resized * height // short, how.resized * width // short
    return Place(tall, wide, half(tall - how.size), half(wide - how.size))


def half(x: Whole) -> Whole:
    """round(x / 2), a half to the even number, of a whole x ≥ 0."""
    return x // 2 + (x % 2) * (x // 2 % 2)


def _span(length: Whole, side: Whole, size: int, most: Callable[..., Whole]) -> tuple[Whole, Whole]:
    """First pixel and the one past the last that `length` of `side` takes, in the middle of `size`; at least one pixel."""
    first = _rounded((side - length) * size, 2 * side, most)
    return first, most(_rounded((side + length) * size, 2 * side, most), first + 1)


def _rounded(a: Whole, b: Whole, most: Callable[..., Whole]) -> Whole:
    """round(a / b), a half to the even number, of whole a ≥ 0 and even b > 0."""
    down, beyond = a // b, a % b - b // 2
    above = most(beyond, 0) // most(beyond, 1)  # 1 where the rest is over a half, else 0
    tie = (a % b) // (b // 2) - above  # 1 where it is a half, else 0
    return down + above + tie * (down % 2)
