"""Several processes that train together: the same run as one process's, byte by byte of what matters."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import halves
import numpy as np
import pytest
import steps
from halves import small

from resnets.errors import WorkFailed
from resnets.model import load
from resnets.training import session
from resnets.training.folder import checkpoint
from resnets.training.processes.world import World

__all__ = ["small"]
STEPS = Path(steps.__file__)
PAIRS = Path(__file__).with_name("pairs.py")
CASES = {
    "plain": {},
    "balance": {"balance": "weight", "batch_size": 21},
    "accumulate": {"accumulate": 3, "batch_size": 26, "clip_gradient": 1.0},
    "average": {"ema_decay": 0.9, "mixup": 0.3, "cutmix": 1.0, "batch_size": 25},
    "empty": {"batch_size": 2, "accumulate": 4},
    "staged": {"freeze": "staged", "steps": 8, "epochs": None, "drop_path": 0.3},
    "sample": {"balance": "sample", "repeats": 2, "erasing": 0.5, "optimizer": "lamb"},
    "learned": {"skip_learned": 0.7, "batch_size": 400, "accumulate": 2, "epochs": 5},
    "unsynced": {"sync_batch_norm": False},
}
LENGTH = 8


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


# Whole runs


def test_a_command_that_torchrun_starts_again_goes_on_in_the_folder_it_marked_last(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, value in {"TORCHELASTIC_RUN_ID": "job", "WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    finished = halves.whole(None)  # by another command of that rendezvous
    halves.begun(None, 3)
    other = halves.whole(None, seed=1)
    document = json.loads((other / "run.json").read_text())
    (other / "run.json").write_text(json.dumps({**document, "torchrun": "another job"}))
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    run = halves.whole(None)
    assert [path.name for path in sorted((tmp_path / "runs").iterdir())] == [
        f"digits-resnet8{end}" for end in ("", "-2", "-3")
    ]
    assert run.name == "digits-resnet8-2"
    assert halves.same_bytes(run, finished)
    assert json.loads((run / "log.jsonl").read_text().splitlines()[0])["event"] == "resumed"


def test_and_leaves_what_had_come_to_its_end_before_it_was_started_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, value in {"TORCHELASTIC_RUN_ID": "job", "WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    run = halves.whole(None)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert halves.whole(None) == run
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    assert halves.whole(None).name == "digits-resnet8-2"


def test_a_single_process_joins_no_job_of_a_scheduler(monkeypatch):
    for name, value in {"SLURM_NTASKS": "8", "SLURM_JOB_NAME": "train", "SLURM_PROCID": "3"}.items():
        monkeypatch.setenv(name, value)
    world = World()
    assert (world.size, world.rank) == (1, 0)


def test_processes_that_went_back_to_different_steps_do_not_go_on(monkeypatch):
    world = World()
    session.same_step(world, Path("run"), {"step": 9})
    monkeypatch.setattr(world, "gathered", lambda step: [step, 6])
    with pytest.raises(WorkFailed, match="processes found different checkpoints in run, of steps 6 and 9"):
        session.same_step(world, Path("run"), {"step": 9})


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """The folder of the runs of pairs.py, and what was said in them."""
    root = tmp_path_factory.mktemp("pairs")
    status, _, said = ended(started([sys.executable, str(PAIRS), str(root)]), 300)
    assert status == 0, said
    return root, json.loads((root / "said.json").read_text())


def same(one, other):
    """Whether two runs came to the same model, but for the order of sums in float64."""
    one, other = load(one), load(other)
    assert one.accuracy["top1"] == other.accuracy["top1"]
    for name, value in one.state.items():
        np.testing.assert_allclose(other.state[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.slow
def test_two_processes_leave_one_run_and_the_first_one_speaks(pairs):
    root, said = pairs
    whole = said["whole"]
    assert whole["status"] == [0, 0]
    assert json.loads(whole["out0"])["run"] == "run"
    assert whole["out1"] == whole["err1"] == ""
    assert "2 processes train together" in whole["err0"]
    assert {path.name for path in (root / "whole").iterdir()} == {"run", "out0", "out1", "err0", "err1"}
    rows = [json.loads(line) for line in (root / "whole" / "run" / "log.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows if row["event"] == "epoch"] == [1, 2]
    same(root / "whole" / "run", root / "alone" / "run")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "folder"), [("killed", "runs/digits-resnet8-2"), ("killed-out", "run")])
def test_after_a_process_died_the_command_goes_on_in_its_folder(pairs, name, folder):
    root, said = pairs
    assert said[f"{name} 1"]["status"] == [1, -signal.SIGKILL]
    assert "another process of this run has ended" in said[f"{name} 1"]["err0"]
    assert said[f"{name} 2"]["status"] == [0, 0]
    going_on = re.search(r"going on after step (\d+) of 44", said[f"{name} 2"]["err0"])
    assert going_on and int(going_on[1]) >= 6
    if name == "killed":
        assert {path.name for path in (root / name / "runs").iterdir()} == {"digits-resnet8", "digits-resnet8-2"}
    assert not checkpoint.there(root / name / folder)
    same(root / "whole" / "run", root / name / folder)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "before", "after"), [("fewer", 2, 1), ("more", 1, 2)])
def test_a_run_goes_on_with_fewer_or_more_processes(pairs, name, before, after):
    root, said = pairs
    assert said[f"{name} 1"]["status"] == [0] * before  # one of them was asked to end, and all did
    assert "goes on" in said[f"{name} 1"]["err0"]
    assert said[f"{name} 2"]["status"] == [0] * after
    assert json.loads(said[f"{name} 2"]["out0"])["run"] == "run"
    same(root / "alone" / "run", root / name / "run")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "refusal"), [("refused", "run isn't empty"), ("unlike", "recipe epochs was 2.0 and is now 3.0")]
)
def test_a_refusal_is_said_once(pairs, name, refusal):
    _, said = pairs
    assert said[name]["status"] == [2, 1]
    assert [line for line in said[name]["err0"].splitlines() if refusal in line]
    assert said[name]["err1"] == said[name]["out0"] == said[name]["out1"] == ""


@pytest.mark.slow
def test_torchrun_starts_a_run_again_whose_process_was_killed(tmp_path):
    settings = ["--model", "resnet20", "--epochs", "12", "--batch-size", "64", "--val", "0.2", "--set=save_every=2"]
    process = started(torchrun("-m", "resnets", "train", "digits", *settings, "--json", restarts=1), cwd=tmp_path)
    folder, end = tmp_path / "runs" / "digits-resnet20", time.monotonic() + 120
    while not (there := checkpoint.there(folder)) or there[0].name < checkpoint.NAME.format(6):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.01)
    agent = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    workers = [int(child) for child in agent.read_text().split()]
    victim = next(pid for pid in workers if b"\0RANK=1\0" in Path(f"/proc/{pid}/environ").read_bytes())
    os.kill(victim, signal.SIGKILL)
    status, out, err = ended(process, 240)
    assert status == 0, err
    assert json.loads(out)["run"] == "runs/digits-resnet20"
    assert "going on after step" in err
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["digits-resnet20"]
