"""Batches as the network reads them, on its device."""

import numpy as np
import torch
from torch import Tensor

from resnets.data.loader import Batch
from resnets.data.preprocessing import Preprocessing

LUMA = np.array([[0.299], [0.587], [0.114]], np.float32)  # of RGB, as images are made grey (ITU-R BT.601)
STRETCH = 2**15 - 1  # numbers at a time: with one more, PyTorch would share them out, and wait for cores that decode


class Normalised:
    """The preprocessing's last step, where the network computes; features, which aren't images, pass as they are."""

    def __init__(self, how: Preprocessing, device: torch.device) -> None:
        self.how, self.device = how, device
        self.mean = torch.tensor(how.mean, device=device)
        self.deviation = torch.tensor(how.deviation, device=device)

    def __call__(self, batch: Batch) -> Tensor:
        """float32 [batch, channels, height, width], channels last, of a batch's uint8 images."""
        pixels = self.here(batch.images)
        if batch.images.dtype == np.float32:
            return pixels
        if self.how.colour == "BGR":
            pixels = pixels.flip(3)
        count, height, width, channels = pixels.shape
        x = torch.empty(pixels.shape, device=self.device)
        mean, deviation = self.mean.repeat(width), self.deviation.repeat(width)
        at_once = STRETCH // (width * channels) if self.device.type == "cpu" else count * height
        each = [array.view(count * height, width * channels).split(max(1, at_once)) for array in (x, pixels)]
        shifts = self.shift(batch, height, width).split(max(1, at_once)) if batch.lighting is not None else None
        for number, (rows, source) in enumerate(zip(*each, strict=True)):
            rows.copy_(source)
            if shifts is not None:
                rows.add_(shifts[number])
            rows.mul_(self.how.scale).sub_(mean).div_(deviation)
        return x.permute(0, 3, 1, 2)

    def shift(self, batch: Batch, height: int, width: int) -> Tensor:
        """What is added to the levels of each row: [batch · height, width · channels], of grey that of RGB's luma."""
        assert batch.lighting is not None
        colours = batch.lighting[:, ::-1] if self.how.colour == "BGR" else batch.lighting
        if self.how.channels == 1:
            colours = colours @ LUMA
        return self.here(colours * np.float32(255)).repeat(1, width).repeat_interleave(height, 0)

    def here(self, array: np.ndarray) -> Tensor:
        """An array on the device."""
        return on(self.device, array)


def on(device: torch.device, array: np.ndarray) -> Tensor:
    """An array on a device; to a GPU from pinned memory, while it goes on with what it has."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
