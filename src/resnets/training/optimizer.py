"""Stochastic gradient descent as a recipe says it, and the learning rate as a pure function of the step."""

import math

import torch
from torch import nn

from resnets.training.recipe import Recipe


def optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    """SGD over the network's parameters in up to four groups: head or backbone, with weight decay or without.

    Each group's `rate` is its share of the recipe's learning rate; `set_rate` applies it.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        rate = 1.0 if name.startswith("fc.") else recipe.backbone_rate
        decays = parameter.ndim > 1 or recipe.decay_norm_and_bias
        groups.setdefault((rate, recipe.weight_decay if decays else 0.0), []).append(parameter)
    listed = [{"params": params, "rate": rate, "weight_decay": decay} for (rate, decay), params in groups.items()]
    return torch.optim.SGD(listed, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.nesterov)


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """The rate of step 0 … steps − 1: a linear rise over the warm-up, then the schedule over what is left."""
    rise = round(recipe.warmup * steps)
    if step < rise:
        return recipe.learning_rate * (step + 1) / rise
    if recipe.schedule == "cosine":
        return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - rise) / (steps - rise)))
    if recipe.schedule == "step":
        return recipe.learning_rate * recipe.drop ** sum(step >= share * steps for share in recipe.milestones)
    return recipe.learning_rate


def set_rate(sgd: torch.optim.Optimizer, rate: float) -> None:
    """Give each group its share of the rate."""
    for group in sgd.param_groups:
        group["lr"] = rate * group["rate"]
