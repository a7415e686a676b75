"""The network as a module for `torch.export`: preprocessing inside, probabilities out."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnets.data.preprocessing import Preprocessing
from resnets.networks import ResNet
from resnets.prediction.geometry import place

MODES = {"nearest": "nearest-exact", "bilinear": "bilinear", "bicubic": "bicubic"}


class OfTensor(nn.Module):
    """float32 [batch, channels, height, width] → probabilities, logits, features, float32."""

    mean: Tensor  # [1, channels, 1, 1]
    deviation: Tensor

    def __init__(self, network: ResNet, how: Preprocessing, precision: str) -> None:
        super().__init__()
        self.how = how
        self.kind = torch.bfloat16 if precision == "bf16" else torch.float32
        self.network = network.to(self.kind)
        for name in ("mean", "deviation"):
            self.register_buffer(name, torch.tensor(getattr(how, name)).view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = self.network.features(x.to(self.kind))
        logits = self.network.fc(features).float()
        return logits.softmax(1), logits, features.float()

    def normalised(self, planes: Tensor) -> Tensor:
        """uint8 [batch, channels, size, size] → what the network reads."""
        x = (planes.flip(1) if self.how.colour == "BGR" else planes).float() * self.how.scale
        return (x - self.mean) / self.deviation


class OfImages(OfTensor):
    """uint8 crops [batch, size, size, channels] → probabilities, logits, features."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return super().forward(self.normalised(x.permute(0, 3, 1, 2)))


class OfImage(OfTensor):
    """One image of any size, uint8 [height, width, channels] → probabilities, logits, features, of a batch of one."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return super().forward(self.normalised(self.square(x.permute(2, 0, 1)[None])))

    def square(self, planes: Tensor) -> Tensor:
        """The part of the image that the network sees, whole levels: [1, channels, height, width] → […, size, size]."""
        if self.how.fit == "pad":
            return self.padded(planes)
        at = place(planes.shape[2], planes.shape[3], self.how, torch.sym_min, torch.sym_max)
        resized = self.resized(planes, at.height, at.width)
        if self.how.fit == "squash":
            return resized
        square = torch.arange(self.how.size, device=planes.device)  # by index: a slice would be fixed to the example's case
        return resized.index_select(2, square + at.top).index_select(3, square + at.left)

    def padded(self, planes: Tensor) -> Tensor:
        """The whole image on a square. The place is computed in tensors: as symbols it took the exporter minutes."""
        size = self.how.size
        height, width = (torch.scalar_tensor(length, dtype=torch.int64) for length in planes.shape[2:])
        at = place(height, width, self.how, _both(torch.minimum), _both(torch.maximum))
        resized = self.resized(planes, _known(at.height, size), _known(at.width, size)).float()
        inside = []
        for axis, first, length in ((2, at.top, at.height), (3, at.left, at.width)):
            index = torch.arange(size) - first
            inside.append((index >= 0) & (index < length))
            resized = resized.index_select(axis, index.clamp(torch.zeros_like(length), length - 1))
        fill = torch.tensor(self.how.fill, dtype=torch.float32).view(1, -1, 1, 1)
        return torch.where(inside[0][:, None] & inside[1], resized, fill)

    def resized(self, planes: Tensor, height: Any, width: Any) -> Tensor:
        """Interpolated as Pillow does with antialias: across, then down, to whole levels after each."""
        mode = MODES[self.how.interpolation]
        if mode == "nearest-exact":
            return F.interpolate(planes, [height, width], mode=mode)
        y = planes.float()
        for size in ([planes.shape[2], width], [height, width]) if self.how.antialias else ([height, width],):
            y = F.interpolate(y, size, mode=mode, antialias=self.how.antialias, align_corners=False).round().clamp(0, 255)
        return y


def _both(operation: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Any, Any], Tensor]:
    """An operation of two tensors, for numbers too."""
    return lambda a, b: operation(torch.as_tensor(a), torch.as_tensor(b))


def _known(length: Tensor, most: int) -> Any:
    """A whole number that the exporter knows to be from 1 to `most`."""
    number = length.item()
    torch._check(number >= 1)
    torch._check(number <= most)
    return number


KINDS: dict[str, type[OfTensor]] = {"image": OfImage, "images": OfImages, "tensor": OfTensor}


def program(network: ResNet, how: Preprocessing, reads: str, precision: str) -> torch.export.ExportedProgram:
    """The network with what goes before it, as a program of `torch.export`. ValueError for what it can't interpolate."""
    if reads == "image" and how.interpolation not in MODES:
        raise ValueError(f"{how.interpolation} interpolation can't be part of a graph; export with --input crops")
    module = KINDS[reads](network, how, precision).eval()
    batch = torch.export.Dim("batch", min=1)
    if reads == "image":
        example = torch.zeros(how.size + 31, how.size + 57, how.channels, dtype=torch.uint8)
        dynamic = {0: torch.export.Dim("height", min=1, max=65536), 1: torch.export.Dim("width", min=1, max=65536)}
    elif reads == "images":
        example, dynamic = torch.zeros(2, how.size, how.size, how.channels, dtype=torch.uint8), {0: batch}
    else:
        example, dynamic = torch.zeros(2, how.channels, how.size, how.size), {0: batch}
    return torch.export.export(module, (example,), dynamic_shapes=(dynamic,))
