"""Runs of one process and of two that are killed, stopped and started again: python pairs.py FOLDER.

Every process is a fork of this one, which has imported PyTorch and computed nothing, in the environment that torchrun would
give it. FOLDER/said.json has the exit statuses and what each process wrote, by the name of the run and its attempt.
"""

import json
import os
import shutil
import signal
import socket
import sys
import time
from pathlib import Path

import steps
import torch

import resnets.training.session
from resnets import architecture, cli
from resnets.training import building
from resnets.training.folder import checkpoint
from resnets.training.normalised import Normalised

TRAIN = [
    "train",
    "digits",
    "--model",
    "resnet8",
    "--epochs",
    "2",
    "--batch-size",
    "64",
    "--val",
    "0.2",
    "--set=save_every=2",
]


class Attempt:
    """One start of a command: by one process, or two under one rendezvous."""

    def __init__(self, where: Path, command: list[str], processes: int = 2, restarts: int = 0) -> None:
        where.mkdir(parents=True, exist_ok=True)
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        shared = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2",
                  "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0", "TORCHELASTIC_RESTART_COUNT": str(restarts)}  # fmt: skip
        self.children, self.where = [], where
        for rank in range(processes):
            own = {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} if processes > 1 else {}
            self.children.append(os.fork())
            if not self.children[-1]:
                self.become(command, rank, own)

    def become(self, command: list[str], rank: int, environment: dict[str, str]) -> None:
        """Run the command as the command line does, and exit."""
        os.chdir(self.where)
        os.environ |= environment
        for number, stream in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{stream}{rank}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        torch.set_num_threads(1)
        status = 0
        try:
            cli.main(command)
        except SystemExit as ended:
            status = int(ended.code or 0)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def once_saved(self, folder: Path) -> "Attempt":
        """Wait until the run has a checkpoint that begins in its middle."""
        end = time.monotonic() + 60
        while not (there := checkpoint.there(folder)) or there[0].name < checkpoint.NAME.format(6):
            assert time.monotonic() < end, "no checkpoint came"
            time.sleep(0.002)
        return self

    def signal(self, number: int, *ranks: int) -> "Attempt":
        """Send the processes of these ranks a signal."""
        for rank in ranks:
            os.kill(self.children[rank], number)
        return self

    def end(self) -> dict:
        """Wait for all; what they left."""
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in self.children]
        texts = {f"{stream}{rank}": (self.where / f"{stream}{rank}").read_text() for rank in range(len(codes)) for stream in
                 ("out", "err")}  # fmt: skip
        return {"status": codes, **texts}


def scenarios(root: Path) -> dict[str, dict]:
    """All of them, one after the other."""
    said = {}
    out = ["--out", "run"]
    said["whole"] = Attempt(root / "whole", [*TRAIN, *out, "--json"]).end()
    said["alone"] = Attempt(root / "alone", [*TRAIN, *out, "--json"], processes=1).end()
    for name, command, folder in (("killed", TRAIN, "runs/digits-resnet8"), ("killed-out", [*TRAIN, *out], "run")):
        if name == "killed":  # what a command of this rendezvous left before
            shutil.copytree(root / "whole" / "run", root / name / folder)
            folder += "-2"
        began = Attempt(root / name, command).once_saved(root / name / folder)
        said[f"{name} 1"] = began.signal(signal.SIGKILL, 1).end()
        said[f"{name} 2"] = Attempt(root / name, command, restarts=1).end()
    for name, before, after in (("fewer", 2, 1), ("more", 1, 2)):
        began = Attempt(root / name, [*TRAIN, *out], before).once_saved(root / name / "run")
        said[f"{name} 1"] = began.signal(signal.SIGTERM, before - 1).end()
        said[f"{name} 2"] = Attempt(root / name, ["train", "--resume", "run", "--json"], after).end()
    said["refused"] = Attempt(root / "killed-out", [*TRAIN, *out]).end()  # a folder that isn't empty
    said["unlike"] = (
        Attempt(root / "stopped", [*TRAIN, *out]).once_saved(root / "stopped" / "run").signal(signal.SIGTERM, 0).end()
    )
    said["unlike"] = Attempt(root / "stopped", ["train", "--resume", "run", "--epochs", "3"]).end()
    return said


if __name__ == "__main__":
    assert resnets.training.session
    architecture.NAMED["resnet8"] = steps.SMALL
    single, normalised = building.initial, Normalised.__call__
    building.initial = lambda made, seed: single(made, seed).double()  # a bit more or less, and runs would part for good
    Normalised.__call__ = lambda self, batch: normalised(self, batch).double()
    place = Path(sys.argv[1])
    (place / "said.json").write_text(json.dumps(scenarios(place)))
