"""Predicting the images in tar files: their paths, and the same answers as of the files themselves."""

import errno
import os
import tarfile

import numpy as np
import pytest
from PIL import Image
from shard_server import serving
from test_bulk import command, rows_of
from tiny import HOW, photos_in, pictures, tiny

from resnets import predict
from resnets.data.packing import pack
from resnets.data.sources import open_dataset
from resnets.prediction.paths import expand, listed


@pytest.fixture(scope="module")
def model():
    return tiny(HOW)


@pytest.fixture
def photos(tmp_path):
    """Twelve photos, 0.png … 11.png, of which 7.png is text; without labels."""
    return photos_in(tmp_path / "photos", 12)


@pytest.fixture
def shards(photos, tmp_path):
    """The photos in two shards; beside them what is no image, and a hidden one."""
    folder = tmp_path / "shards"
    folder.mkdir()
    for shard, numbers in (("0.tar", range(5)), ("1.tar", range(5, 12))):
        with tarfile.open(folder / shard, "w") as tar:
            for number in numbers:
                tar.add(photos / f"{number}.png", f"{'./' if number % 2 else 'deep/'}{number}.png")
            tar.add(photos / "0.png", "._0.png")
            tar.add(__file__, "notes.txt")
    return folder


def without(answer):
    return answer.labels, answer.scores, answer.error


def test_the_same_answers_as_of_the_files(model, photos, shards, monkeypatch):
    expected = [without(answer) for answer in predict(model, [photos])]
    answers = list(predict(model, [shards]))
    assert [without(answer) for answer in answers] == expected
    members = [f"{'deep/' if number % 2 == 0 else ''}{number}.png" for number in range(12)]
    assert [answer.path for answer in answers] == [
        f"{shards}/{number // 5 if number < 10 else 1}.tar/{member}" for number, member in enumerate(members)
    ]
    assert "not an image" in (answers[7].error or "")
    assert without(predict(model, answers[3].path)) == expected[3]  # a path that was said opens again
    monkeypatch.chdir(shards.parent)
    for given in ("shards", "shards/{0..1}.tar", "shards/*.tar"):
        assert [without(answer) for answer in predict(model, [given])] == expected
        assert next(expand([given])) == "shards/0.tar/deep/0.png"
    assert list(expand(["shards/1.tar"])) == [answer.path.removeprefix(f"{shards.parent}/") for answer in answers[5:]]


def test_what_pack_writes(model, tmp_path):
    """Its `.cls` are no images, and its order is its own."""
    for split in ("train", "val"):
        for number, pixels in enumerate(pictures()[:6]):
            place = tmp_path / "data" / split / ("ant" if number % 2 else "bee") / f"{number}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(place)
    pack(tmp_path / "data", tmp_path / "packed", size=0)
    paths, keys = list(expand([tmp_path / "packed"])), open_dataset(tmp_path / "packed").images.keys
    assert paths == [f"{tmp_path}/packed/{key}" for key in keys]
    expected = sorted(without(answer) for answer in predict(model, [tmp_path / "data"]))
    assert sorted(without(answer) for answer in predict(model, [tmp_path / "packed"])) == expected
    (tmp_path / "packed" / "val-000000.tar").unlink()
    gone = list(predict(model, [tmp_path / "packed"]))[-1]
    assert (gone.path, gone.error) == (paths[-1].rpartition("/")[0], f"the shard {gone.path} is missing")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_and_its_parts(model, shards, tmp_path, suffix):
    saved = model.save(tmp_path / "tiny.safetensors")
    out = tmp_path / f"labels{suffix}"
    assert command("predict", saved, shards, "--out", out, "--top", 1) == 0
    whole = rows_of(out)
    assert [row["path"] for row in whole] == listed([shards])
    for number in (1, 2):
        assert command("predict", saved, shards, "--out", out, "--top", 1, "--part", f"{number}/2") == 0
    assert [row for number in (1, 2) for row in rows_of(tmp_path / f"labels-{number}-of-2{suffix}")] == whole


