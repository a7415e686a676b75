"""`resnets bench data`: its figures hang together, what it refuses, and that nothing is left behind."""

import json
import logging
import os
import shutil
import sys
import tempfile
import time

import numpy as np
import pytest
from photos import photo
from PIL import Image
from tiny import tiny

from resnets.arguments import parser
from resnets.bench import feeding, loading
from resnets.bench.data import bench_data
from resnets.cli import VERBS, main
from resnets.data import dataset
from resnets.data.augmentation import Augmentation
from resnets.data.dataset import ArrayImages
from resnets.data.decode import decode
from resnets.data.loader import Loader, Samples
from resnets.data.preprocessing import Preprocessing
from resnets.errors import WorkFailed

STAGES = ["decode", "augment", "collate", "all three"]
NOTHING = loading.Stages(0, 0.0, 0.0, 0.0, 0)


@pytest.fixture(autouse=True)
def for_a_moment(tmp_path, monkeypatch):
    """Everything is measured for a moment; caches and temporary files have folders of their own."""
    monkeypatch.setenv("RESNETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path)
    for name in ("STAGES", "LOADING", "TRAINING"):
        monkeypatch.setattr(feeding, name, 0.05)


@pytest.fixture(scope="module")
def jpegs(tmp_path_factory):
    """48 JPEG files of 60×50 pixels in three classes."""
    root = tmp_path_factory.mktemp("jpegs")
    for number in range(48):
        place = root / ("cat", "dog", "owl")[number % 3]
        place.mkdir(exist_ok=True)
        Image.fromarray(photo(50, 60, seed=number)).save(place / f"{number}.jpg")
    return root


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    return left.value.code, capsys.readouterr()


def check(found):
    """What holds of any figures."""
    rows = {row["name"]: row for row in found["rows"]}
    for row in found["rows"]:
        assert row["images"] > 0
        assert row["images_per_second"] * row["milliseconds"] == pytest.approx(1000 * row["threads"], rel=0.02)
    stages = [rows[name]["milliseconds"] for name in STAGES]
    assert sum(stages[:3]) == pytest.approx(stages[3], abs=1e-4) and min(stages) > 0
    assert rows["all three"]["threads"] == rows["loader, cold"]["threads"] == found["workers"]
    assert found["waiting"] == rows[f"{found['step']}, cold"]["waiting"] and 0 <= found["waiting"] <= 1
    later = f"{found['step']}, {found['later']}"
    assert found["waiting_later"] == (rows[later]["waiting"] if found["later"] else None)
    assert {"processor", "cores", "versions"} <= found["machine"].keys()
    return rows


def left_behind(tmp_path):
    """Files below the folders of a test."""
    return sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())


def test_the_built_in_digits(tmp_path, capsys):
    status, said = run(capsys, "bench", "data", "digits", "--workers", "1", "--json")
    found = json.loads(said.out)
    rows = check(found)
    assert status == 0 and found["later"] == "in memory" and found["kept"] == 1 and found["step"] == "training"
    assert (found["network"], found["size"], found["recipe"], found["workers"]) == ("resnet20", 8, "quick", 1)
    assert set(rows) == {*STAGES, *(f"{what}, {when}" for what in ("loader", "training") for when in ("cold", "in memory"))}
    assert left_behind(tmp_path) == []


def test_files_are_cached_in_a_folder_that_goes_away(tmp_path, jpegs, capsys, monkeypatch):
    before, decoded, places = feeding.again, [], []

    def again(loader, *rest):
        decoded.clear()
        found = before(loader, *rest)
        places.append((os.environ["RESNETS_CACHE"], len(decoded)))
        return found

    monkeypatch.setattr(feeding, "again", again)
    monkeypatch.setattr(dataset, "decode", lambda *given: decoded.append(1) or decode(*given))
    recipe = tmp_path / "mine.toml"
    recipe.write_text('epochs = 1\nbatch_size = 6\nbalance = "sample"\ncrop = "resized"\npolicy = "trivialaugment"\n')
    status, said = run(capsys, "bench", "data", jpegs, "--recipe", recipe, "--input", "32")
    assert "images train" in said.err and "are kept in" not in said.err
    assert status == 0 and "training waits for data" in said.out and "loader, cached" in said.out
    assert "resnet20 at 32 pixels, recipe mine, batches of 6" in said.out
    ((place, count),) = places
    assert count == 0 and place.startswith(str(tmp_path / "temporary"))
    assert os.environ["RESNETS_CACHE"] == str(tmp_path / "cache")
    assert [name for name in left_behind(tmp_path) if "listings" not in name] == ["mine.toml"]


def test_a_frozen_backbone_computes_features(tmp_path, jpegs):
    model = tiny(Preprocessing(size=32, crop=1.0)).save(tmp_path / "tiny.safetensors")
    found = bench_data(jpegs, init=model, crop="resized", freeze="backbone", recipe="quick")
    rows = check(found)
    assert found["step"] == "features" and found["later"] == "cached" and found["images"] > 30
    assert "features, cached" in rows


