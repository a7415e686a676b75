"""Batches as the network reads them, on its device."""

import numpy as np
import torch
from torch import Tensor

from resnets.data.loader import Batch
from resnets.data.preprocessing import Preprocessing


class Normalised:
    """The preprocessing's last step, where the network computes; features, which aren't images, pass as they are."""

    def __init__(self, how: Preprocessing, device: torch.device) -> None:
        self.how, self.device = how, device
        self.mean = torch.tensor(how.mean, device=device).view(1, -1, 1, 1)
        self.deviation = torch.tensor(how.deviation, device=device).view(1, -1, 1, 1)

    def __call__(self, batch: Batch) -> Tensor:
        """float32 [batch, channels, height, width], channels last, of a batch's uint8 images."""
        x = self.here(batch.images)
        if batch.images.dtype == np.float32:
            return x
        x = x.permute(0, 3, 1, 2)
        x = (x.flip(1) if self.how.colour == "BGR" else x).float()
        if batch.lighting is not None and x.shape[1] == 3:
            shift = batch.lighting[:, ::-1] if self.how.colour == "BGR" else batch.lighting
            x = x + self.here(shift.copy())[:, :, None, None] * 255
        return (x * self.how.scale - self.mean) / self.deviation

    def here(self, array: np.ndarray) -> Tensor:
        """An array on the device; to a GPU from pinned memory, while it goes on with what it has."""
        tensor = torch.from_numpy(array)
        return tensor.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else tensor