def test_they_are_sorted_as_copies(model, photos, shards, tmp_path, monkeypatch):
    saved = model.save(tmp_path / "tiny.safetensors")
    arguments = ["predict", saved, shards, "--sort-into", tmp_path / "sorted", "--json", "--out", tmp_path / "labels.csv"]
    assert command(*arguments) == 0
    found = {path.name: path.read_bytes() for path in (tmp_path / "sorted").rglob("*") if path.is_file()}
    assert found == {path.name: path.read_bytes() for path in photos.iterdir() if path.name != "7.png"}
    modes = {path.stat().st_mode for path in (tmp_path / "sorted").rglob("*.png")}
    assert modes == {(photos / "0.png").stat().st_mode}
    assert not list((tmp_path / "sorted").rglob(".*"))
    before = {path: path.stat().st_ino for path in (tmp_path / "sorted").rglob("*")}
    assert command(*arguments) == 0  # again: each is there
    assert {path: path.stat().st_ino for path in (tmp_path / "sorted").rglob("*")} == before

    def refusing(source, target):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refusing)
    assert command("predict", saved, shards, "--sort-into", tmp_path / "again") == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "again").rglob("*") if path.is_file()} == found


def test_shards_at_a_server(model, photos, shards, tmp_path):
    expected = [without(answer) for answer in predict(model, [photos])]
    with serving(shards) as (address, server):
        answers = list(predict(model, [f"{address}/{{0..1}}.tar"]))
        assert [without(answer) for answer in answers] == expected
        assert answers[0].path == f"{address}/0.tar/deep/0.png"
        assert without(predict(model, answers[0].path)) == expected[0]
        server.failing = 1  # one request is tried again
        assert without(predict(model, answers[11].path)) == expected[11]
        saved = model.save(tmp_path / "tiny.safetensors")
        assert command("predict", saved, f"{address}/1.tar", "--sort-into", tmp_path / "sorted") == 0
    assert {path.stem for path in (tmp_path / "sorted").rglob("*.png")} == {"5", "6", "8", "9", "10", "11"}


def test_a_damaged_shard_costs_its_own_images_alone(model, shards):
    data = (shards / "1.tar").read_bytes()
    (shards / "1.tar").write_bytes(data[:2000])
    answers = list(predict(model, [shards]))
    assert len(answers) == 6
    assert all(answer.error is None for answer in answers[:5])
    assert answers[5].path == f"{shards}/1.tar"
    assert answers[5].error == f"the shard {shards}/1.tar is cut off: it ends after 2,000 bytes without a tar file's end"
    inside = predict(model, f"{shards}/1.tar/5.png")
    assert "is cut off" in (inside.error or "")


def test_what_is_not_in_a_tar(model, shards, tmp_path):
    assert predict(model, f"{shards}/0.tar/none.png").error == f"the tar {shards}/0.tar holds no such image"
    assert "is missing" in (predict(model, f"{shards}/9.tar").error or "")
    assert "whose images have paths of their own" in (predict(model, f"{shards}/0.tar").error or "")
    assert "No such file" in (predict(model, f"{shards}/9.tar/0.png").error or "")
    with tarfile.open(tmp_path / "empty.tar", "w") as tar:
        tar.add(__file__, "notes.txt")
    with pytest.raises(ValueError, match=r"the shards of .*empty\.tar hold no image"):
        list(expand([tmp_path / "empty.tar"]))


def test_a_shard_that_is_written_anew_is_read_anew(model, photos, shards):
    path = f"{shards}/0.tar/deep/0.png"
    before = without(predict(model, path))
    with tarfile.open(shards / "new", "w") as tar:
        tar.add(photos / "3.png", "deep/0.png")
    (shards / "new").replace(shards / "0.tar")
    assert without(predict(model, path)) == without(predict(model, photos / "3.png")) != before


def test_a_folder_with_images_has_those_alone(photos, shards):
    (shards / "0.tar").rename(photos / "backup.tar")
    assert len(list(expand([photos]))) == 12


def test_a_folder_that_is_called_as_a_tar_is_one(model, photos):
    folder = photos.rename(photos.with_name("odd.tar"))
    answers = list(predict(model, [folder]))
    assert len(answers) == 12 and answers[0].error is None
    assert np.isclose(sum(answers[0].scores), 1)
