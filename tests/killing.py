"""A program that trains and is killed, again and again: `python killing.py OUT SEED [KILLS]`, for tests of resuming.

Each attempt is a fork of this process, which has imported PyTorch and computed nothing. Half of the kills come at a random
time, half in the middle of a save: before or after a random rename. Prints how many steps each attempt began with.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

import resnets.training.session
from resnets.training import train_run

# Long enough that a fast machine isn't done before it was killed often enough.
OPTIONS = {"model": "resnet20", "epochs": 5, "batch_size": 32, "val": 0.2, "save_every": "3", "flip": "on",
           "ema_decay": 0.99, "mixup": 0.2, "erasing": 0.3, "policy": "trivialaugment"}  # fmt: skip


def attempt(out: Path, rename: int) -> None:
    """Train, or go on. `rename`: kill this process at the rename of that number, before it if even, after it if odd."""
    torch.set_num_threads(1)
    count, real = 0, os.replace

    def replace(source, target):
        nonlocal count
        count += 1
        if count == rename and rename % 2 == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        real(source, target)
        if count == rename:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = replace
    if (out / "run.json").exists():
        train_run(resume=out)
    else:
        train_run("digits", out=out, **OPTIONS)


def main() -> None:
    out, generator, kills = Path(sys.argv[1]), random.Random(int(sys.argv[2])), int(sys.argv[3])
    for number in range(kills + 1):
        last = number == kills
        rename = 0 if last or number % 2 else generator.randint(2, 10)
        child = os.fork()
        if not child:
            attempt(out, rename)
            os._exit(0)
        if not last and not rename:
            time.sleep(generator.uniform(0.2, 1.0))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        if not killed and status:
            sys.exit(f"attempt {number} failed: {status}")
        left = sorted(path.name for path in out.glob("checkpoint-*")) if out.exists() else []
        print("killed" if killed else "ended", *left, flush=True)


if __name__ == "__main__":
    assert resnets.training.session
    main()
