"""Any dataset as tar shards: what is in them, that a killed pack ends with the same bytes, and what is refused."""

import fcntl
import hashlib
import io
import json
import logging
import re
import signal
import subprocess
import sys
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import simplejpeg
from photos import photo
from PIL import Image

from resnets.cli import main
from resnets.data.dataset import ArrayImages, Dataset
from resnets.data.decode import decode
from resnets.data.packing import pack, plan
from resnets.data.packing.encoding import Encoding, resized
from resnets.data.preprocessing import Preprocessing, crop
from resnets.data.shards import names_shards, open_shards
from resnets.data.shards.sidecar import read_sidecar
from resnets.data.sources import open_dataset
from resnets.errors import WorkFailed
from resnets.training.options import Options
from resnets.training.plan import plan as planned

ORIENTATION = 0x0112


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RESNETS_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Splits train (24 images) and val (6) of three classes: large and small, grey, turned by EXIF, PNG and JPEG."""
    root = tmp_path_factory.mktemp("photos")
    for number in range(30):
        path = root / ("val" if number % 5 == 4 else "train") / ("ant", "bee", "cat")[number % 3] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        height, width = [(90, 70), (48, 200), (40, 60), (64, 64), (500, 300), (71, 130)][number % 6]
        image = Image.fromarray(photo(height, width, seed=number))
        if number == 7:
            image.convert("L").save(path, quality=90)
        elif number == 8:
            exif = Image.Exif()
            exif[ORIENTATION] = 6
            image.save(path, exif=exif, quality=90)
        elif number in (1, 2):
            image.save(path.with_suffix(".png"))
        else:
            image.save(path, quality=90)
    return root


def pairs(out, source):
    """Each image of a pack and where it came from: (pack's index, source's index)."""
    origins, keys = read_sidecar(f"{out}/").origins(), {key: index for index, key in enumerate(source.images.keys)}
    return [(index, keys[origins[index]]) for index in range(len(origins))]


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_size_0_copies_every_byte(tmp_path, photos):
    packed = pack(photos, tmp_path / "out", size=0, shards=2)
    source, data = open_dataset(photos), open_shards(packed.out)
    assert (packed.images, packed.left_out, packed.shards, packed.already) == (30, 0, 4, 0)
    both = pairs(packed.out, source)
    assert sorted(there for _, there in both) == list(range(30))
    for here, there in both:
        assert data.images.encoded(here) == source.images.encoded(there)
        assert data.images.keys[here].endswith(source.images.keys[there][-4:])
        assert data.classes[data.labels[here]] == source.classes[source.labels[there]]
    for split in ("train", "val"):
        assert data.counts(data.indices(split)) == source.counts(source.indices(split))
    assert (data.name, data.classes, list(data.splits)) == (source.name, source.classes, ["train", "val"])


def test_a_resized_pack_is_the_librarys_resample(tmp_path, photos):
    out = pack(photos, tmp_path / "out", size=64, quality=90, shards=2).out
    source, data = open_dataset(photos), open_shards(out)
    for here, there in pairs(out, source):
        image = source.images.read(there, least=64)
        content = data.images.encoded(here)
        if min(image.shape[:2]) <= 64 and "/8." not in source.images.keys[there]:
            assert content == source.images.encoded(there)  # nothing to do
            continue
        grey = "/7." in source.images.keys[there]
        expected = resized(image[:, :, :1] if grey else image, 64)
        how = {"colorspace": "GRAY", "colorsubsampling": "Gray"} if grey else {"colorsubsampling": "420"}
        assert content == simplejpeg.encode_jpeg(np.ascontiguousarray(expected), 90, **how)
        assert min(expected.shape[:2]) == min(64, *image.shape[:2])
        with Image.open(io.BytesIO(content)) as opened:
            assert opened.size == (expected.shape[1], expected.shape[0]) and not opened.getexif()


def test_the_resample_is_preprocessings():
    how = Preprocessing(size=48, crop=1.0)
    for shape in ((100, 100), (300, 300)):
        image = photo(*shape)
        assert (resized(image, 48) == crop(image, how)).all()
    for height, width, expected in ((90, 70, (61, 48)), (70, 91, (48, 62)), (48, 99, (48, 99)), (30, 20, (30, 20))):
        assert resized(photo(height, width), 48).shape[:2] == expected
    wide = photo(64, 200)
    square = Preprocessing(size=32, crop=1.0)
    assert np.abs(crop(resized(wide, 32), square).astype(int) - crop(wide, square)).max() <= 2


def test_a_photo_turned_by_exif_is_upright(tmp_path):
    path = tmp_path / "data" / "a" / "x.jpg"
    path.parent.mkdir(parents=True)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(photo(40, 60)).save(path, exif=exif)
    for size in (256, 32):
        out = pack(tmp_path / "data", tmp_path / f"out{size}", size=size).out
        (content,) = [open_shards(out).images.encoded(0)]
        with Image.open(io.BytesIO(content)) as image:
            assert image.size == ((40, 60) if size == 256 else (32, 48)) and not image.getexif()


def test_arrays_become_png_without_loss(tmp_path):
    out = pack("digits", tmp_path / "out").out
    source, data = open_dataset("digits"), open_shards(out)
    assert not data.mirrors
    for here, there in pairs(out, source):
        assert data.images.keys[here].endswith(".png")
        assert (data.images.read(here, grey=True) == source.images.read(there, grey=True)).all()
        assert data.labels[here] == source.labels[there]
    pixels = np.random.default_rng(0).integers(0, 256, (5, 40, 20, 3), np.uint8)
    colour = Dataset("colour", ArrayImages(pixels, list("abcde")), ("x", "y"), np.array([0, 1, 1, 0, 1]))
    data = open_shards(pack(colour, tmp_path / "colour", size=10).out)
    for here, there in pairs(tmp_path / "colour", colour):
        assert (data.images.read(here) == resized(pixels[there], 10)).all()
        assert data.images.read(here).shape == (20, 10, 3)


def test_the_layout_is_webdatasets(tmp_path, photos):
    out = pack(photos, tmp_path / "out", size=0, shards=5).out
    data = open_shards(out)
    index = json.loads((out / "index.json").read_text())
    names = [shard["name"] for shard in index["shards"]]
    assert names == [f"{split}-{number:06}.tar" for split in ("train", "val") for number in range(5)]
    counts, found, samples = {}, 0, []
    for shard in index["shards"]:
        assert hashlib.sha256((out / shard["name"]).read_bytes()).hexdigest() == shard["sha256"]
        with tarfile.open(out / shard["name"]) as tar:
            entries = tar.getmembers()
            assert all((entry.mtime, entry.uid, entry.gid, entry.mode) == (0, 0, 0, 0o644) for entry in entries)
            for image, label in zip(entries[::2], entries[1::2], strict=True):
                assert image.name[:9] == label.name[:9] and label.name[9:] == ".cls"
                assert data.images.keys[found] == f"{shard['name']}/{image.name}"
                assert tar.extractfile(image).read() == data.images.encoded(found)
                assert int(tar.extractfile(label).read()) == data.labels[found]
                samples.append(int(image.name[:9]))
                found += 1
        assert (out / shard["name"]).stat().st_size % 10240 == 0
        counts.setdefault(shard["split"], []).append(shard["images"])
    assert samples == [*range(24), *range(6)]  # unique within a split
    assert counts == {"train": [5, 5, 5, 5, 4], "val": [2, 1, 1, 1, 1]}
    assert data.labels[:12].tolist() != sorted(data.labels[:12])  # classes are mixed


def test_webdatasets_own_library_reads_them(tmp_path, photos):
    out = pack(photos, tmp_path / "out", size=32, shards=2).out
    data = open_shards(out)
    code = (
        "import sys, hashlib, webdataset\n"
        "for sample in webdataset.WebDataset(sys.argv[1], shardshuffle=False):\n"
        "    (suffix,) = {'jpg', 'png'} & sample.keys()\n"
        "    print(hashlib.sha256(sample[suffix]).hexdigest(), sample['cls'].decode())"
    )
    command = [sys.executable, "-c", code, f"{out}/train-{{000000..000001}}.tar"]
    read = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    train = data.indices("train").tolist()
    assert read[::2] == [hashlib.sha256(data.images.encoded(index)).hexdigest() for index in train]
    assert [int(label) for label in read[1::2]] == data.labels[train].tolist()


def test_some_of_a_packs_shards_by_their_names(tmp_path, photos):
    out = pack(photos, tmp_path / "out", size=0, shards=3).out
    whole = open_shards(out)
    some = open_shards(f"{out}/train-{{000002,000001}}.tar")
    wanted = [index for number in (2, 1) for index in range(24) if whole.images.shard[index] == number]
    assert sorted(some.images.keys) == sorted(whole.images.keys[index] for index in wanted) and len(some) == 16
    for index, key in enumerate(some.images.keys):
        there = whole.images.keys[:].index(key)
        assert some.images.encoded(index) == whole.images.encoded(there)
        assert some.classes[some.labels[index]] == whole.classes[whole.labels[there]]
    assert list(some.splits) == ["train"]
    (out / "train-000003.tar").write_bytes((out / "val-000000.tar").read_bytes())  # which the index doesn't know
    assert open_shards(f"{out}/train-{{000002..000003}}.tar").classes == ("0", "1", "2")


def test_without_our_index_the_classes_are_their_numbers(tmp_path, photos):
    out = pack(photos, tmp_path / "out", size=32, shards=2).out
    ours = open_shards(out)
    (out / "index.json").unlink()
    bare = open_shards(out)
    assert bare.classes == ("0", "1", "2")
    assert (bare.labels == ours.labels).all() and bare.images.keys[:] == ours.images.keys[:]
    assert {name: indices.tolist() for name, indices in bare.splits.items()} == {
        name: indices.tolist() for name, indices in ours.splits.items()
    }


def test_a_picture_longer_than_a_jpeg_can_be_becomes_png(tmp_path):
    (tmp_path / "data" / "a").mkdir(parents=True)
    Image.fromarray(photo(9, 70_000)).save(tmp_path / "data" / "a" / "long.bmp")
    data = open_shards(pack(tmp_path / "data", tmp_path / "out", size=32).out)
    assert data.images.keys[:] == ["000000.tar/000000000.png"]
    assert (data.images.read(0) == photo(9, 70_000)).all()


def test_how_many_shards_there_are_by_rule(monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (1000, 8, 8), np.uint8)
    data = Dataset("x", ArrayImages(pixels, [str(number) for number in range(1000)]), ("x",), np.zeros(1000, int))
    with ThreadPoolExecutor(1) as pool:
        assert plan.counted(data, Encoding(256, 95), None, pool) == {"": 3}  # of 256 images each
        monkeypatch.setattr(plan, "LARGEST", 100_000)
        (number,) = plan.counted(data, Encoding(256, 95), None, pool).values()
    assert 19 <= number <= 21  # 1000 samples of 4 blocks
    shards = plan.planned(data, {"": number})
    assert {len(shard.images) for shard in shards} == {1000 // number, -(-1000 // number)}
    assert sorted(np.concatenate([shard.images for shard in shards])) == list(range(1000))


def test_threads_change_no_byte(tmp_path, photos):
    for workers in (1, 5):
        pack(photos, tmp_path / str(workers), size=48, shards=2, workers=workers)
    assert contents(tmp_path / "1") == contents(tmp_path / "5")


PACK = """
import os, signal, sys
from resnets.data.packing import pack
at, count, real = int(sys.argv[3]), 0, os.replace
def replace(source, target):
    global count
    count += 1
    if count == at and at % 2:
        os.kill(os.getpid(), signal.SIGKILL)
    real(source, target)
    if count == at:
        os.kill(os.getpid(), signal.SIGKILL)
