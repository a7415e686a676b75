"""Training end to end, small: what a run leaves, that it is a function of its seed, that it resumes, and what stops it."""

import json
import logging
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

import resnets
from resnets.data import open_dataset
from resnets.data.dataset import FileImages
from resnets.data.decode import UnreadableImage
from resnets.data.loader import Batch
from resnets.data.preprocessing import Preprocessing
from resnets.errors import WorkFailed
from resnets.model import load
from resnets.training import building, session, train_run
from resnets.training.folder import checkpoint
from resnets.training.folder.keeping import better
from resnets.training.normalised import Normalised
from resnets.training.options import Options
from resnets.training.plan import plan
from resnets.training.processes.world import World

TINY = {"model": "resnet20", "epochs": 2, "batch_size": 32, "val": 0.2}


@pytest.fixture
def folder(tmp_path):
    """Two classes of 24 photos of 24 pixels, dark and light, that a network tells apart."""
    generator = np.random.default_rng(0)
    for name, light in (("dark", 60), ("light", 190)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(24):
            pixels = np.clip(generator.normal(light, 30, (24, 24, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run on the digits."""
    return train_run("digits", out=tmp_path_factory.mktemp("runs") / "digits", **TINY)


def test_a_run_leaves_what_the_contract_says(run):
    left = {path.name for path in run.iterdir()}
    assert {"best.safetensors", "last.safetensors", "log.jsonl", "report.html", "run.json"} <= left
    assert not any(name.startswith(("checkpoint", ".")) for name in left)
    assert any(name.startswith("events.out.tfevents") for name in left)
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows if row["event"] == "epoch"] == [1, 2]
    assert "<svg" in (run / "report.html").read_text()


def test_the_model_says_how_it_came_about(run):
    model = load(run)
    assert model.classes == tuple("0123456789")
    assert model.architecture.channels == 1
    assert model.recipe["name"] == "quick"
    assert model.recipe["epochs"] == 2
    assert model.data["held_out"] == {"rule": "hash", "seed": 0, "fraction": 0.2}
    assert model.accuracy["split"] == "held-out"
    assert model.accuracy["interval"][0] < model.accuracy["top1"] < model.accuracy["interval"][1]
    assert set(model.versions) == {"resnets", "torch", "numpy"}


def test_evaluate_measures_what_the_run_measured(run):
    figures = resnets.evaluate(run, "digits")
    model = load(run)
    assert figures["split"] == "held-out"
    assert "chose the best epoch" in figures["note"]
    assert figures["images"] == model.accuracy["images"]
    assert figures["top1"] == pytest.approx(model.accuracy["top1"], abs=0.01)
    assert figures["loss"] == pytest.approx(model.accuracy["loss"], abs=1e-3)


def test_the_same_seed_gives_the_same_bytes(run, tmp_path):
    again = train_run("digits", out=tmp_path / "again", workers=1, **TINY)
    for name in ("best.safetensors", "last.safetensors"):
        assert (again / name).read_bytes() == (run / name).read_bytes()
    other = train_run("digits", out=tmp_path / "other", seed=1, **TINY)
    assert (other / "last.safetensors").read_bytes() != (run / "last.safetensors").read_bytes()


def test_ctrl_c_saves_and_resume_ends_with_the_same_bytes(run, tmp_path):
    out = tmp_path / "stopped"
    arguments = ["--model", "resnet20", "--epochs", "2", "--batch-size", "32", "--val", "0.2", "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-m", "resnets", "train", "digits", *arguments], stderr=subprocess.PIPE, text=True
    )
    while not (out / "log.jsonl").exists():
        assert process.poll() is None
        time.sleep(0.02)
    time.sleep(0.3)  # into the second epoch
    process.send_signal(signal.SIGINT)
    said = process.stderr.read()
    process.stderr.close()
    if process.wait() == 0:
        pytest.fail("the run ended before it could be stopped")
    assert process.returncode == 1
    assert f"resnets train --resume {out} goes on" in said
    assert train_run(resume=out) == out
    for name in ("best.safetensors", "last.safetensors"):
        assert (out / name).read_bytes() == (run / name).read_bytes()
    assert checkpoint.there(out) == []


def test_resume_without_a_checkpoint_starts_over_and_a_finished_run_is_left(run, tmp_path):
    options = Options.parse("digits", {**TINY, "out": tmp_path / "fresh"})
    made = plan(options)
    fresh = session.Run.create(options, "digits", made.name, session.decided(made))
    assert train_run(resume=fresh.folder) == fresh.folder
    assert (fresh.folder / "last.safetensors").read_bytes() == (run / "last.safetensors").read_bytes()
    before = (run / "best.safetensors").stat().st_mtime_ns
    assert train_run(resume=run) == run
    assert (run / "best.safetensors").stat().st_mtime_ns == before


def test_a_run_whose_data_or_weights_changed_is_not_resumed(folder, run, tmp_path):
    weights = tmp_path / "start.safetensors"
    load(train_run(folder, out=tmp_path / "first", **TINY | {"epochs": 1})).save(weights)
    options = Options.parse(str(folder), TINY | {"init": weights, "out": tmp_path / "second"})
    made = plan(options)
    begun = session.Run.create(options, "photos", made.name, session.decided(made)).folder
    load(train_run(folder, out=tmp_path / "other", seed=1, **TINY | {"epochs": 1})).save(weights)
    with pytest.raises(ValueError, match="can't go on as it began: its start was model"):
        train_run(resume=begun)
    options = Options.parse(str(folder), TINY | {"out": tmp_path / "third"})
    made = plan(options)
    begun = session.Run.create(options, "photos", made.name, session.decided(made)).folder
    Image.new("RGB", (24, 24), "red").save(folder / "dark" / "100.png")
    with pytest.raises(ValueError, match=r"can't go on as it began: .*its data was"):
        train_run(resume=begun)


def test_unreadable_images_are_skipped_counted_and_named(folder, tmp_path):
    (folder / "dark" / "0.png").write_bytes((folder / "dark" / "1.png").read_bytes()[:200])
    (folder / "light" / "note.jpg").write_text("not an image")
    out = train_run(folder, out=tmp_path / "run", **TINY | {"val": 0, "batch_size": 8})
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert {row["path"] for row in rows if row["event"] == "unreadable"} == {"dark/0.png", "light/note.jpg"}
    assert rows[1]["unreadable"] == 2
    assert load(out).accuracy == {}
    assert (out / "best.safetensors").read_bytes() == (out / "last.safetensors").read_bytes()


def test_unreadable_images_that_measure_are_named_too(folder, tmp_path):
    for split, numbers in (("train", range(16)), ("val", range(16, 24))):
        for name in ("dark", "light"):
            (folder / split / name).mkdir(parents=True)
            for number in numbers:
                (folder / name / f"{number}.png").rename(folder / split / name / f"{number}.png")
    (folder / "dark").rmdir(), (folder / "light").rmdir()
    (folder / "val" / "dark" / "20.png").write_bytes(b"not an image")
    out = train_run(folder, out=tmp_path / "run", **TINY | {"batch_size": 8})
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [row["path"] for row in rows if row["event"] == "unreadable"] == ["val/dark/20.png"]
    assert {row["val_images"] for row in rows if row["event"] == "epoch"} == {15}


def test_data_that_goes_away_ends_the_run_and_it_goes_on_when_the_data_is_back(folder, tmp_path, monkeypatch):
    real, out, read = FileImages.read, tmp_path / "run", 0

    def gone(images, *given, **named):
        nonlocal read
        read += 1
        if read > 400:
            raise UnreadableImage("Stale file handle")
        return real(images, *given, **named)

    options = {"model": "resnet20", "epochs": 40, "batch_size": 8, "val": 0.2, "crop": "resized", "cache": "none"}
    with monkeypatch.context() as patched:
        patched.setattr(FileImages, "read", gone)
        with pytest.raises(WorkFailed, match=r"no image of the last 20 batches could be read; the last was .*: Stale file"):
            train_run(folder, out=out, **options)
    assert load(out).accuracy["top1"] > 0  # the best is one that was measured
    assert train_run(resume=out, epochs=10, allow_change=True) == out


def test_an_epoch_that_nothing_was_measured_of_is_no_better():
    measured = {"top1": 0.5, "loss": 1.0}
    assert better({}, None) and better({}, {"epoch": 1}) and better(measured, {"epoch": 1}) and better(measured, None)
    assert not better({}, {**measured, "epoch": 1})
    assert better({"top1": 0.5, "loss": 0.9}, measured) and not better(measured, measured)


def test_measuring_takes_no_more_memory_than_training():
    chosen = Options.parse("digits", {"model": "resnet20", "batch_size": 256, "accumulate": 4})
    made = building.trainer(plan(chosen), chosen, World())
    assert made.parts.val_loader.batch_size == 64


def test_norms_of_a_process_need_two_images():
    world = World()
    world.size = 20
    chosen = Options.parse("digits", {"model": "resnet20", "batch_size": 32, "sync_batch_norm": False})
    with pytest.raises(ValueError, match="each of 20 processes needs two images of a batch for norms of its own"):
        building.trainer(plan(chosen), chosen, world)


def test_of_many_classes_few_images_are_remembered(monkeypatch, tmp_path):
    whole = plan(Options.parse("digits", {"model": "resnet20"})).how
    monkeypatch.setattr("resnets.training.plan.REMEMBERED", 4)
    some = plan(Options.parse("digits", {"model": "resnet20"})).how
    assert whole != some and whole.mean == pytest.approx(some.mean, abs=0.02)


def test_colour_augmentation_of_grey_images_is_a_shift_of_their_light():
    grey = Preprocessing(size=8, crop=1.0, colour="grey", mean=(0.4,), deviation=(0.2,))
    batch = Batch(
        np.full((2, 8, 8, 1), 100, np.uint8), np.zeros(2, int), np.float32([[0.1, 0.1, 0.1], [0, 0.2, 0]]), np.arange(2)
    )
    found = Normalised(grey, torch.device("cpu"))(batch)
    for image, light in zip(found, (0.1, 0.2 * 0.587), strict=True):
        assert image.numpy() == pytest.approx((100 / 255 + light - 0.4) / 0.2, abs=1e-5)


def test_excluded_files_do_not_train(folder, tmp_path):
    (tmp_path / "without.txt").write_text("dark/0.png\nlight/3.png\n")
    options = Options.parse(str(folder), TINY | {"val": 0, "exclude": tmp_path / "without.txt"})
    made = plan(options)
    assert len(made.division.train) == 46
    assert not {"dark/0.png", "light/3.png"} & set(made.data.keys(made.division.train))


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_model(tmp_path):
    with pytest.raises(WorkFailed, match=r"the loss is (nan|inf) at step \d+ .* --set learning_rate="):
        train_run("digits", out=tmp_path / "run", **TINY | {"learning_rate": 1e30, "warmup": 0})


def empty(folder):
    for path in folder.iterdir():
        path.unlink()


def remove(folder):
    empty(folder)
    folder.rmdir()


def break_all(folder):
    for path in folder.iterdir():
        path.write_bytes(b"no image")


@pytest.mark.parametrize(
    ("spoil", "kind", "said"),
    [
        (empty, ValueError, "no image in the folder of the class 'dark'"),
        (break_all, WorkFailed, "of the class 'dark' can be read"),
        (remove, ValueError, "one class only"),
    ],
)
def test_data_that_cannot_train(folder, tmp_path, spoil, kind, said):
    spoil(folder / "dark")
    with pytest.raises(kind, match=said):
        train_run(folder, out=tmp_path / "run", **TINY)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model": "resnet51"}, "no network is called"),
        ({"recipe": "slow"}, "no recipe is called"),
        ({"learning_rat": 1}, "did you mean learning_rate"),
        ({"epochs": -1}, "epochs is a number from 0"),
        ({"epochs": 0}, "epochs is above 0"),
        ({"val": 1.0}, "--val is a share"),
        ({"input": 4}, "--input is from 8"),
        ({"init": "nowhere.pth"}, "there is no file nowhere.pth"),
        ({"model": "resnet18", "input": 16, "init": "none"}, "from 32×32 pixels up"),
        (
            {"model": "resnet18", "input": 40, "init": "none", "train_input": [0.5, 1]},
            "have 20 pixels, .* takes them from 32 up",
        ),
    ],
)
def test_requests_that_cannot_be(options, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        train_run("digits", out=tmp_path / "run", **TINY | options)


def test_a_folder_that_is_not_empty_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(ValueError, match="isn't empty"):
        train_run("digits", out=tmp_path, **TINY)


def test_run_folders_are_numbered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = [session.Run.create(Options("digits"), "digits", "resnet20", {}).folder.as_posix() for _ in range(3)]
    assert made == ["runs/digits-resnet20", "runs/digits-resnet20-2", "runs/digits-resnet20-3"]


def test_init_from_a_model_keeps_a_head_of_the_same_classes_in_any_order(run):
    model = load(run)
    made = plan(Options.parse("digits", TINY | {"init": str(run)}))
    net = building.initial(made, 0)
    assert made.how == model.preprocessing
    assert made.recipe.name == "finetune"
    assert np.array_equal(net.fc.weight.detach().numpy(), model.state["fc.weight"])


def test_init_from_weights_gets_a_new_head(run, folder, tmp_path):
    state = {f"module.{name}": torch.from_numpy(array) for name, array in load(run).state.items()}
    torch.save({"state_dict": state}, tmp_path / "old.pth")
    options = {"model": "resnet20", "init": tmp_path / "old.pth", "val": 0}
    made = plan(Options.parse(str(folder), options))
    net = building.initial(made, 0)
    assert net.fc.weight.shape == (2, 64)
    assert np.array_equal(net.conv1.weight.detach().numpy(), load(run).state["conv1.weight"])
    with pytest.raises(ValueError, match=r"old.pth isn't of resnet32"):
        plan(Options.parse(str(folder), options | {"model": "resnet32"}))


def test_frozen_statistics_stay_and_weights_move(run, tmp_path):
    settings = TINY | {"init": str(run), "recipe": "finetune", "epochs": 1}
    before, after = load(run).state, load(train_run("digits", out=tmp_path / "tuned", **settings)).state
    for name in before:
        moved = not np.array_equal(before[name], after[name])
        assert moved == (not name.endswith(("running_mean", "running_var", "num_batches_tracked"))), name


def test_auto_choices_by_the_size_of_the_images(folder, tmp_path, monkeypatch):
    made = plan(Options(str(folder)))
    assert (made.name, made.how.size, made.how.crop, made.recipe.name) == ("resnet20", 24, 1.0, "quick")
    for name in ("dark", "light"):
        (tmp_path / "large" / name).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (300, 200), (number, 99, 40)).save(tmp_path / "large" / name / f"{number}.jpg")
    monkeypatch.setenv("RESNETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("RESNETS_WEIGHTS_URL", "http://127.0.0.1:9")
    made = plan(Options(str(tmp_path / "large"), val=0))
    assert (made.name, made.how.size, made.recipe.name, made.start) == ("resnet18", 224, "quick", None)


def test_a_full_disk_while_saving_keeps_the_previous_model(tmp_path, monkeypatch):
    saved = []

    real = resnets.model.write_tensors

    def full(path, arrays, header):
        saved.append(path.name)
        if saved.count("last.safetensors") == 2:
            raise OSError(28, os.strerror(28), str(path))
        real(path, arrays, header)

    monkeypatch.setattr("resnets.model.write_tensors", full)
    with pytest.raises(OSError, match="No space left"):
        train_run("digits", out=tmp_path / "run", **TINY)
    assert load(tmp_path / "run").accuracy["images"] > 0


def test_digits_are_never_mirrored():
    made = plan(Options.parse("digits", TINY))
    assert made.recipe.augmentation(8, made.data.mirrors).flip is False
    assert open_dataset("digits").mirrors is False


def test_photos_are_kept_decoded_from_the_first_epoch_on(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("RESNETS_CACHE", str(tmp_path / "cache"))
    caplog.set_level(logging.INFO, "resnets")
    generator = np.random.default_rng(0)
    for number in range(24):
        place = tmp_path / "photos" / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (90, 110, 3), np.uint8)).save(place / f"{number}.jpg")
    decoded = []
    real = FileImages.read

    def read(self, index, *given, **named):
        decoded.append(index)
        return real(self, index, *given, **named)

    monkeypatch.setattr(FileImages, "read", read)

    def run(name, **options):
        decoded.clear()
        how = {"model": "resnet20", "init": "none", "input": 72, "epochs": 3, "batch_size": 8, "val": 0, "crop": "resized"}
        train_run(tmp_path / "photos", out=tmp_path / name, **how, **options)
        return len(decoded)

    none, first, again = run("none", cache="none"), run("first"), run("again")
    assert caplog.text.count("decoded images are kept in") == 2
    assert (none - first, none - again) == (2 * 24, 3 * 24)  # each once, and none at all
    states = [load(run).state for run in (tmp_path / name for name in ("none", "first", "again"))]
    for name in states[0]:
        for other in states[1:]:
            assert np.array_equal(states[0][name], other[name]), name
