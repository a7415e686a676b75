"""Runs that are killed, stopped, changed or damaged: what comes of them."""

import errno
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from killing import OPTIONS
from safetensors import safe_open

from resnets.cli import main
from resnets.model import load
from resnets.networks import network
from resnets.training import session, train_run
from resnets.training.folder import checkpoint
from resnets.training.folder.keeping import Keeper
from resnets.training.folder.run import Run
from resnets.training.optimizers.average import Average
from resnets.training.options import Options
from resnets.training.plan import plan
from resnets.training.shipped import recipe

TINY = {name: value for name, value in OPTIONS.items() if name != "save_every"} | {"epochs": 3}
KILLING = Path(__file__).with_name("killing.py")


def killed(out, seed, kills):
    """A run that is killed so often and then ends; what each attempt left."""
    done = subprocess.run(
        [sys.executable, KILLING, out, str(seed), str(kills)], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was never killed, on one thread as those that are."""
    out = tmp_path_factory.mktemp("whole") / "run"
    killed(out, 0, 0)
    return out


def begun(out, **options):
    """A run folder before its first step."""
    chosen = Options.parse("digits", {**TINY, **options, "out": out})
    made = plan(chosen)
    return session.Run.create(chosen, "digits", made.name, session.decided(made)).folder


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_a_run_that_is_killed_ten_times_ends_with_the_same_bytes(whole, tmp_path, seed):
    said = killed(tmp_path / "run", seed, 10)
    assert sum(line.startswith("killed") for line in said) >= 8
    assert len(set(said)) >= 5  # they were killed at different places
    for name in ("best.safetensors", "last.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (whole / name).read_bytes()
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert not any(name.startswith(("checkpoint", ".")) for name in left)


def test_what_a_kill_leaves_after_the_last_step_goes_with_the_next_start(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    left = [tmp_path / "run" / name for name in (checkpoint.NAME.format(22), checkpoint.FEATURES)]
    for path in left:
        path.write_bytes(b"what was saved")
    train_run(resume=tmp_path / "run")
    assert not any(path.exists() for path in left)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {path.name for path in whole.iterdir()}


def interrupted(out, number, **options):
    """A run in a process of its own, sent a signal once it has a checkpoint; its exit status and what it said."""
    settings = [f"--set={name}={value}" for name, value in {"save_every": 2, "flip": "on", **options}.items()]
    command = [sys.executable, "-m", "resnets", "train", "digits", "--model", "resnet20", "--epochs", "40", "--batch-size",
               "32", "--val", "0.2", "--out", str(out), *settings]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not checkpoint.there(out):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    return process.returncode, said


def test_a_run_that_is_asked_to_end_saves_and_exits_with_0(tmp_path):
    status, said = interrupted(tmp_path / "run", signal.SIGTERM)
    assert status == 0
    assert f"resnets train --resume {tmp_path / 'run'} goes on" in said
    stopped = int(said.split("stopped after step ")[1].split(" ")[0])
    assert checkpoint.there(tmp_path / "run")[0].name == checkpoint.NAME.format(stopped)
    steps = [int(path.stem.split("-")[1]) for path in checkpoint.there(tmp_path / "run")]
    assert len(steps) <= 2
    assert steps == sorted(steps, reverse=True)


# Damage


@pytest.fixture(scope="module")
def middle(tmp_path_factory):
    """A run in its middle, with two checkpoints, of the length of `whole`."""
    options = {**TINY, "epochs": OPTIONS["epochs"]}
    out = tmp_path_factory.mktemp("middle") / "run"
    code = (
        "import sys, torch; torch.set_num_threads(1)\n"
        "from resnets.training import session, train_run\n"
        "from resnets.training.folder import checkpoint\n"
        "real = checkpoint.save\n"
        "def save(folder, network, optimizer, progress, *others):\n"
        "    real(folder, network, optimizer, progress, *others)\n"
        "    if progress['step'] >= 12: sys.exit(7)\n"
        "checkpoint.save = save\n"
        f"train_run('digits', out={str(out)!r}, save_every='3', **{options!r})\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 7
    assert [path.name for path in checkpoint.there(out)] == [checkpoint.NAME.format(n) for n in (12, 9)]
    return out


@pytest.fixture
def half(middle, tmp_path):
    """A copy of it."""
    return shutil.copytree(middle, tmp_path / "half")


def resumed(out):
    code = f"import torch; torch.set_num_threads(1)\nfrom resnets.training import train_run\ntrain_run(resume={str(out)!r})"
    return subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)


def flipped(content):
    return content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 1]) + content[len(content) // 2 + 1 :]


@pytest.mark.parametrize("damage", [flipped, lambda content: content[:5000], lambda content: b"", None])
def test_the_newest_whole_checkpoint_is_taken_and_said(half, damage, caplog):
    newest, before = checkpoint.there(half)
    newest.write_bytes(damage(newest.read_bytes())) if damage else newest.unlink()
    caplog.set_level(logging.INFO, "resnets")
    net = network("resnet20", channels=1, classes=10, seed=5)
    progress = checkpoint.restore(half, net, torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9))
    assert progress["step"] == 9
    if damage:
        assert f"{newest} is damaged" in caplog.text
        assert f"going on from the one before, {before.name}" in caplog.text
    checkpoint.remove_later(half, progress["step"])  # what is damaged is none of the last two
    assert checkpoint.there(half) == [before]
    with safe_open(before, framework="pt") as file:
        assert torch.equal(net.state_dict()["fc.weight"], file.get_tensor("network.fc.weight"))


@pytest.mark.slow
def test_a_run_that_fell_back_ends_with_the_same_bytes(half, whole):
    newest = checkpoint.there(half)[0]
    newest.write_bytes(flipped(newest.read_bytes()))
    done = resumed(half)
    assert done.returncode == 0, done.stderr
    for name in ("best.safetensors", "last.safetensors"):
        assert (half / name).read_bytes() == (whole / name).read_bytes()


def test_where_every_checkpoint_is_damaged_it_says_what_to_do(half):
    for path in checkpoint.there(half):
        path.write_bytes(b"x")
    with pytest.raises(ValueError, match=r"no checkpoint of .* is whole; delete them, and the run starts over"):
        train_run(resume=half)


def test_a_full_disk_during_a_save_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    out = begun(tmp_path / "run", save_every=2)
    real, saves = checkpoint.write_tensors, []

    def full(path, arrays, header):
        saves.append(path)
        if len(saves) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        real(path, arrays, header)

    monkeypatch.setattr(checkpoint, "write_tensors", full)
    with pytest.raises(OSError, match="No space left"):
        train_run(resume=out)
    assert [path.name for path in checkpoint.there(out)] == [checkpoint.NAME.format(n) for n in (4, 2)]
    monkeypatch.setattr(checkpoint, "write_tensors", real)
    train_run(resume=out)
    assert load(out).accuracy


# Change


def test_another_recipe_is_refused_with_the_difference_and_allowed_if_said(tmp_path, capsys, monkeypatch):
    out = begun(tmp_path / "run")
    with pytest.raises(ValueError, match=r"can't go on as it began: recipe learning_rate was \S+ and is now 0.01; --allow"):
        train_run(resume=out, learning_rate=0.01)
    with pytest.raises(ValueError, match="recipe batch_size was 32 and is now 16"):
        train_run(resume=out, batch_size=16)
    before = json.loads((out / "run.json").read_text())
    command = ["train", "--resume", str(out), "--set", "learning_rate=0.01", "--epochs", "1", "--allow-change"]
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 0
    after = json.loads((out / "run.json").read_text())
    assert after["decided"]["recipe"]["learning_rate"] == 0.01 != before["decided"]["recipe"]["learning_rate"]
    assert "learning_rate was" in after["changed"][0]
    assert "goes on otherwise than it began" in capsys.readouterr().err
    assert load(out).recipe["learning_rate"] == 0.01
    with pytest.raises(ValueError, match=r"is finished, and what it would need to go on otherwise is gone; .* --init"):
        train_run(resume=out, epochs=2, allow_change=True)
    assert train_run(resume=out, learning_rate=0.01) == out


def test_a_run_that_is_older_than_a_field_of_recipes_goes_on(tmp_path):
    out = begun(tmp_path / "run")
    document = json.loads((out / "run.json").read_text())
    assert document["decided"]["recipe"].pop("crop_fill") == "mean"
    (out / "run.json").write_text(json.dumps(document))
    train_run(resume=out)
    assert load(out).recipe["crop_fill"] == "mean"
    with pytest.raises(ValueError, match="recipe crop_fill was mean and is now reflect"):
        train_run(resume=begun(tmp_path / "other"), crop_fill="reflect")


def test_another_network_cannot_take_a_checkpoint(half):
    with pytest.raises(ValueError, match="its network was resnet20 and is now resnet32"):
        train_run(resume=half, model="resnet32")
    with pytest.raises(ValueError, match="isn't of this network"):
        train_run(resume=half, model="resnet32", allow_change=True)
    with pytest.raises(ValueError, match="is of the optimizer SGD, not AdamW; begin a run of its own"):
        train_run(resume=half, optimizer="adamw", allow_change=True)
    document = json.loads((half / "run.json").read_text())
    assert "changed" not in document and document["decided"]["network"] == "resnet20"  # it goes on as it began


def test_a_checkpoint_finds_its_parameters_by_name(tmp_path):
    """In other groups of the optimizer; an average that is new begins with the weights."""
    nets = [network("resnet20", channels=1, classes=10, seed=seed) for seed in (0, 1)]
    first, other = (dict(net.named_parameters()) for net in nets)
    for number, tensor in enumerate(first.values()):
        tensor.grad = torch.full_like(tensor, number)
    sgd = torch.optim.SGD(first.values(), lr=0.1, momentum=0.9)
    sgd.step()
    checkpoint.save(tmp_path, nets[0], sgd, {"step": 3})
    groups = [{"params": [tensor for name, tensor in other.items() if ("bn" in name) is norm]} for norm in (True, False)]
    regrouped, average = torch.optim.SGD(groups, lr=0.1, momentum=0.9), Average(nets[1], 0.9)
    assert checkpoint.restore(tmp_path, nets[1], regrouped, average) == {"step": 3}
    for name, tensor in other.items():
        assert torch.equal(regrouped.state[tensor]["momentum_buffer"], first[name].grad)
        assert torch.equal(tensor, first[name]) and torch.equal(average.tensors[name], tensor)


def test_a_run_that_goes_on_with_another_batch_is_in_the_same_place_of_its_epochs(half, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(Keeper, "epoch", lambda *given: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception):
            train_run(resume=half, batch_size=64, allow_change=True)
    assert [path.name for path in checkpoint.there(half)] == [checkpoint.NAME.format(step) for step in (21, 18)]
    train_run(resume=half)
    rows = [json.loads(line) for line in (half / "log.jsonl").read_text().splitlines()]
    steps = {row["epoch"]: row["step"] for row in rows if row["event"] == "epoch"}
    per_epoch, epochs = steps[1], OPTIONS["epochs"]
    assert steps == {epoch: epoch * per_epoch for epoch in range(1, epochs + 1)}
    assert any(f"after step 6 of {epochs * per_epoch}" in row.get("said", "") for row in rows)


@pytest.mark.parametrize(
    ("given", "steps", "seconds"),
    [(7, 7, np.inf), ("500", 500, np.inf), ("30s", np.inf, 30), ("5min", np.inf, 300), ("2h", np.inf, 7200)],
)
def test_when_a_checkpoint_is_due(given, steps, seconds):
    assert recipe("quick", {"save_every": given}).saving == (steps, seconds)


@pytest.mark.parametrize("given", ["", "0", "0s", "five", "5 days", "-3", True, 1.5])
def test_when_it_is_not(given):
    with pytest.raises(ValueError, match="save_every"):
        recipe("quick", {"save_every": given})


def test_sigterm_is_noted_however_often_it_comes_and_ctrl_c_once():
    code = (
        "import os, signal\n"
        "from resnets.training.interruptions import interruptions\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored where a shell began this in the background
        "with interruptions() as asked:\n"
        "    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):\n"
        "        os.kill(os.getpid(), number)\n"
        "        print(asked.asked(number))\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    except KeyboardInterrupt:\n"
        "        print('interrupted')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()) == (0, ["True", "True", "True", "interrupted"]), done.stderr


def test_the_length_of_a_run_can_be_said_otherwise_when_it_goes_on(tmp_path):
    out = begun(tmp_path / "run", epochs=2)
    with pytest.raises(ValueError, match=r"recipe epochs was 2\.0 and is now None; recipe steps was None and is now 4"):
        train_run(resume=out, steps=4)
    train_run(resume=out, steps=4, allow_change=True)
    assert (load(out).recipe["epochs"], load(out).recipe["steps"]) == (None, 4)


def test_what_a_kill_leaves_of_the_first_file_is_no_run(tmp_path):
    (tmp_path / ".run.json.abc.part").write_text("{")
    run = Run.create(Options("digits", out=str(tmp_path)), "digits", "resnet20", {})
    assert [path.name for path in run.folder.iterdir()] == ["run.json"]
    with pytest.raises(ValueError, match=r"isn't empty; name another --out, or go on with it by --resume"):
        Run.create(Options("digits", out=str(tmp_path)), "digits", "resnet20", {})


def test_a_folder_of_other_things_is_neither_swept_nor_called_a_run(tmp_path):
    (tmp_path / ".film.part").write_text("half of it")
    with pytest.raises(ValueError, match=r"isn't empty; name another --out$"):
        Run.create(Options("digits", out=str(tmp_path)), "digits", "resnet20", {})
    assert (tmp_path / ".film.part").exists()
