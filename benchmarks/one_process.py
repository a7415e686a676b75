"""One of the processes of `processes.py`: some steps of training, timed. Started by it: DATA NETWORK BATCH PRECISION OUT."""

import itertools
import json
import os
import sys
import time
from pathlib import Path

import torch

from resnets import machine
from resnets.training.building import trainer
from resnets.training.options import Options
from resnets.training.parts import Progress
from resnets.training.plan import plan
from resnets.training.processes.world import World

UNTIMED = 5  # steps, in which the loader fills up and memory settles
LEAST = 4.0  # seconds of the timed stretch


def main() -> None:
    data, name, batch, precision, out = sys.argv[1:]
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    machine.keep_freed_memory()
    world = World()
    chosen = {"model": name, "init": "none", "val": 0, "workers": 1, "steps": 10**6, "batch_size": int(batch), "warmup": 0.0}
    options = Options.parse(data, {**chosen, "learning_rate": 0.01, "precision": precision})
    training = trainer(plan(options), options, world)
    progress, losses, began, done = Progress(), [], 0.0, 0
    for event, _ in training.fit(progress, lambda: progress.step <= UNTIMED):
        if event == "save":  # before each step: the sums of all processes are together
            losses.append(progress.sums["loss"])
        if event != "step":
            continue
        if progress.step == UNTIMED:
            began = time.perf_counter()
        done = progress.step - UNTIMED
        if world.told(done > 0 and time.perf_counter() - began >= LEAST):
            break
    rate = done * int(batch) / (time.perf_counter() - began)
    if world.first:
        steps = [(after - before) / int(batch) for before, after in itertools.pairwise(losses)]
        Path(out).write_text(json.dumps({"rate": rate, "losses": steps, "precision": training.recipe.precision}))
    world.leave()


if __name__ == "__main__":
    main()