os.replace = replace
print("begun", flush=True)
pack(sys.argv[1], sys.argv[2], size=48, shards=4, workers=2)
"""


def killed(photos, out, at, after=0.0):
    """Pack in a process that is killed at rename number `at`, before it if odd; with 0 when it has packed for a time."""
    command = [sys.executable, "-c", PACK, str(photos), str(out), str(at)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        if not at:
            time.sleep(after)
            process.kill()
        assert process.wait() == -signal.SIGKILL or not at


def test_a_pack_that_is_killed_goes_on_to_the_same_bytes(tmp_path, photos):
    whole = contents(pack(photos, tmp_path / "whole", size=48, shards=4).out)
    out, finished = tmp_path / "out", []
    for at in (1, 2, 7, 4, 3):
        killed(photos, out, at)
        finished.append(len(list(out.glob("*.tar"))))
        with pytest.raises(ValueError, match="aren't all packed; the same pack, given again"):
            open_shards(out)
        assert names_shards(out)
    assert finished == sorted(finished) and 0 < finished[-1] < 8
    there = {path.name: path.stat().st_mtime_ns for path in out.glob("*.tar")}
    packed = pack(photos, out, size=48, shards=4)
    assert packed.already == len(there)
    assert all((out / name).stat().st_mtime_ns == changed for name, changed in there.items())  # whole shards stay
    assert contents(out) == whole
    again = pack(photos, out, size=48, shards=4)
    assert (again.already, again.images, again.images_per_second) == (8, 30, None)


@pytest.mark.parametrize("after", [0.0, 0.01, 0.03])
def test_a_pack_that_is_killed_at_any_time_goes_on(tmp_path, photos, after):
    killed(photos, tmp_path / "out", 0, after)
    whole = pack(photos, tmp_path / "whole", size=48, shards=4).out
    assert contents(pack(photos, tmp_path / "out", size=48, shards=4).out) == contents(whole)


def test_a_kill_after_the_index_leaves_only_to_clear_up(tmp_path, photos):
    out = tmp_path / "out"
    killed(photos, out, 1 + 2 * 8 + 1)  # the request, 8 records and shards, the offsets
    assert not (out / "index.json").exists()
    killed(photos, out, 2)  # now the offsets again, then the index
    assert (out / "index.json").exists() and (out / ".pack").exists()
    pack(photos, out, size=48, shards=4)
    assert not (out / ".pack").exists()


def test_what_differs_is_refused_and_said(tmp_path, photos):
    killed(photos, tmp_path / "begun", 6)
    pack(photos, tmp_path / "whole", size=48, shards=4)
    for out, word in (("begun", "begun"), ("whole", "packed")):
        for how, said in (({"size": 64}, "size was 48 and is now 64"), ({"quality": 90}, "quality was 95 and is now 90"),
                          ({"shards": None}, "shards was 4 and is now null")):  # fmt: skip
            with pytest.raises(ValueError, match=f"{out} was {word} otherwise: {said}"):
                pack(photos, tmp_path / out, **{"size": 48, "shards": 4, **how})
        with pytest.raises(ValueError, match=r'data was "photos.*" and is now "digits".*fingerprint was'):
            pack("digits", tmp_path / out, size=48, shards=4)


def test_a_folder_of_other_things_is_left_alone(tmp_path, photos):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(ValueError, match="mine isn't empty, and holds no shards"):
        pack(photos, tmp_path / "mine")
    with pytest.raises(ValueError, match=r"letter\.txt is a file"):
        pack(photos, tmp_path / "mine" / "letter.txt")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["letter.txt"]
    (tmp_path / "empty").mkdir()
    assert pack(photos, tmp_path / "empty", size=32).images == 30


@pytest.mark.parametrize(
    ("how", "said"),
    [({"size": 4}, "size is pixels"), ({"size": -1}, "size is"), ({"quality": 0}, "quality"), ({"quality": 101}, "quality"),
     ({"shards": 0}, "at least 1"), ({"shards": 7}, "the split val has 6 images, too few for 7 shards")],
)  # fmt: skip
def test_what_cant_be_is_refused(tmp_path, photos, how, said):
    with pytest.raises(ValueError, match=said):
        pack(photos, tmp_path / "out", **how)
    assert not (tmp_path / "out").exists()


def test_two_processes_dont_pack_into_one_folder(tmp_path, photos):
    (tmp_path / "out" / ".pack").mkdir(parents=True)
    with (tmp_path / "out" / ".pack" / "lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)  # less than the other asks for, and enough
        with pytest.raises(WorkFailed, match="another process is packing into"):
            pack(photos, tmp_path / "out")


def test_images_that_cant_be_read_are_left_out_and_listed(tmp_path, caplog):
    for number in range(9):
        path = tmp_path / "data" / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo(40, 50, seed=number)).save(path)
    (tmp_path / "data" / "a" / "4.jpg").write_bytes(b"no image")
    cut = tmp_path / "data" / "b" / "7.jpg"
    cut.write_bytes(cut.read_bytes()[:-100])
    for size in (0, 256, 32):
        caplog.clear()
        packed = pack(tmp_path / "data", tmp_path / f"out{size}", size=size, shards=3)
        assert (packed.images, packed.left_out) == (7, 2)
        index = json.loads((packed.out / "index.json").read_text())
        assert sorted(row["key"] for row in index["left_out"]) == ["a/4.jpg", "b/7.jpg"] and index["left_out"][0]["why"]
        assert index["splits"] == {"": {"a": 4, "b": 3}}
        assert "2 of 9 images couldn't be read and are left out; the first is" in caplog.text
        data = open_shards(packed.out)
        assert len(data) == 7 and all(decode(data.images.encoded(place)).size for place in range(7))
    for path in (tmp_path / "data").rglob("*.jpg"):
        path.write_bytes(b"no image")
    with pytest.raises(WorkFailed, match="none of the 9 images could be read"):
        pack(tmp_path / "data", tmp_path / "none")


def test_a_full_disk_names_the_shard_and_leaves_no_half_of_it(tmp_path, photos):
    code = (
        "import resource, sys; from resnets.data.packing import pack\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (15000, 15000))\n"
        "try: pack(sys.argv[1], sys.argv[2], size=0, shards=4)\n"
        "except OSError as error: print(error.filename)"
    )
    out = tmp_path / "out"
    done = subprocess.run([sys.executable, "-c", code, photos, out], capture_output=True, text=True, check=True)
    assert done.stdout.strip().startswith(str(out / "train-00000"))
    assert not [path for path in out.iterdir() if path.name.endswith(".part")]
    packed = pack(photos, out, size=0, shards=4)
    assert contents(out) == contents(pack(photos, tmp_path / "whole", size=0, shards=4).out)
    assert packed.images == 30


def test_a_shard_that_is_cut_off_or_gone_after_the_pack(tmp_path, photos, caplog):
    out = pack(photos, tmp_path / "out", size=0, shards=4).out
    path = out / "train-000002.tar"
    content = path.read_bytes()
    whole = open_shards(out)
    for damage, said in ((lambda: path.write_bytes(content[:-512]), "is cut off: it has"), (path.unlink, "is missing")):
        damage()
        with pytest.raises(ValueError, match=f"train-000002.tar {said}"):
            open_shards(out)
        data = open_shards(out, tolerate=True)
        kept = [key for key in whole.images.keys if not key.startswith("train-000002.tar/")]
        assert data.images.keys[:] == kept and len(data.splits["train"]) == 18 and len(data.splits["val"]) == 6
        assert [data.images.encoded(index) for index in range(24)] == [
            whole.images.encoded(index) for index in range(30) if whole.images.shard[index] != 2
        ]
    assert len(caplog.messages) == 2
    asked = {"init": "none", "model": "resnet20", "input": 32}
    with pytest.raises(ValueError, match=r"train-000002.tar is missing; .* --set tolerate=true"):
        planned(Options.parse(str(out), asked))
    assert len(planned(Options.parse(str(out), {**asked, "tolerate": True})).division.train) == 18
    (tmp_path / "own.toml").write_text("epochs = 1\ntolerate = true\n")
    assert len(planned(Options.parse(str(out), {**asked, "recipe": str(tmp_path / "own.toml")})).division.train) == 18
    path.write_bytes(content)
    (out / "index.npz").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"index\.npz is damaged; pack again"):
        open_shards(out)


def test_the_verb(tmp_path, photos, capsys):
    out = tmp_path / "out"
    command = ["pack", str(photos), str(out), "--size", "48", "--quality", "80", "--shards", "2", "--workers", "1"]
    with pytest.raises(SystemExit, match="0"):
        main(command)
    assert "30 images in 4 shards" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="0"):
        main([*command, "--json"])
    document = json.loads(capsys.readouterr().out)
    assert document | {"bytes": 0} == {"out": str(out), "images": 30, "left_out": 0, "shards": 4, "bytes": 0, "already": 4,
                                       "images_per_second": None}  # fmt: skip
    assert document["bytes"] == sum(path.stat().st_size for path in out.glob("*.tar"))
    with pytest.raises(SystemExit, match="2"):
        main([*command, "--size", "50"])
    assert "size was 48 and is now 50" in capsys.readouterr().err


def test_how_far_it_is_goes_to_standard_error(tmp_path, photos, capsys, caplog, monkeypatch):
    monkeypatch.setattr("resnets.data.progress.ImageProgress.first", 0.0)
    monkeypatch.setattr("resnets.data.progress.EVERY", 0.0)
    with caplog.at_level(logging.INFO):
        pack(photos, tmp_path / "lines", size=48)
    assert len(caplog.messages) == 29
    assert re.match(r"lines: 1 of 30 images, \d+ s left, [\d,]+ images/s$", caplog.messages[0])
    monkeypatch.setenv("FORCE_COLOR", "1")
    pack(photos, tmp_path / "bar", size=48)
    said = capsys.readouterr()
    assert "30/30" in said.err and "images/s" in said.err and not said.out


def test_shards_can_be_packed_again(tmp_path, photos):
    first = open_shards(pack(photos, tmp_path / "first", size=0, shards=2).out)
    second = open_shards(pack(first, tmp_path / "second", size=0, shards=3).out)
    assert sorted(map(second.images.encoded, range(30))) == sorted(map(first.images.encoded, range(30)))
    assert second.counts() == first.counts()
