"""What our optimizers have in common: a step goes group by group, over the parameters that have a gradient."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class Grouped(torch.optim.Optimizer):
    """An optimizer whose kinds say how a group's parameters move; their state is tensors alone, as checkpoints keep it."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]  (PyTorch's are overloads)
        """One step of every parameter that has a gradient; the closure's value, where there is one."""
        with torch.enable_grad():
            loss = closure() if closure else None
        for group in self.param_groups:
            params = [parameter for parameter in group["params"] if parameter.grad is not None]
            if params:
                self.move(params, group)
        return loss

    def move(self, params: list[Tensor], group: dict[str, Any]) -> None:
        """Move the parameters of a group that have a gradient."""
        raise AssertionError("each kind of optimizer says how")
