"""The learning rate range test (Smith 2017, section 3.3): the rate rises from step to step, and the loss says how far.

It works on a trainer of its own, made as the run's is, so that the run's weights, statistics, optimizer and order stay as
they were.
"""

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from resnets.data.loader import Batch
from resnets.pages.charts import lines
from resnets.pages.shell import page, section
from resnets.training.loop import Trainer

log = logging.getLogger("resnets")

LOWEST, HIGHEST = 1e-4, 10.0  # of what SGD is given; other optimizers' rates lie below
BY_OPTIMIZER = {"sgd": 1.0, "muon": 1.0, "adamw": 0.02, "lamb": 0.1}  # what the range is multiplied by
STEPS = 100
SMOOTHING = 0.9
WORSE = 3.0  # the test ends where the smoothed loss is so many times its lowest
BELOW = 5.0  # the rate taken is that of the lowest loss, divided by this


@dataclass(frozen=True)
class Found:
    """What a range test came to."""

    rate: float
    curve: tuple[tuple[float, float], ...]  # (rate, smoothed loss)


def find(trainer: Trainer) -> Found:
    """Try rising rates on a trainer that is thrown away afterwards, and choose one.

    Raises ValueError where no rate lowered the loss.
    """
    factor = BY_OPTIMIZER[trainer.recipe.optimizer]
    low, high = LOWEST * factor, HIGHEST * factor
    trainer.train_mode()
    trainer.freezer.apply(0.0)
    curve: list[tuple[float, float]] = []
    average, lowest = 0.0, math.inf
    for number, (epoch, batch) in zip(range(STEPS), endless(trainer), strict=False):
        rate = low * (high / low) ** (number / (STEPS - 1))
        before = trainer.sums.clone()
        if trainer.teaches(batch):
            trainer.step(batch, epoch, number % trainer.steps_per_epoch, trainer.world.in_all(len(batch.labels)), rate)
        loss, _, count = trainer.world.total((trainer.sums - before).tolist())
        value = loss / max(count, 1)
        average = SMOOTHING * average + (1 - SMOOTHING) * value
        smooth = average / (1 - SMOOTHING ** (number + 1))
        if not math.isfinite(smooth) or (number > STEPS // 10 and smooth > WORSE * lowest):
            break
        lowest = min(lowest, smooth)
        curve.append((rate, smooth))
    at, least = min(curve, key=lambda point: point[1], default=(0.0, math.inf))
    if not curve or least >= curve[0][1]:
        raise ValueError("no learning rate lowered the loss in 100 steps; give one: --set learning_rate=0.1")
    found = float(f"{at / BELOW:.2g}")
    log.info(
        "learning rate %g: a fifth of %.2g, where the loss was lowest in %d steps of rising rates", found, at, len(curve)
    )
    return Found(found, tuple(curve))


def endless(trainer: Trainer) -> Iterator[tuple[int, Batch]]:
    """The batches of epoch 0, 1, …"""
    epoch = 0
    while True:
        for batch in trainer.loader.batches(epoch):
            yield epoch, batch
        epoch += 1


def drawn(curve: Sequence[tuple[float, float]], rate: float) -> str:
    """A range test as a page: the loss over the logarithm of the rate, and the rate that was taken."""
    points = [(math.log10(at), loss) for at, loss in curve]
    chart = lines("loss, by the power of ten of the learning rate", {"loss": points}, mark=("taken", math.log10(rate)))
    said = f"The rate rose from step to step; the one taken, {rate:g}, is a fifth of where the loss was lowest."
    return page("Learning rate range test", said, section("Smoothed loss", f'<div class="charts">{chart}</div>'))
