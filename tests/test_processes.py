"""Several processes that train together: the same run as one process's, byte by byte of what matters."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import steps

from resnets.model import load
from resnets.training import checkpoint, train_run
from resnets.training.world import World

STEPS = Path(steps.__file__)
CASES = {
    "plain": {},
    "balance": {"balance": "weight", "batch_size": 21},
    "accumulate": {"accumulate": 3, "batch_size": 26, "clip_gradient": 1.0},
    "average": {"ema_decay": 0.9, "mixup": 0.3, "cutmix": 1.0, "batch_size": 25},
    "empty": {"batch_size": 2, "accumulate": 4},
    "staged": {"freeze": "staged", "steps": 8, "epochs": None, "drop_path": 0.3},
    "sample": {"balance": "sample", "repeats": 2, "erasing": 0.5, "optimizer": "lamb"},
    "unsynced": {"sync_batch_norm": False},
}
LENGTH = 8
TRAIN = ["--model", "resnet20", "--batch-size", "64", "--val", "0.2"]


def torchrun(*arguments, restarts=0):
    """A command line that starts two processes, on a free port."""
    how = ["--nproc-per-node", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", f"--max-restarts={restarts}"]
    return [sys.executable, "-m", "torch.distributed.run", *how, *arguments]


def started(command, **options):
    """A process with one thread, its output as text."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **options
    )  # fmt: skip


def ended(process, seconds=120):
    """Its exit status and output; killed where it hangs."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, out, err


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What two processes come to in every case."""
    out = tmp_path_factory.mktemp("two") / "case"
    status, _, said = ended(started([sys.executable, str(STEPS), str(out), str(LENGTH), json.dumps(list(CASES.values()))]))
    assert status == 0, said
    return {name: dict(np.load(f"{out}-{number}.npz")) for number, name in enumerate(CASES)}


@pytest.mark.parametrize("case", [case for case in CASES if case != "unsynced"])
def test_two_processes_train_as_one_does(two, case):
    one = steps.run(World(), LENGTH, CASES[case])
    assert len(one["losses"]) == LENGTH
    assert np.ptp(one["losses"]) > 0
    for name, value in one.items():
        np.testing.assert_allclose(two[case][name], value, rtol=1e-9, atol=1e-11, err_msg=name)


def test_each_image_is_measured_exactly_once(two):
    one = steps.run(World(), 1, {})
    assert two["plain"]["images"] == one["images"] == len(one["labels"])
    np.testing.assert_array_equal(two["plain"]["labels"], one["labels"])


def test_statistics_that_are_not_shared_are_the_first_processs(two):
    found, shared = two["unsynced"], two["plain"]
    for name in [name for name in found if name.startswith("own ")]:
        np.testing.assert_array_equal(found[name.removeprefix("own ")], found[name])
    assert not np.allclose(found["bn1.running_mean"], shared["bn1.running_mean"], rtol=1e-3)
    assert np.isfinite(found["losses"]).all()
