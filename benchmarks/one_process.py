"""One of the processes of `processes.py`, which starts it: some steps of training, timed.

one_process.py DATA NETWORK BATCH PRECISION SYNC OUT
"""

import itertools
import json
import os
import statistics
import sys
import time
from pathlib import Path

import torch
from torch import distributed

from resnets import machine
from resnets.training.building import trainer
from resnets.training.options import Options
from resnets.training.parts import Progress
from resnets.training.plan import plan
from resnets.training.processes.world import World

UNTIMED = 5  # steps, in which the loader fills up and memory settles
LEAST = 4.0  # seconds of the timed stretch
MESSAGES = 200  # timed after it, each as a norm's of 64 channels


def main() -> None:
    data, name, batch, precision, sync, out = sys.argv[1:]
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    machine.keep_freed_memory()
    world = World()
    chosen = {"model": name, "init": "none", "val": 0, "workers": 1, "steps": 10**6, "batch_size": int(batch), "warmup": 0.0}
    how = {"learning_rate": 0.01, "precision": precision, "sync_batch_norm": sync == "True"}
    options = Options.parse(data, {**chosen, **how})
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
    found = {"rate": rate, "message_ms": message(world), "precision": training.recipe.precision}
    if world.first:
        steps = [(after - before) / int(batch) for before, after in itertools.pairwise(losses)]
        Path(out).write_text(json.dumps({**found, "losses": steps}))
    world.leave()


def message(world: World) -> float | None:
    """Milliseconds until all processes have the sum of one norm's statistics, where nothing else is done; the median."""
    if world.size == 1:
        return None
    sums, took = torch.zeros(2 * 64 + 1, dtype=torch.float64, device=world.device), []
    for _ in range(MESSAGES):
        began = time.perf_counter()
        distributed.all_reduce(sums)
        took.append(1000 * (time.perf_counter() - began))
    return statistics.median(took)


if __name__ == "__main__":
    main()
