"""What training resizes with: within a level of the preprocessing's own resampling of the same part."""

from dataclasses import replace

import numpy as np
import pytest

from resnets.data.preprocessing import Preprocessing, resample
from resnets.training import resizing
from resnets.training.resizing import resized

HOW = Preprocessing()


def image(height, width, channels, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [16, 57, 224])
@pytest.mark.parametrize(
    ("shape", "box"),
    [((300, 200), (3, 5, 191, 290)), ((41, 33), (0, 0, 33, 41)), ((90, 91), (20, 30, 21, 31)), ((64, 500), (7, 0, 499, 3))],
)
def test_a_part_comes_within_a_level_of_resample(monkeypatch, channels, size, shape, box):
    pixels, how = image(*shape, channels), replace(HOW, size=size)
    pixels.flags.writeable = False
    left, top, right, bottom = box
    expected = resample(np.ascontiguousarray(pixels[top:bottom, left:right]), (0, 0, right - left, bottom - top), how)
    monkeypatch.setattr(resizing, "resample", lambda *given: pytest.fail("by Pillow"))
    found = resized(pixels, box, how)
    assert found.dtype == np.uint8 and found.shape == (size, size, channels)
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_a_box_between_pixels_is_brought_to_whole_ones():
    pixels, how = image(80, 90, 3), replace(HOW, size=24)
    assert np.array_equal(resized(pixels, (10.4, 5.6, 60.5, 70.2), how), resized(pixels, (10, 6, 60, 70), how))
    assert np.array_equal(resized(pixels, (10.2, 5.2, 10.4, 5.4), how), resized(pixels, (10, 5, 11, 6), how))


def test_a_part_of_the_size_is_as_it_is():
    pixels = image(50, 60, 3)
    assert np.array_equal(resized(pixels, (7, 9, 39, 41), replace(HOW, size=32)), pixels[9:41, 7:39])


@pytest.mark.parametrize(
    ("box", "changes"),
    [
        ((-5, 0, 45, 50), {}),
        ((0, 0, 60, 50.6), {}),
        ((3, 4, 33, 44), {"interpolation": "bicubic"}),
        ((3, 4, 33, 44), {"antialias": False}),
    ],
)
def test_anything_else_is_resamples(box, changes):
    pixels, how = image(50, 60, 3), replace(HOW, size=24, **changes)
    assert np.array_equal(resized(pixels, box, how), resample(pixels, box, how))
