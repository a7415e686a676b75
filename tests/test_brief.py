"""The brief check that training begins with."""

import numpy as np
import pytest
from healthy import encoded, jpeg, picture, put

import resnets
from resnets.data import divide, open_dataset
from resnets.data.dataset import ArrayImages, Dataset
from resnets.data.health import brief, in_words

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")
GOOD = {f"{split}/{name}/{number}.jpg": jpeg(100 * ord(name) + 10 * (split == "val") + number)
        for split in ("train", "val") for name in "ab" for number in range(3)}  # fmt: skip


def found(folder, size=64, fraction=0.1):
    """{kind: paths of each} of a folder."""
    data = open_dataset(folder)
    problems = brief(data, divide(data, fraction, 0), size)
    return {kind: [set(p.paths) for p in problems if p.kind == kind] for kind in {p.kind for p in problems}}


def test_nothing_is_said_of_good_images(tmp_path):
    assert found(put(tmp_path, GOOD)) == {}


@pytest.mark.parametrize(("kind", "files"), [
    ("truncated", {"train/a/cut.jpg": jpeg(8)[:900]}),
    ("empty_file", {"val/b/none.png": b""}),
    ("wrong_type", {"train/b/page.jpg": b"<!doctype html>"}),
    ("too_small", {"train/a/small.png": encoded(picture(5, 40, 128), "PNG")}),
    ("leak", {"train/a/x.jpg": jpeg(9), "val/a/y.jpg": jpeg(9)}),
    ("leak", {"train/a/x.jpg": jpeg(9), "test/a/y.jpg": jpeg(9), "test/b/z.jpg": jpeg(10)}),
    ("label_conflict", {"train/a/x.jpg": jpeg(9), "train/b/y.jpg": jpeg(9)}),
], ids=["truncated", "empty", "page", "small", "leak", "test", "conflict"])  # fmt: skip
def test_each_kind_is_found(tmp_path, kind, files):
    bad = set(files) - {"test/b/z.jpg"}
    together = [bad] if kind in ("leak", "label_conflict") else [{path} for path in bad]
    assert found(put(tmp_path, {**GOOD, **files})) == {kind: together}


def test_copies_of_a_held_out_image(tmp_path):
    files = {f"{name}/{number}.jpg": jpeg(number, quality=90 - (name == "b")) for name in "ab" for number in range(12)}
    put(tmp_path, files)
    data = open_dataset(tmp_path)
    division = divide(data, 0.3, 0)
    held, trains = (data.images.keys[int(part[0])] for part in (division.val, division.train))
    (tmp_path / trains).write_bytes((tmp_path / held).read_bytes())
    leaks = [problem for problem in brief(data, division, 64) if problem.kind == "leak"]
    assert [set(problem.paths) for problem in leaks] == [{held, trains}]
    assert "held-out" in leaks[0].detail


def test_files_of_the_same_size_are_no_copies(tmp_path):
    content = jpeg(1)
    put(tmp_path, {**GOOD, "train/a/x.jpg": content + b"1", "val/a/y.jpg": content + b"2"})
    assert found(tmp_path) == {}


def test_what_is_left_out_is_not_looked_at(tmp_path):
    data = open_dataset(put(tmp_path, {**GOOD, "train/a/none.jpg": b"", "train/a/x.jpg": jpeg(9), "val/a/y.jpg": jpeg(9)}))
    division = divide(data, 0.1, 0)
    good = np.array([index for index in division.train if data.images.keys[index][8:] not in ("none.jpg", "x.jpg")])
    assert len(good) == len(division.train) - 2
    assert brief(data, division._replace(train=good), 64) == []


def test_images_in_memory(monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8)
    pixels[31] = pixels[3]
    splits = {"train": np.arange(30), "test": np.arange(30, 40)}
    labels = np.array([0] * 28 + [1] * 2 + [0] * 10)
    data = Dataset("x", ArrayImages(pixels, [str(n) for n in range(40)]), ("a", "b"), labels, splits)
    said = [(problem.kind, problem.paths) for problem in brief(data, divide(data, 0.0, 0), 32)]
    assert said == [("leak", ("3", "31")), ("imbalance", ())]


def test_a_slow_look_ends(tmp_path, monkeypatch):
    monkeypatch.setattr("resnets.data.health.briefly.SECONDS", -1.0)
    assert found(put(tmp_path, {**GOOD, "val/b/none.png": b""})) == {}


def test_few_of_many_alike_sizes_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr("resnets.data.health.briefly.READ", 3)
    same = {f"{split}/a/same{number}.png": b"x" * 10 for split in ("train", "val") for number in range(2)}
    put(tmp_path, {**GOOD, **same, "train/a/x.jpg": jpeg(9), "val/a/y.jpg": jpeg(9)})
    assert found(tmp_path)["leak"] == [{"train/a/x.jpg", "val/a/y.jpg"}]  # a group of two first; then four are too many


def test_the_words(tmp_path):
    data = open_dataset(put(tmp_path, {**GOOD, "train/a/none.png": b"", "train/b/none.png": b"",
                                       "train/a/x.jpg": jpeg(9), "val/a/y.jpg": jpeg(9)}))  # fmt: skip
    assert in_words(brief(data, divide(data, 0.1, 0), 64)) == [
        "empty file: train/a/none.png (0 bytes) and 1 more",
        "leak: train/a/x.jpg and val/a/y.jpg (the same bytes, in train, val)",
    ]


def test_training_says_what_it_found(tmp_path, caplog):
    put(tmp_path / "data", {**GOOD, "train/a/x.jpg": jpeg(9), "val/a/y.jpg": jpeg(9)})
    put(tmp_path / "data", {f"train/a/{number}more.jpg": jpeg(number + 50) for number in range(27)})
    for balance, kinds in (("none", ["leak", "imbalance"]), ("sample", ["leak"])):
        caplog.clear()
        resnets.train(
            tmp_path / "data", input=32, model="resnet20", init="none", steps=1, balance=balance, out=tmp_path / balance
        )
        said = [message for message in caplog.messages if message.startswith("check: ")]
        assert [message.split(": ")[1] for message in said[:-1]] == kinds
        assert f"resnets check {tmp_path / 'data'} looks at every image" in said[-1]
