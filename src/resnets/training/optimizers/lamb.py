"""LAMB (You et al. 2020): Adam whose step is scaled layer by layer, for large batches."""
# torch._foreach_… have no public names
# pyright: reportPrivateImportUsage=false

import math
from typing import Any

import torch
from torch import Tensor

from resnets.training.optimizers.grouped import Grouped

EPSILON = 1e-6


class Lamb(Grouped):
    """LAMB as Wightman et al. 2021 trained with: both moments' bias corrected, and weight decay part of the update.

    A parameter moves by learning rate · ‖parameter‖/‖update‖ · update (You et al. 2020, algorithm 2, φ the identity); the
    ratio is 1 where either norm is 0 and, as theirs, for groups without weight decay, which move as in Adam. The scale of
    the loss cancels but for epsilon. Gradients aren't clipped here; theirs were, to a norm of 1.
    """

    def __init__(self, params: Any, lr: float, betas: tuple[float, float] = (0.9, 0.999), weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    def move(self, params: list[Tensor], group: dict[str, Any]) -> None:
        """Move the parameters of a group that have a gradient."""
        for parameter in params:
            if not self.state[parameter]:
                self.state[parameter].update(
                    step=torch.zeros((), dtype=torch.float32),
                    exp_avg=torch.zeros_like(parameter),
                    exp_avg_sq=torch.zeros_like(parameter),
                )
        states = [self.state[parameter] for parameter in params]
        gradients: list[Tensor] = [parameter.grad for parameter in params]  # type: ignore[misc]
        firsts, seconds = [state["exp_avg"] for state in states], [state["exp_avg_sq"] for state in states]
        first, second = group["betas"]
        for state in states:
            state["step"] += 1
        counts = [state["step"].item() for state in states]

        torch._foreach_lerp_(firsts, gradients, 1 - first)
        torch._foreach_mul_(seconds, second)
        torch._foreach_addcmul_(seconds, gradients, gradients, 1 - second)
        deviations = torch._foreach_sqrt(seconds)
        torch._foreach_div_(deviations, [math.sqrt(1 - second**count) for count in counts])
        torch._foreach_add_(deviations, EPSILON)
        updates = torch._foreach_div(firsts, [1 - first**count for count in counts])
        torch._foreach_div_(updates, deviations)
        if group["weight_decay"]:
            torch._foreach_add_(updates, params, alpha=group["weight_decay"])
            torch._foreach_mul_(updates, list(trust(params, list(updates))))
        torch._foreach_add_(params, updates, alpha=-group["lr"])


def trust(params: list[Tensor], updates: list[Tensor]) -> Tensor:
    """‖parameter‖/‖update‖ of each pair, [pairs]; 1 where either is 0."""
    weights, moves = torch.stack(torch._foreach_norm(params)), torch.stack(torch._foreach_norm(updates))
    return torch.where((weights > 0) & (moves > 0), weights / moves, 1.0)
