"""What a run is made of, and where it is."""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from resnets.data.learned import Learned
from resnets.networks import ResNet
from resnets.training.feed import Feed
from resnets.training.optimizers.average import Average
from resnets.training.teaching import Teacher


@dataclass
class Progress:
    """Where a run is."""

    step: int = 0
    best: dict[str, Any] | None = None  # the figures of the best epoch so far
    sums: dict[str, float] = field(default_factory=lambda: {"loss": 0.0, "right": 0.0, "images": 0.0})  # of this epoch
    seconds: float = 0.0  # of training so far, measuring not counted
    ended: bool = False  # before its last step, as nothing got better
    steps_per_epoch: int = 0  # 0: not known yet

    def by(self, steps_per_epoch: int) -> "Progress":
        """The same place in the same epoch of a run whose epochs have so many steps; what was summed of it is kept."""
        before = self.steps_per_epoch or steps_per_epoch
        return replace(self, step=self.step * steps_per_epoch // before, steps_per_epoch=steps_per_epoch)


@dataclass
class Parts:
    """What a run is made of."""

    network: ResNet
    learner: nn.Module  # what is called on a batch and learns: the network, or its head where features are given
    optimizer: torch.optim.Optimizer
    average: Average | None
    loader: Feed
    val_loader: Feed
    gap_loader: Feed | None = None  # validation images in a shuffled order, where norms learn
    teacher: Teacher | None = None
    class_weights: Tensor | None = None  # [classes]
    learned: Learned | None = None  # by which epochs leave out what is learned
