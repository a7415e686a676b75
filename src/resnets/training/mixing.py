"""MixUp (Zhang et al. 2018) and CutMix (Yun et al. 2019): what is mixed is a function of (seed, epoch, batch) alone."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from resnets.training.losses import Targets
from resnets.training.recipe import Recipe


@dataclass(frozen=True)
class Mix:
    """How each image of a batch is mixed with its neighbour."""

    kind: Literal["mixup", "cutmix"]
    share: float  # of the image itself; of CutMix before the box is clipped and has its pixels
    box: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)  # CutMix: top, left, bottom, right in 0…1, the neighbour's

    def pixels(self, height: int, width: int) -> tuple[int, int, int, int]:
        """The box in an image of this size: top, left, bottom, right."""
        top, left, bottom, right = self.box
        return round(top * height), round(left * width), round(bottom * height), round(right * width)


def mix_of(seed: int, epoch: int, number: int, recipe: Recipe) -> Mix | None:
    """How batch `number` of an epoch is mixed; None where it isn't.

    `recipe.mixing` of the batches are, by MixUp or CutMix, whichever has an α above 0; with both, each has half of them.
    The share λ is Beta(α, α); CutMix's box has sides of √(1 − λ) around a uniform centre (Yun et al. 2019, section 3.1).
    """
    if not (recipe.mixup or recipe.cutmix):
        return None
    draws = np.random.Generator(np.random.Philox(counter=[0, 0, 0, number], key=[seed, epoch]))
    mixes, which, y, x = draws.random(4)
    if mixes >= recipe.mixing:
        return None
    kind = "mixup" if recipe.mixup and (which < 0.5 or not recipe.cutmix) else "cutmix"
    alpha = recipe.mixup if kind == "mixup" else recipe.cutmix
    share = float(draws.beta(alpha, alpha))
    if kind == "mixup":
        return Mix("mixup", share)
    half = math.sqrt(1 - share) / 2
    top, left, bottom, right = (min(max(edge, 0.0), 1.0) for edge in (y - half, x - half, y + half, x + half))
    return Mix("cutmix", share, (float(top), float(left), float(bottom), float(right)))


def mixed(images: Tensor, labels: Tensor, mix: Mix | None) -> tuple[Tensor, Targets]:
    """Images [batch, channels, height, width] mixed with their neighbours, a new tensor, and what they are then.

    Places 0 and 1 are mixed, 2 and 3, and so on, and the last of an odd number stays itself; so the parts of a batch that
    is divided at even places are mixed as the whole is. Without a mix the images are returned as they are.
    """
    if mix is None:
        return images, Targets(labels)
    count, _, height, width = images.shape
    places = torch.arange(count, device=images.device)
    partners = (places ^ 1).clamp(max=count - 1)
    share = mix.share
    if mix.kind == "mixup":
        out = images.lerp(images[partners], 1 - share)
    else:
        top, left, bottom, right = mix.pixels(height, width)
        out = images.clone()
        out[:, :, top:bottom, left:right] = images[:, :, top:bottom, left:right][partners]
        share = 1 - (bottom - top) * (right - left) / (height * width)
    shares = torch.full((count,), share, dtype=torch.float32, device=images.device)
    return out, Targets(labels, labels[partners], shares)
