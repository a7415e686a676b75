"""Pieces of `benchmarks/time_to_accuracy.py`: watch, data, views, ratios, and where it looks into training."""

import sys
import time
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import our_training
import plain_training
import time_to_accuracy
import training_data

from resnets.training.loop import Trainer

SETTINGS = {"recipe": "quick", "epochs": 2, "batch_size": 16, "save_every": "24h"}


@pytest.fixture
def data(tmp_path):
    """A folder of IDX files: 48 training and 20 test images of 8 pixels, ten classes."""
    folder = training_data.write(tmp_path / "data", 48, 8, 1)
    training_data.write_idx(folder / "t10k-images-idx3-ubyte", np.full((20, 8, 8), 9, np.uint8))
    training_data.write_idx(folder / "t10k-labels-idx1-ubyte", np.arange(20, dtype=np.uint8) % 10)
    return folder


@pytest.fixture
def threads():
    """PyTorch's threads, as they were afterwards."""
    before = torch.get_num_threads()
    yield 1
    torch.set_num_threads(before)


def test_a_stopped_watch_stands_still():
    watch = training_data.Stopwatch()
    time.sleep(0.02)
    for _ in range(2):
        with watch.stopped() as shown:
            time.sleep(0.2)
        assert shown >= 0.02
    assert shown <= watch.seconds < 0.2
    watch.reset()
    assert watch.seconds < 0.02


def test_the_data_are_what_was_written(data):
    images = training_data.read(data)
    assert images.train.shape == (48, 8, 8) and images.train_labels[:12].tolist() == [*range(10), 0, 1]
    assert (images.test == 9).all() and len(images.test_labels) == 20
    few = training_data.read(data, 5)
    assert np.array_equal(few.train, images.train[:5]) and len(few.test) == 5
    with pytest.raises(ValueError, match="isn't the four IDX files"):
        training_data.read(training_data.write(data.parent / "colour", 10, 8, 3))


def test_views_are_shifts_of_the_image_or_its_mirror():
    torch.manual_seed(0)
    pixels = torch.randint(1, 256, (256, 6, 6), dtype=torch.uint8)
    made = plain_training.views(pixels, 1)
    assert made.shape == (256, 1, 6, 6)
    seen = set()
    for image, view in zip(pixels, made[:, 0], strict=True):
        padded = torch.nn.functional.pad(image, (1, 1, 1, 1)).float()
        found = {(top, left, mirrored) for top in range(3) for left in range(3) for mirrored in (False, True)
                 if torch.allclose(_cut(padded, top, left, mirrored), view)}  # fmt: skip
        assert len(found) == 1
        seen |= found
    assert len(seen) == 18


def _cut(padded, top, left, mirrored):
    part = padded[top : top + 6, left : left + 6]
    return ((part.flip(1) if mirrored else part) / 255 - plain_training.MEAN) / plain_training.DEVIATION


def test_ours_is_measured_on_the_test_images_and_evaluation_takes_no_time(data, tmp_path, threads, monkeypatch):
    real = Trainer.measure

    def slow(trainer, *given, **named):
        time.sleep(2)
        return real(trainer, *given, **named)

    monkeypatch.setattr(Trainer, "measure", slow)
    began = time.perf_counter()
    curve = our_training.ours(data, SETTINGS, 0, threads, None, tmp_path / "run")
    took = time.perf_counter() - began
    assert len(curve.points) == 2 and curve.images == 96 and curve.settings == "recipe quick"
    assert all(top1 == pytest.approx(0.1) for _, top1 in curve.points)  # test images are all alike, two of each class
    assert 0 < curve.points[0].seconds < curve.points[1].seconds < took - 4


def test_training_that_is_not_measured_is_an_error(data, tmp_path, threads, monkeypatch):
    monkeypatch.setattr(our_training, "on_test_images", lambda made, most: made)
    with pytest.raises(RuntimeError, match="measured nothing"):
        our_training.ours(data, {**SETTINGS, "epochs": 1}, 0, threads, None, tmp_path / "run")


