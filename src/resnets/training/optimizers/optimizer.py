"""The optimizer that a recipe names, over the network's parameters in groups of one rate and one weight decay."""

from typing import Any

import torch
from torch import nn

from resnets.training.optimizers.lamb import Lamb
from resnets.training.optimizers.muon import Muon
from resnets.training.recipe import Recipe


def optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD, AdamW, LAMB or Muon over the parameters that are trained: those that require a gradient.

    Groups are head or backbone, with weight decay or without; of Muon also its kernels or what it leaves to SGD, whose
    shares of the weights that decay takes at a step are alike. Each
    group's `rate` is its share of the recipe's learning rate; `schedule.set_rate` applies it. The state of every parameter
    is tensors alone. Raises ValueError where no parameter is trained.
    """
    listed = groups(network, recipe)
    if not listed:
        raise ValueError("every parameter of the network is frozen; leave one that requires a gradient, the head's say")
    made: torch.optim.Optimizer
    if recipe.optimizer == "adamw":
        made = torch.optim.AdamW(listed, lr=recipe.learning_rate, betas=recipe.betas)
    elif recipe.optimizer == "lamb":
        made = Lamb(listed, lr=recipe.learning_rate, betas=recipe.betas)
    elif recipe.optimizer == "muon":
        made = Muon(listed, lr=recipe.learning_rate, momentum=recipe.momentum)
    else:
        made = torch.optim.SGD(listed, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.nesterov)
    made.register_load_state_dict_post_hook(lay_out)
    return made


def groups(network: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """The parameters that are trained as an optimizer takes them, in the order of their names in the network."""
    found: dict[tuple[float, float, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        muon = recipe.optimizer == "muon" and parameter.ndim == 4
        rate = 1.0 if name.startswith("fc.") else recipe.backbone_rate
        decay = recipe.weight_decay if parameter.ndim > 1 or recipe.decay_norm_and_bias else 0.0
        if muon:  # in SGD the decay goes through momentum, which makes it so many times as long
            decay /= 1 - recipe.momentum
        found.setdefault((rate, decay, muon), []).append(parameter)
    return [
        {"params": params, "rate": rate, "weight_decay": decay, **({"muon": muon} if recipe.optimizer == "muon" else {})}
        for (rate, decay, muon), params in found.items()
    ]


def lay_out(optimizer: torch.optim.Optimizer) -> None:
    """Lay a state that was loaded out in memory as its parameters are.

    A sum takes its terms in the order of memory, so that a norm, and with it the run, would end in other bits otherwise.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if torch.is_tensor(value) and value.shape == parameter.shape:
                state[name] = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)
