"""Parts of images resized for training: PyTorch's kernel, several times as fast as Pillow's, and within a level of it."""

import numpy as np
import torch

from resnets.data.preprocessing import Box, Preprocessing, resample


def resized(image: np.ndarray, box: Box, how: Preprocessing) -> np.ndarray:
    """The box of a uint8 [height, width, channels] image as a square of `how.size` pixels, as `resample` gives it.

    Bilinear with antialias, of a box inside the image: it is brought to whole pixels and cut out first, as torchvision does,
    so that its edge sees nothing beyond it. Anything else is `resample`'s.
    """
    left, top = round(box[0]), round(box[1])
    right, bottom = max(round(box[2]), left + 1), max(round(box[3]), top + 1)
    inside = left >= 0 and top >= 0 and right <= image.shape[1] and bottom <= image.shape[0]
    if not inside or not how.antialias or how.interpolation != "bilinear":
        return resample(image, box, how)
    part, size = image[top:bottom, left:right], (how.size, how.size)
    if part.shape[:2] == size:
        return part
    source = torch.from_numpy(part.copy())[None].permute(0, 3, 1, 2)  # a copy, as PyTorch takes no array that is read-only
    found = torch.nn.functional.interpolate(source, size=size, mode="bilinear", antialias=True)
    return found.permute(0, 2, 3, 1)[0].numpy()  # one image of a batch is channels last, as it came; one alone would not be