def test_both_loops_are_timed_in_turns(data, tmp_path, threads, monkeypatch):
    monkeypatch.setattr(our_training, "LEAST", 0.05)
    case = our_training.Case("resnet20", 8, 1, 8, "quick", {})
    found = our_training.loops(data, case, 2, threads, tmp_path / "run")
    assert len(found["rates"]["ours"]) == len(found["rates"]["bare"]) == 2
    pairs = sorted(one / other for one, other in zip(*found["rates"].values(), strict=True))
    assert pairs[0] <= found["ratio"] <= pairs[1] and 0.05 < found["ratio"] < 20


@pytest.mark.parametrize("way", ["plain", "good"])
def test_the_ways_of_others_learn(way, threads, monkeypatch):
    monkeypatch.setattr(plain_training, "BATCH", 16)
    in_here = partial(plain_training.DataLoader, num_workers=0)  # a fork of this process with its threads may hang or crash
    monkeypatch.setattr(plain_training, "DataLoader", lambda *given, num_workers, **named: in_here(*given, **named))
    labels = np.arange(128) % 2
    pixels = (np.random.default_rng(0).integers(0, 128, (128, 8, 8)) + 127 * labels[:, None, None]).astype(np.uint8)
    images = training_data.Images(pixels, labels, pixels[:32], labels[:32])
    more = (False,) if way == "good" else ()
    curve = getattr(plain_training, way)(images, 6, 2.0, 0, threads, *more)
    assert len(curve.points) == 6 and curve.points[-1].top1 == 1 and curve.images == 6 * 128
    assert all(one.seconds < other.seconds for one, other in pairwise(curve.points))
    shorter = getattr(plain_training, way)(images, 6, 1.0, 0, threads, *more)
    assert len(shorter.points) <= 6 and shorter.images == len(shorter.points) * 128
    assert [point.top1 == 1 for point in shorter.points] == [*[False] * (len(shorter.points) - 1), True]


def rows(way, *seconds):
    targets = ("seconds_to_92", "seconds_to_94", "seconds_to_95")
    return [{"name": way, "seconds": 120.0, **dict.fromkeys(targets, one)} for one in seconds]


def test_seconds_are_those_of_the_first_epoch_that_reaches():
    points = [(10.0, 0.9), (20.0, 0.94), (30.0, 0.93)]
    assert time_to_accuracy.seconds_to(points, 0.94) == 20
    assert time_to_accuracy.seconds_to(points, 0.95) is None


def test_ratios_are_of_medians_and_missing_where_the_median_run_never_reaches():
    found = time_to_accuracy.ratios_of([*rows("plain", 50.0, 90.0, 60.0), *rows("ours", 10.0, None, 12.0)])
    assert found == {f"seconds_to_{target}_vs_plain": 5.0 for target in (92, 94, 95)}
    assert time_to_accuracy.ratios_of([*rows("plain", 50.0), *rows("ours", None)]) == {}
    never = time_to_accuracy.ratios_of([*rows("plain", None), *rows("ours", 10.0)])
    assert set(never.values()) == {12.0}  # all its seconds: the ratio is a least
    assert time_to_accuracy.ratios_of(rows("plain", 50.0)) == {}


def test_a_kept_result_is_taken_again_unless_it_was_asked_for_otherwise(tmp_path):
    kept = time_to_accuracy.Kept(tmp_path)
    assert kept.get("ours-0", {"epochs": 1}, lambda: {"top1": 0.9}) == {"top1": 0.9}
    assert kept.get("ours-0", {"epochs": 1}, pytest.fail) == {"top1": 0.9}
    with pytest.raises(ValueError, match="name another --keep"):
        kept.get("ours-0", {"epochs": 2}, pytest.fail)


def test_the_changes_of_the_recipe_reach_the_run():
    options = time_to_accuracy.options_of(["x", "--set", "ema_decay=0.99", "--set", "flip=off", "--epochs", "3"])
    wanted = {"recipe": "fast", "ema_decay": 0.99, "flip": "off", "epochs": 3.0}
    assert time_to_accuracy.our_settings(options) == wanted
    assert time_to_accuracy.asked("ours", options).items() >= wanted.items()
