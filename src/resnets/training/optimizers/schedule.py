"""The learning rate as a pure function of the step."""

import math

import torch

from resnets.training.recipe import Recipe


def learning_rate(recipe: Recipe, step: float, steps: int) -> float:
    """The rate of step 0 … steps − 1: a linear rise over the warm-up, then the schedule over what is left.

    The schedules that fall to 0 would be there at step `steps`. A part of a step can be given, where the clock is a time;
    what is past the end counts as the end.
    """
    step, rise = min(step, steps), round(recipe.warmup * steps)
    if step < rise:
        return recipe.learning_rate * min(1.0, (step + 1) / rise)
    if recipe.schedule == "step":
        return recipe.learning_rate * recipe.drop ** sum(step >= share * steps for share in recipe.milestones)
    fallen = (step - rise) / max(steps - rise, 1)
    if recipe.schedule == "cosine":
        return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * fallen))
    if recipe.schedule == "linear":
        return recipe.learning_rate * (1 - fallen)
    return recipe.learning_rate


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give each group its share of the rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate"]
