"""A few steps of a run, alone or as one of several processes: python steps.py OUT STEPS [field=value …].

The first process writes the loss of each step and the weights after the last, as OUT (a .npz file).
"""

import sys
import warnings
from pathlib import Path
from typing import Any

warnings.simplefilter("error")

import numpy as np  # noqa: E402
import torch  # noqa: E402

from resnets.data.loader import Batch  # noqa: E402
from resnets.training import building  # noqa: E402
from resnets.training.loop import Progress  # noqa: E402
from resnets.training.normalised import Normalised  # noqa: E402
from resnets.training.options import Options  # noqa: E402
from resnets.training.plan import plan  # noqa: E402
from resnets.training.shipped import parse_setting  # noqa: E402
from resnets.training.world import World  # noqa: E402

torch.set_num_threads(1)


class Doubled(Normalised):
    """Batches in float64."""

    def __call__(self, batch: Batch) -> torch.Tensor:
        return super().__call__(batch).double()


def main() -> None:
    out, steps, *settings = sys.argv[1:]
    world = World()
    chosen = {"epochs": 2, "batch_size": 30, **dict(map(parse_setting, settings))}
    options = Options.parse("digits", {"model": "resnet20", "init": "none", **chosen})
    single = building.initial
    building.initial = lambda made, seed: single(made, seed).double()  # so that the order of sums matters little
    built: Any = building.trainer(plan(options), options, world)
    built.normalised.__class__ = Doubled
    progress, losses = Progress(), []
    for event, row in built.fit(progress, lambda: True):
        if event == "save":
            losses.append(progress.sums["loss"])
        if event == "step" and row["step"] == int(steps):
            break
    built.settle(progress, 0.0)
    losses.append(progress.sums["loss"])
    with built.weights():
        measured = built.measure()
        state = {name: tensor.detach().numpy().copy() for name, tensor in built.parts.network.state_dict().items()}
    if world.first:
        np.savez(Path(out), losses=np.diff(losses), top1=measured["top1"], images=measured["images"], **state)
    world.leave()


if __name__ == "__main__":
    main()
