"""A batch of squares augmented: crop and flip on the whole batch, what goes image by image in a pool of threads."""

from collections.abc import Callable
from concurrent.futures import Executor

import numpy as np
from PIL import Image

from resnets.data import policies
from resnets.data.augmentation import ERASING, JITTER, Augmentation, mirror, pad_and_crop
from resnets.data.erasing import erase
from resnets.data.preprocessing import Box, Preprocessing, resample

Resize = Callable[[np.ndarray, Box, Preprocessing], np.ndarray]  # what `resample` does
SHARES = 16  # tasks that a batch makes in the pool, so that handing on costs little


def augmented(
    images: np.ndarray, draws: np.ndarray, what: Augmentation, how: Preprocessing, pool: Executor, resize: Resize = resample
) -> np.ndarray:
    """uint8 [batch, side, side, channels] → uint8 [batch, how.size, how.size, channels]; it may write to `images`.

    In order: crop, flip, resize, policy, colour jitter, erasing. `draws` are `numbers`.
    """
    size = how.size
    if what.crop == "padded":
        colours = {"mean": how.fill, "black": (0,) * how.channels, "reflect": None}
        images = pad_and_crop(images, draws, what.padding, colours[what.fill])
    if what.flip:
        images = mirror(images, draws)
    if images.shape[1] != size or what.goes_image_by_image:
        out = np.empty((len(images), size, size, how.channels), np.uint8)
        share = max(1, len(images) // SHARES)
        starts = range(0, len(images), share)

        def some(start: int) -> None:
            for place in range(start, min(start + share, len(images))):
                out[place] = one(images[place], draws[place], what, how, resize)

        list(pool.map(some, starts))
        images = out
    if what.erasing:
        images = erase(images, draws[:, ERASING], what.erasing, what.erasing_area)
    return images


def one(image: np.ndarray, draws: np.ndarray, what: Augmentation, how: Preprocessing, resize: Resize) -> np.ndarray:
    """One square resized, and put through policy and jitter: uint8 [side, side, channels] → [how.size, how.size, …]."""
    size = how.size
    if image.shape[0] != size:
        image = resize(image, (0, 0, image.shape[1], image.shape[0]), how)
    if not what.goes_image_by_image:
        return image
    grey = how.channels == 1
    fill = how.fill[0] if grey else how.fill
    picture = Image.fromarray(image[:, :, 0] if grey else image)
    own = draws[ERASING.stop :]
    if what.policy == "randaugment":
        picture = policies.rand_augment(picture, own, what.operations, what.magnitude, what.spread, fill)
    elif what.policy == "trivialaugment":
        picture = policies.trivial_augment(picture, own, fill)
    if any(what.jitter):
        picture = policies.colour_jitter(picture, draws[JITTER], what.jitter)
    return np.frombuffer(picture.tobytes(), np.uint8).reshape(size, size, how.channels)
