"""Batch normalisation while training: statistics over all processes, frozen, of the batch alone, or computed anew."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn

from resnets.networks import DebiasedBatchNorm2d


class SumOfAll(torch.autograd.Function):
    """The sum of a tensor over all processes; its gradient is the sum of theirs, as each process's loss depends on it."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        """The sum, the same on all."""
        total = tensor.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """The sum of the gradients."""
        total = gradients[0].clone()
        distributed.all_reduce(total)
        return total


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation over the batch of all processes, on any device; a part of the batch may have no image."""

    debias = False

    def forward(self, input: Tensor) -> Tensor:
        """[batch, channels, height, width] of this process → the same, by everyone's mean and variance."""
        if not self.training:
            return super().forward(input)
        mean, variance, count = synced_statistics(input if input.dtype == torch.float64 else input.float())
        with torch.no_grad():
            self._follow(mean.detach(), variance.detach(), count)
        scale = torch.rsqrt(variance + self.eps) * self.weight
        shift = self.bias - mean * scale
        return torch.addcmul(shift.view(1, -1, 1, 1).to(input.dtype), input, scale.view(1, -1, 1, 1).to(input.dtype))

    def _follow(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Move the running averages: towards the unbiased variance, or as TensorFlow's zero-debiased ones do."""
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        some = (count > 0)[0]  # a batch without an image moves nothing
        self.num_batches_tracked += some
        number = self.num_batches_tracked.double().clamp(min=1)
        rate = 1 / number if self.momentum is None else torch.full_like(number, self.momentum)
        if self.debias and self.momentum is not None:
            rate = rate / (1 - (1 - rate) ** number)
        if not self.debias:
            variance = variance * (count / (count - 1).clamp(min=1))
        rate = rate * some
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), rate.to(self.running_mean.dtype))
        self.running_var.lerp_(variance.to(self.running_var.dtype), rate.to(self.running_var.dtype))


class SyncedDebiasedBatchNorm2d(SyncedBatchNorm2d):
    """The same with TensorFlow's averages, see `DebiasedBatchNorm2d`."""

    debias = True


def synced_statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance of each channel [channels] and the number of values, over all processes, differentiable.

    Each process's mean and variance are combined in float64, in one message.
    """
    values = x.shape[0] * x.shape[2] * x.shape[3]
    if values:
        variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
    else:  # a zero that still has a gradient, since everyone's backward pass sends the same messages
        mean = variance = x.sum((0, 2, 3))
    mean, variance = mean.double(), variance.double()
    count = mean.new_full((1,), values)
    sums = SumOfAll.apply(torch.cat([count, mean * values, (variance + mean.square()) * values]))
    count, (mean, square) = sums[:1].detach(), (sums[1:] / sums[0].detach().clamp(min=1)).chunk(2)
    return mean.to(x.dtype), (square - mean.square()).clamp(min=0).to(x.dtype), count


def synchronised(network: nn.Module) -> None:
    """Put norms that see all processes in the place of a network's own, with the same weights and names."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, _synced(child))


def _synced(norm: nn.BatchNorm2d) -> nn.Module:
    kind = SyncedDebiasedBatchNorm2d if isinstance(norm, DebiasedBatchNorm2d) else SyncedBatchNorm2d
    other = kind(norm.num_features, norm.eps, norm.momentum)
    other.weight, other.bias = norm.weight, norm.bias
    for name, buffer in norm.named_buffers():
        setattr(other, name, buffer)
    return other


def norms(network: nn.Module) -> Iterator[nn.BatchNorm2d]:
    """The batch norms of a network, synchronised or not."""
    return (module for module in network.modules() if isinstance(module, nn.BatchNorm2d))


@contextmanager
def batch_statistics(network: nn.Module) -> Iterator[None]:
    """Within the block norms use each batch's own statistics, as in training; their averages are as before after it."""
    kept = [(norm, norm.momentum, {name: value.clone() for name, value in norm.named_buffers()}) for norm in norms(network)]
    modes = [(module, module.training) for module in network.modules()]
    for norm, _, _ in kept:
        norm.train()
    try:
        yield
    finally:
        for norm, momentum, buffers in kept:
            norm.momentum = momentum
            for name, value in buffers.items():
                norm.get_buffer(name).copy_(value)
        for module, training in modes:
            module.training = training


@torch.no_grad()
def recompute(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set the averages of a network's norms to those over batches [batch, channels, height, width], each weighing alike.

    Wu and Johnson 2021, "Rethinking 'Batch' in BatchNorm", section 3: averages that follow the weights lag behind them.
    """
    found = [(norm, norm.momentum) for norm in norms(network)]
    for norm, _ in found:
        norm.reset_running_stats()  # type: ignore[operator]
        norm.momentum = None  # type: ignore[assignment]  (the plain mean of all batches)
        norm.train()
    try:
        for images in batches:
            network(images)
    finally:
        for norm, momentum in found:
            norm.momentum = momentum
