"""Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon): momentum whose matrices are made orthogonal."""
# torch._foreach_… have no public names
# pyright: reportPrivateImportUsage=false

import math
from typing import Any

import torch
from torch import Tensor

from resnets import machine
from resnets.training.optimizers.grouped import Grouped

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration: the steepest at 0 that stays near 1
ITERATIONS = 5
SMALLEST = 1e-7  # norm that is divided by


class Muon(Grouped):
    """Groups with `muon` true are convolution kernels, and every step of one is an orthogonal matrix; the others' are SGD's.

    A kernel [out, in, k, k] is a matrix [out, in·k·k]. It moves by learning rate · √max(1, out/(in·k·k)) · orthogonal(d)
    with d = gradient + momentum · buffer, so that the scale of the loss cancels; weight decay takes its share, rate ·
    decay, of the kernel at each step, apart from the gradient. So does torch.optim.Muon to a matrix. The other groups are
    torch.optim.SGD's with nesterov momentum, weight decay in the gradient.

    One learning rate does for both, of SGD's usual size, 0.05 to 0.2: on Fashion-MNIST at half size (8 layers, 120 steps of
    64) rates of the others from 0.5 to 5 times the kernels' ended within a seed's spread of each other.
    """

    def __init__(self, params: Any, lr: float, momentum: float = 0.9, weight_decay: float = 0.0, muon: bool = False) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "muon": muon})

    def move(self, params: list[Tensor], group: dict[str, Any]) -> None:
        """Move the parameters of a group that have a gradient."""
        for parameter in params:
            if not self.state[parameter]:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        buffers = [self.state[parameter]["momentum_buffer"] for parameter in params]
        gradients: list[Tensor] = [parameter.grad for parameter in params]  # type: ignore[misc]
        if group["weight_decay"] and not group["muon"]:
            gradients = list(torch._foreach_add(gradients, params, alpha=group["weight_decay"]))
        torch._foreach_mul_(buffers, group["momentum"])
        torch._foreach_add_(buffers, gradients)
        updates = list(torch._foreach_add(gradients, buffers, alpha=group["momentum"]))
        if group["muon"]:
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
            updates = whitened(updates)
        torch._foreach_add_(params, updates, alpha=-group["lr"])


def whitened(updates: list[Tensor]) -> list[Tensor]:
    """Each [out, …] made orthogonal as a matrix [out, rest] and scaled by √max(1, out/rest); those of one shape at once."""
    found = list(updates)
    shapes: dict[torch.Size, list[int]] = {}
    for place, update in enumerate(updates):
        shapes.setdefault(update.shape, []).append(place)
    for shape, places in shapes.items():
        matrices = torch.stack([updates[place].flatten(1) for place in places])
        scale = math.sqrt(max(1.0, matrices.shape[1] / matrices.shape[2]))
        dtype = torch.bfloat16 if matrices.is_cuda and machine.gpu_has_bf16() else torch.float32
        for place, matrix in zip(places, orthogonal(matrices, dtype) * scale, strict=True):
            found[place] = matrix.view(shape).to(updates[place].dtype)
    return found


def orthogonal(matrices: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """About UVᵀ of each UΣVᵀ in [batch, rows, columns], by Newton and Schulz: singular values come to 0.7 … 1.2.

    A matrix of zeros stays one.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = (x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=SMALLEST)).to(dtype)
    x = by_squares(x) if dtype == torch.float32 else iterated(x)
    return x.mT if tall else x


def iterated(x: Tensor) -> Tensor:
    """x ← (a + b·xxᵀ + c·(xxᵀ)²) x, as often as need be."""
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def by_squares(x: Tensor) -> Tensor:
    """`iterated`, by matrices [rows, rows] alone: 0.4 of the arithmetic where columns are nine times as many.

    p(xxᵀ) x has the square p(xxᵀ)² xxᵀ, so that the product of all polynomials is known before x is multiplied. Not in
    bf16: a square's smallest eigenvalues have half the digits.
    """
    a, b, c = COEFFICIENTS
    gram = x @ x.mT
    product = torch.eye(gram.shape[-1], dtype=x.dtype, device=x.device).expand_as(gram)
    for iteration in range(ITERATIONS):
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)  # without a
        product = torch.baddbmm(product, product, polynomial, beta=a)
        if iteration < ITERATIONS - 1:
            half = torch.baddbmm(gram, polynomial, gram, beta=a)
            gram = torch.baddbmm(half, half, polynomial, beta=a)
    return product @ x
