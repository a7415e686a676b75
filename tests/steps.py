"""Some steps of runs, alone or in two processes: python steps.py OUT STEPS SETTINGS starts two; SETTINGS is a JSON list.

For each of the settings (fields of a recipe) the first process writes OUT-0.npz, …: the loss of each step, and the weights
after the last. Everything is computed in float64, so that the order of sums matters little.
"""

import json
import os
import socket
import sys
import warnings
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from resnets import architecture
from resnets.data.loader import Batch
from resnets.training import building
from resnets.training.loop import Progress
from resnets.training.normalised import Normalised
from resnets.training.options import Options
from resnets.training.plan import plan
from resnets.training.processes.world import World

SMALL = replace(architecture.named("resnet20"), blocks=(1, 1, 1), width=4)


class Doubled(Normalised):
    """Batches in float64."""

    def __call__(self, batch: Batch) -> torch.Tensor:
        return super().__call__(batch).double()


@contextmanager
def doubled():
    """Within the block "resnet8" is a small network, and networks begin in float64."""
    single = building.initial
    building.initial = lambda made, seed: single(made, seed).double()
    known = dict(architecture.NAMED)
    architecture.NAMED["resnet8"] = SMALL
    try:
        yield
    finally:
        building.initial = single
        architecture.NAMED.clear()
        architecture.NAMED.update(known)


def run(world: World, steps: int, settings: dict[str, Any]) -> dict[str, Any]:
    """So many steps, then a measurement: "losses" [steps], "top1", "images", "statistics" of the process, the weights."""
    chosen = {"model": "resnet8", "init": "none", "epochs": 2, "batch_size": 30, "val": 0.1, **settings}
    options = Options.parse("digits", chosen)
    with doubled():
        built: Any = building.trainer(plan(options), options, world)
    built.normalised.__class__ = Doubled
    progress, losses = Progress(), []
    for event, row in built.fit(progress, lambda: True):
        if event == "save":
            losses.append(progress.sums["loss"])
        if event == "step" and row["step"] == steps:
            break
    mine = {name: buffer.clone().numpy() for name, buffer in built.parts.network.named_buffers()}
    built.settle(progress, 0.0)
    losses.append(progress.sums["loss"])
    with built.weights():
        measured = built.measure()
        state = {name: tensor.detach().numpy().copy() for name, tensor in built.parts.network.state_dict().items()}
    own = {f"own {name}": value for name, value in mine.items()}
    seen = {"labels": built.measured.labels, "predicted": built.measured.predicted}
    return {"losses": np.diff(losses), "top1": measured["top1"], "images": measured["images"], **seen, **own, **state}


def every(out: str, steps: int, settings: list[dict[str, Any]]) -> None:
    """All runs of one process."""
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    world = World()
    assert world.size == 2
    for number, chosen in enumerate(settings):
        found = run(world, steps, chosen)
        if world.first:
            np.savez(f"{out}-{number}.npz", **found)
    world.leave()


def main() -> None:
    """Two processes as torchrun would start them, forked from this one, which has imported everything."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "steps"}
    os.environ |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0"}
    children = []
    for rank in ("0", "1"):
        os.environ |= {"RANK": rank, "LOCAL_RANK": rank}
        if not (child := os.fork()):
            every(sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3]))
            os._exit(0)
        children.append(child)
    failed = [os.waitpid(child, 0)[1] for child in children]
    sys.exit(int(any(failed)))


if __name__ == "__main__":
    main()
