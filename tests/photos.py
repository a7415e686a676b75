"""For tests of preprocessing: images that are always the same, shapes where rounding shows, and what is read compared."""

import numpy as np

SHAPES = [(375, 500), (500, 375), (224, 224), (301, 300), (83, 57), (333, 1000), (40, 31), (600, 257), (99, 100)]


def photo(height, width, channels=3, seed=0):
    """A uint8 image of waves and a little noise, seldom quite black or white."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j][..., None]
    wave = np.sin(9 * x + 5 * y * np.arange(1, channels + 1)) + np.cos(23 * y * x)
    return np.clip(128 + 40 * wave + random.normal(0, 12, (height, width, channels)), 0, 255).astype(np.uint8)


def assert_alike(found, expected, how):
    """Two tensors [channels, size, size] that a network reads, of one image resized at once and in two steps.

    They differ by 2 levels of 255 at most and by less than a third on average; of the nearest pixel, by one in 25 pixels
    that lies between two.
    """
    assert found.shape == expected.shape
    levels = np.abs(found - expected) * np.array(how.deviation, np.float32)[:, None, None] / how.scale
    if how.interpolation == "nearest":
        assert (levels > 0.5).mean() <= 0.04
    else:
        assert levels.max() <= 2.01
        assert levels.mean() <= 0.3
