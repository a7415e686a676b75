"""Batch normalisation while training: statistics over all processes, frozen, of the batch alone, or computed anew."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable

from resnets.networks import DebiasedBatchNorm2d


class SyncedNorm(torch.autograd.Function):
    """The normalisation itself: one pass over the images for the statistics, one for the result; backwards as many.

    A message each way. PyTorch's kernels give each process's own mean and variance, and the two sums of the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Images [batch, channels, height, width] normalised; mean and variance [channels] of all, how many values had."""
        mean, variance, count = synced_statistics(x)
        ctx.save_for_backward(x, weight, mean, torch.rsqrt(variance + eps), count)
        ctx.mark_non_differentiable(mean, variance, count)
        output = F.batch_norm(x, mean, variance, weight, bias, eps=eps) if len(x) else torch.empty_like(x)
        return output, mean, variance, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:  # type: ignore[override]
        """Of the images, by everyone's sums; of weight and bias by this process's own, as those of any other parameter."""
        x, weight, mean, inverse, count = ctx.saved_tensors
        dtype, dy, x = x.dtype, wide(gradients[0]), wide(x)
        of_weight = of_bias = torch.zeros_like(mean)
        if len(x):
            _, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
                dy, x, weight, None, None, mean, inverse, True, 0.0, [False, True, True]
            )
        means = of_all(torch.cat([of_weight, of_bias]).double()) / count.clamp(min=1)
        dot, total = means.to(mean.dtype).chunk(2)
        scale = inverse * weight
        slope = -scale * inverse * dot
        along = torch.addcmul(channels(-scale * total - slope * mean), x, channels(slope)).addcmul_(dy, channels(scale))
        return along.to(dtype), of_weight, of_bias, None


def wide(x: Tensor) -> Tensor:
    """In float32 at least, where statistics are computed."""
    return x if x.dtype == torch.float64 else x.float()


def channels(values: Tensor) -> Tensor:
    """[channels] → [1, channels, 1, 1]."""
    return values.view(1, -1, 1, 1)


def of_all(tensor: Tensor) -> Tensor:
    """The sum of a tensor over all processes, in its place."""
    distributed.all_reduce(tensor)
    return tensor


def synced_statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance of each channel [channels] and the number of values [1], over all processes.

    Each process's mean and variance are combined in float64, in one message.
    """
    x = wide(x)
    values = x.shape[0] * x.shape[2] * x.shape[3]
    if values:
        mean, variance = torch.batch_norm_update_stats(x, None, None, 0.0)
    else:
        mean = variance = x.new_zeros(x.shape[1])
    mean, variance = mean.double(), variance.double()
    count = mean.new_full((1,), values)
    sums = of_all(torch.cat([count, mean * values, (variance + mean.square()) * values]))
    count, (mean, square) = sums[:1], (sums[1:] / sums[0].clamp(min=1)).chunk(2)
    return mean.to(x.dtype), (square - mean.square()).clamp(min=0).to(x.dtype), count


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation over the batch of all processes, on any device; a part of the batch may have no image."""

    debias = False

    def forward(self, input: Tensor) -> Tensor:
        """[batch, channels, height, width] of this process → the same, by everyone's mean and variance."""
        if not self.training:
            return super().forward(input)
        output, mean, variance, count = SyncedNorm.apply(input, self.weight, self.bias, self.eps)
        with torch.no_grad():
            self._follow(mean, variance, count)
        return output

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
