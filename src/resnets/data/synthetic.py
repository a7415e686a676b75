"""Images that are always the same, to compare two ways of computing on."""

import numpy as np
from PIL import Image

from resnets.data.preprocessing import Preprocessing

COUNT = 12
SHAPES = ((1.14, 1.14), (1.2, 1.7), (1.7, 1.2), (2.1, 1.3), (0.7, 0.9), (1.0, 1.0))  # height, width, of the input's size


def synthetic(how: Preprocessing) -> list[np.ndarray]:
    """A dozen images of several shapes, smooth and rough, always the same: uint8 [height, width, channels]."""
    generator = np.random.default_rng(2015)
    images = []
    for number in range(COUNT):
        tall, wide = SHAPES[number % len(SHAPES)]
        height, width = max(1, round(tall * how.size)), max(1, round(wide * how.size))
        cells = 3 + 5 * (number // len(SHAPES))
        coarse = generator.integers(0, 256, (cells, cells, 3), np.uint8)
        image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        images.append(np.asarray(image)[:, :, : how.channels])
    return images