def test_without_a_cache_every_epoch_decodes(jpegs):
    found = bench_data(jpegs, input=32, crop="resized", cache="none")
    assert found["later"] is None and found["waiting_later"] is None and found["kept"] == 0
    assert list(check(found)) == [*STAGES, "loader, cold", "training, cold"]


def test_a_large_batch_is_made_smaller(jpegs, caplog, monkeypatch):
    monkeypatch.setattr(feeding, "BATCHES", (10, 10))
    caplog.set_level(logging.INFO, "resnets")
    assert bench_data(jpegs, batch_size=12, repeats=3)["batch"] == 9
    assert "batches of 9 images here, not the recipe's 12" in caplog.text


def test_refusals(tmp_path, jpegs, capsys, monkeypatch):
    for given, said in (
        ((tmp_path / "none",), "none"),
        (("digits", "--recipe", "quik"), "no recipe is called 'quik'"),
        (("digits", "--input", "4"), "--input is from 8 to 4096 pixels, not 4"),
        (("digits", "--workers", "-1"), "--workers is from 0 to 1024, not -1"),
    ):
        status, shown = run(capsys, "bench", "data", *given)
        assert status == 2 and said in shown.err and not shown.out
    with pytest.raises(ValueError, match="keeps no run"):
        bench_data("digits", out=tmp_path / "run")
    with pytest.raises(SystemExit, match="2"):
        main(["bench"])
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    status, shown = run(capsys, "bench", "data", "digits")
    assert (
        status == 1
        and 'bench data needs lightning_fabric, which isn\'t installed: pip install "resnets[train]"' in shown.err
    )


def test_images_that_cannot_be_read_are_counted(tmp_path, jpegs):
    shutil.copytree(jpegs, tmp_path / "data")
    for number in range(3, 9):
        (tmp_path / "data" / ("cat", "dog", "owl")[number % 3] / f"{number}.jpg").write_bytes(b"no image")
    found = bench_data(tmp_path / "data", val=0)
    check(found)
    assert found["unreadable"] == 6


def test_json_is_taken_on_either_side_of_what_is_measured():
    lines = "bench --json data digits", "bench data digits --json", "bench data --json digits", "bench data digits"
    options = [parser(VERBS).parse_args(line.split()) for line in lines]
    assert [one.json for one in options] == [True, True, True, False]
    assert not any(one.debug for one in options) and {one.what for one in options} == {"data"}


def test_a_stage_has_what_it_does(monkeypatch):
    """Reading that takes 2 ms is decoding's, a resize that takes 4 ms augmenting's; the batch is the loader's own."""
    images = ArrayImages(np.stack([photo(40, 40, seed=number) for number in range(16)]), [str(n) for n in range(16)])
    how, what = Preprocessing(size=32), Augmentation(crop="resized", flip=True)

    def loader():
        return Loader(Samples(images, np.arange(16), np.arange(16)), how, 8, augmentation=what, workers=2)

    slow, expected = loader(), [batch.images for batch in loader().batches(0)]
    before, resize = images.read, slow.resize
    monkeypatch.setattr(images, "read", lambda *given: time.sleep(0.002) or before(*given))
    slow.resize = lambda *given: time.sleep(0.004) or resize(*given)
    batches = []
    found = loading.stages(slow, lambda batch: batches.append(batch.images), 10)
    assert found.images == 16 and found.decoded == 16 * 40 * 40 * 3
    assert 0.032 <= found.decode < found.augment and found.augment >= 0.064 and found.collate < 0.03
    assert all(np.array_equal(a, b) for a, b in zip(batches, expected, strict=True))


def test_a_stretch_counts_from_its_first_batch_on():
    class Slow(Loader):
        """One whose first batch takes long."""

        def batches(self, epoch, start=0):
            for number, batch in enumerate(super().batches(epoch, start)):
                time.sleep(0.5 if number == 0 else 0.01)
                yield batch

    images = ArrayImages(np.zeros((40, 8, 8), np.uint8), [str(n) for n in range(40)])
    how = Preprocessing(size=8, crop=1.0, colour="grey", mean=(0.5,), deviation=(0.5,))
    loader = Slow(Samples(images, np.arange(40), np.zeros(40, np.int64)), how, 4, augmentation=Augmentation())
    found = loading.stretch(loader, lambda batch: None, 10, 6)
    assert (found.images, found.steps, found.behind) == (20, 6, 1) and 0.05 <= found.seconds < 0.5
    assert loading.stretch(loader, lambda batch: None, 10, 1).seconds >= 0.5  # one alone is timed whole
    assert loading.stretch(loader, lambda batch: None, 0.015, 10).steps < 10


def test_nothing_that_can_be_read_is_said(jpegs, monkeypatch):
    monkeypatch.setattr(feeding, "stages", lambda loader, *_: loader.failures.update({"a.jpg": "empty"}) or NOTHING)
    with pytest.raises(WorkFailed, match=r"none of 1 images of .* can be read \(a.jpg: empty\)"):
        bench_data(jpegs)
