"""Random erasing (Zhong et al. 2017): a rectangle of an image filled with random pixels."""

import numpy as np

from resnets.data.order import noise

TRIES = 10  # of a rectangle that lies in the image, as torchvision; after them the image is left as it is
ERASING_DRAWS = 2 + 4 * TRIES  # whether, what it is filled with, and of each try: area, shape, place down, place across
LONGEST = 1 / 0.3  # the most of height to width, and of width to height


def rectangles(
    size: int, draws: np.ndarray, probability: float, area: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of the images to be erased: which of the batch, and top, left, height and width in pixels; int64 [erased] each.

    A rectangle has a share `area` of the image, uniform; its height to width lies between 0.3 and 1/0.3, uniform in its
    logarithm, so that upright and flat ones are as frequent (torchvision; the paper's is uniform itself).
    """
    which = np.flatnonzero(draws[:, 0] < probability)
    share, shape, down, across = draws[which, 2:].reshape(-1, TRIES, 4).transpose(2, 0, 1)
    pixels = size * size * (area[0] + share * (area[1] - area[0]))
    ratio = np.exp((2 * shape - 1) * np.log(LONGEST))
    height, width = np.rint(np.sqrt(pixels * ratio)).astype(int), np.rint(np.sqrt(pixels / ratio)).astype(int)
    fits = (height < size) & (width < size) & (height > 0) & (width > 0)
    rows = np.flatnonzero(fits.any(1))
    tries = fits[rows].argmax(1)
    height, width = height[rows, tries], width[rows, tries]
    top = (down[rows, tries] * (size - height + 1)).astype(int)
    left = (across[rows, tries] * (size - width + 1)).astype(int)
    return which[rows], top, left, height, width


def erase(images: np.ndarray, draws: np.ndarray, probability: float, area: tuple[float, float]) -> np.ndarray:
    """Rectangles of some of uint8 [batch, size, size, channels] filled with random pixels, in place.

    `draws` [batch, ERASING_DRAWS]; the pixels are uniform in 0…255, each by itself, hashed from one of them.
    """
    size, channels = images.shape[1], images.shape[3]
    which, top, left, height, width = rectangles(size, draws, probability, area)
    filled = noise(draws[which, 1], height * width * channels)
    for image, y, x, h, w, values in zip(which, top, left, height, width, filled, strict=True):
        images[image, y : y + h, x : x + w] = values.reshape(h, w, channels)
    return images
