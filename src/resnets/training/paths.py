"""Stochastic depth (Huang et al. 2016): residual branches left out of single images at random."""

import numpy as np
from torch import nn

from resnets.data.order import uniform
from resnets.networks import Block
from resnets.training.normalised import on

APART = 0x5D  # the seed's companion, so that these draws have nothing to do with those of augmentation


class Paths:
    """Which branch each image of a batch goes through: a function of (seed, epoch, sample).

    The last block's branch is left out with probability `drop`, the first's never, those between by linear steps
    (section 3, equation 4); what stays is scaled so that its mean is the same.
    """

    def __init__(self, network: nn.Module, drop: float, seed: int) -> None:
        """Raises ValueError where the network has no shortcut to go by."""
        self.blocks = [module for module in network.modules() if isinstance(module, Block)] if drop else []
        if any(block.downsample is None for block in self.blocks):
            raise ValueError("drop_path needs shortcuts, and a plain network has none; leave it at 0")
        depth = max(len(self.blocks) - 1, 1)
        self.keep = np.array([1 - drop * number / depth for number in range(len(self.blocks))])
        self.seed = seed ^ (APART << 55)

    def choose(self, epoch: int, samples: np.ndarray) -> None:
        """Set the branches of these samples, for the next call of the network."""
        if not self.blocks:
            return
        kept = (uniform(self.seed, epoch, samples, len(self.blocks)) < self.keep) / self.keep
        columns = on(next(self.blocks[0].parameters()).device, kept.astype(np.float32))
        for block, column in zip(self.blocks, columns.unbind(1), strict=True):
            block.branch = column.view(-1, 1, 1, 1)

    def all(self) -> None:
        """Every image goes through every branch."""
        for block in self.blocks:
            block.branch = None
