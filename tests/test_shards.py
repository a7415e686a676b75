"""Tar shards as a dataset: by any writer of tar, by an index, at a server, damaged."""

import io
import json
import logging
import tarfile
import tracemalloc

import numpy as np
import pytest
from PIL import Image
from shard_server import serving

from resnets.data.augmentation import Augmentation
from resnets.data.dataset import divide
from resnets.data.loader import Loader, Samples
from resnets.data.packing import pack
from resnets.data.preprocessing import Preprocessing
from resnets.data.shards import names_shards, open_shards, remote
from resnets.data.shards.addresses import expanded, split_of
from resnets.data.shards.images import ShardImages
from resnets.data.shards.index import Index, Names, load, save
from resnets.data.shards.sidecar import read_sidecar
from resnets.data.sources import open_dataset
from resnets.errors import MissingExtra, WorkFailed

HOW = Preprocessing(size=16, crop=1.0)
FORMATS = {"gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT, "ustar": tarfile.USTAR_FORMAT}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RESNETS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "shards"


def png(number):
    out = io.BytesIO()
    Image.new("RGB", (20, 16), (number % 256, 7, 9)).save(out, "PNG")
    return out.getvalue()


def write_tar(path, files, kind=tarfile.USTAR_FORMAT, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=kind) as tar:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for field, value in how.items():
                setattr(info, field, value)
            tar.addfile(info, io.BytesIO(content))
    return path


def samples(numbers, label=lambda number: number % 3, folder=""):
    for number in numbers:
        yield f"{folder}{number:06}.png", png(number)
        yield f"{folder}{number:06}.cls", str(label(number)).encode()


def shards(root, count=3, each=6):
    for number in range(count):
        write_tar(root / f"{number:06}.tar", samples(range(each * number, each * (number + 1))))
    return root


def red(data):
    return [int(data.images.read(index)[0, 0, 0]) for index in range(len(data))]


@pytest.mark.parametrize("kind", FORMATS)
def test_tars_of_every_format_are_read_as_tarfile_reads_them(tmp_path, kind):
    deep = "/".join(["deep" * 5] * 5) + "/"  # ustar writes a prefix, the others a long name
    files = [*samples(range(3), folder=deep), *samples(range(3, 5), label=lambda _: "Käfer", folder="./a.b/")]
    path = write_tar(tmp_path / "x.tar", files, FORMATS[kind], mtime=1.5 if kind == "pax" else 1)
    data = open_shards(path)
    assert data.images.keys[:] == [f"x.tar/{name.removeprefix('./')}" for name, _ in files[::2]]
    assert [data.images.encoded(index) for index in range(5)] == [content for _, content in files[::2]]
    assert data.classes == ("0", "1", "2", "Käfer")
    assert data.labels.tolist() == [0, 1, 2, 3, 3]
    assert (data.name, data.splits) == ("x", {})


def test_a_name_longer_than_ustar_can_is_read(tmp_path):
    name = "n" * 300
    for kind in ("gnu", "pax"):
        path = write_tar(tmp_path / f"{kind}.tar", [(f"{name}.png", png(1)), (f"{name}.cls", b"1")], FORMATS[kind])
        assert open_shards(path).images.keys[0] == f"{kind}.tar/{name}.png"


def test_other_entries_of_a_tar_are_no_images(tmp_path):
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "a global header"}) as tar:
        for name, kind in (("d", tarfile.DIRTYPE), ("0.png", tarfile.SYMTYPE), ("l" * 200, tarfile.LNKTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "to"
            tar.addfile(info)
        for name, content in (("a.txt", b"words"), (".hidden.png", png(0)), ("README", b""), *samples([7])):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    assert open_shards(path).images.keys[:] == ["x.tar/000007.png"]


def test_a_sample_is_what_shares_a_name_up_to_the_first_dot(tmp_path):
    files = [("a.seg.png", png(1)), ("a.JPG", png(2)), ("b.png", png(3)), ("a.cls", b" owl\n")]
    files += [("a.json", b'{"label": "cat"}'), ("b.json", b'{"label": 12}'), ("b.txt", b"said"), ("only.txt", b"no image")]
    data = open_shards(write_tar(tmp_path / "x.tar", files))
    assert data.images.keys[:] == ["x.tar/a.JPG", "x.tar/b.png"]
    assert [data.classes[label] for label in data.labels] == ["owl", "12"]


def test_an_image_without_a_label_is_named(tmp_path):
    for number, files in enumerate([[("b.png", png(1))], [("b.png", png(1)), ("b.json", b'{"x": 1}'), ("b.cls", b" ")]]):
        with pytest.raises(ValueError, match=rf"^b\.png in the shard .*{number}\.tar has no label"):
            open_shards(write_tar(tmp_path / f"{number}.tar", files), tolerate=True)


def test_braces_a_folder_and_one_tar(tmp_path):
    root = shards(tmp_path / "data")
    whole = open_shards(root)
    assert red(whole) == list(range(18))
    assert whole.images.keys[7] == "000001.tar/000007.png"
    assert open_shards(f"{root}/{{000000..000002}}.tar").images.keys[:] == whole.images.keys[:]
    assert red(open_shards(f"{root}/{{000002,000000}}.tar")) == [*range(12, 18), *range(6)]
    assert red(open_shards(root / "000001.tar")) == list(range(6, 12))


def test_braces_are_a_shells():
    assert expanded("a{8..10}b{x,y}.tar") == ["a8bx.tar", "a8by.tar", "a9bx.tar", "a9by.tar", "a10bx.tar", "a10by.tar"]
    assert expanded("{008..010}") == ["008", "009", "010"]
    for wrong in ("{1..", "{3..1}", "{a}", "a}", "{0..9999999}", "{0..999}{0..9999}"):
        with pytest.raises(ValueError, match=r"brace|counts down|neither|more than|the most"):
            expanded(wrong)


def test_splits_by_folder_and_by_name(tmp_path):
    for where in ("folders/train/0.tar", "folders/valid/0.tar", "names/train-000.tar", "names/val-000.tar"):
        numbers = range(6) if "train" in where else range(6, 9)
        write_tar(tmp_path / where, samples(numbers))
    for address in (tmp_path / "folders", f"{tmp_path}/folders/{{train,valid}}/0.tar", tmp_path / "names"):
        data = open_shards(address)
        assert {split: indices.tolist() for split, indices in data.splits.items()} == {
            "train": [*range(6)],
            "val": [6, 7, 8],
        }
        assert divide(data, 0.1, 0).val_name == "val"
    write_tar(tmp_path / "names" / "more-000.tar", samples([9]))
    with pytest.raises(ValueError, match=r"names/more-000\.tar is of no split, and others are of train"):
        open_shards(tmp_path / "names")


def test_what_a_shards_name_says():
    said = ["train-0.tar", "Validation_000.tar", "test0001.tar", "imagenet1k-train-0000.tar", "set-val-01-of-64.tar",
            "000.tar", "trainee-0.tar", "a-test-set.tar", "train/0.tar", "TEST/train-0.tar"]  # fmt: skip
    assert [split_of(name) for name in said] == ["train", "val", "test", "train", "val", "", "", "", "train", "test"]


def test_which_addresses_mean_shards(tmp_path):
    shards(tmp_path / "data")
    write_tar(tmp_path / "splits/train/0.tar", samples([0]))
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    shards(tmp_path / "photos", 1)
    for address in (tmp_path / "data", tmp_path / "splits", "a/{0..3}.tar", "s3://b/c", "x.tar"):
        assert names_shards(address), address
    for address in (tmp_path / "photos", tmp_path, "digits", tmp_path / "no", "a.csv"):
        assert not names_shards(address), address


def test_the_index_is_made_once_and_again_when_a_shard_changes(tmp_path, cache, monkeypatch):
    root = shards(tmp_path / "data")
    first = open_shards(root)
    (kept,) = cache.iterdir()
    with monkeypatch.context() as patched:
        patched.setattr("resnets.data.shards.scan.scanned", None)  # it may not be called
        again = open_shards(root)
    assert again.images.keys[:] == first.images.keys[:]
    assert (again.labels == first.labels).all() and red(again) == red(first)
    write_tar(root / "000001.tar", samples(range(50, 53)))
    assert red(open_shards(root)) == [*range(6), 50, 51, 52, *range(12, 18)]
    kept.write_bytes(kept.read_bytes()[:100])
    write_tar(root / "000001.tar", samples(range(6, 12)))
    assert red(open_shards(root)) == list(range(18))


def test_an_index_that_was_damaged_is_made_anew(tmp_path, cache):
    root = shards(tmp_path / "data")
    open_shards(root)
    (kept,) = cache.iterdir()
    for damaged in (kept.read_bytes()[:100], b"", b"PK"):
        kept.write_bytes(damaged)
        assert len(open_shards(root)) == 18


def test_a_cache_that_cant_be_written_is_said(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("RESNETS_CACHE", str(tmp_path / "file"))
    assert len(open_shards(shards(tmp_path / "data"))) == 18
    assert "can't be kept" in caplog.text


def broken(path):
    """Each way in which a shard can be damaged: its bytes, and what is said."""
    data = path.read_bytes()
    yield data[:700], "is cut off"  # within an image
    yield data[:1024], "is cut off"  # before a header
    yield data[:1200], "is cut off"  # within a header
    yield b"", "is cut off"
    yield data[:1024] + b"x" + data[1025:], "is no tar file, or damaged: there is no header at byte 1,024"
    yield b"\x1f\x8b" + bytes(2000), "is no tar file"
    yield None, "is missing"


@pytest.mark.parametrize("way", range(7))
def test_a_damaged_shard_is_named_or_left_out(tmp_path, caplog, way):
    root = shards(tmp_path / "data")
    content, said = list(broken(root / "000001.tar"))[way]
    (root / "000001.tar").unlink()
    if content is not None:
        (root / "000001.tar").write_bytes(content)
    address = f"{root}/{{000000..000002}}.tar"
    with pytest.raises(ValueError, match=f"^the shard {root}/000001.tar {said}"):
        open_shards(address)
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            data = open_shards(address, tolerate=True)
        assert red(data) == [*range(6), *range(12, 18)]
        assert data.images.keys[6] == "000002.tar/000012.png"
        (warning,) = caplog.messages
        assert warning.startswith("1 of 3 shards") and f"000001.tar {said}" in warning


def test_the_same_name_twice_in_a_shard_is_damage(tmp_path):
    with pytest.raises(ValueError, match=r"x\.tar holds 000001\.png twice"):
        open_shards(write_tar(tmp_path / "x.tar", [*samples([1]), *samples([1])]))


def test_nothing_there_is_said(tmp_path):
    (tmp_path / "empty").mkdir()
    write_tar(tmp_path / "none.tar", [])
    said = {"empty": r"no \.tar file in", "none.tar": "hold no image", "no": "no shards at", "{0..1}": "no shards at",
            "{0,0}.tar": "twice", "{0,1}.tar": r"/0\.tar is missing"}  # fmt: skip
    for address, why in said.items():
        with pytest.raises(ValueError, match=why):
            open_shards(tmp_path / address)
    with pytest.raises(ValueError, match="hold no image"):
        open_shards(f"{tmp_path}/{{0,1}}.tar", tolerate=True)


def test_a_shard_that_shrinks_or_goes_while_it_is_read_stops_the_work(tmp_path):
    root = shards(tmp_path / "data")
    data, other = open_shards(root), open_shards(root)
    content = (root / "000000.tar").read_bytes()
    (root / "000000.tar").write_bytes(content[:520])
    with pytest.raises(WorkFailed, match=r"000000\.tar has become shorter"):
        data.images.read(0)
    (root / "000001.tar").unlink()
    with pytest.raises(WorkFailed, match=r"000001\.tar can't be read any more"):
        other.images.read(6)


def test_more_shards_than_files_are_held_open(tmp_path, monkeypatch):
    monkeypatch.setattr("resnets.data.shards.places.KEPT", 2)
    data = open_shards(shards(tmp_path / "data", 6, 2))
    assert [red(data) for _ in range(2)] == [list(range(12))] * 2
    assert len(data.images.places[0].files.held) == 2


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for number in range(40):
        path = root / ("ant", "bee", "cat")[number % 3] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (24, 30, 3), np.uint8)).save(path)
    return root


def test_a_loader_gives_the_batches_that_the_folder_gives(tmp_path, photos):
    files = open_dataset(photos)
    pack(files, tmp_path / "out", size=0, shards=3)
    data = open_shards(tmp_path / "out")
    origins = read_sidecar(f"{tmp_path}/out/").origins()
    keys = {key: index for index, key in enumerate(files.images.keys)}
    same = np.array([keys[origins[index]] for index in range(len(data))])
    assert (files.labels[same] == data.labels).all() and files.classes == data.classes

    def batches(images, indices, labels, **how):
        loader = Loader(Samples(images, indices, labels), HOW, 8, augmentation=Augmentation(), seed=3, workers=2, **how)
        return list(loader.batches(1))

    ours = batches(data.images, data.indices(), data.labels)
    theirs = batches(files.images, same, files.labels[same])
    assert len(ours) == 5
    for one, other in zip(ours, theirs, strict=True):
        assert (one.images == other.images).all() and (one.samples == other.samples).all()
    parts = [batches(data.images, data.indices(), data.labels, part=(rank, 2)) for rank in range(2)]
    for whole, *two in zip(ours, *parts, strict=True):
        assert (np.concatenate([part.images for part in two]) == whole.images).all()
        assert (np.concatenate([part.samples for part in two]) == whole.samples).all()
    resumed = Loader(Samples(data.images, data.indices(), data.labels), HOW, 8, augmentation=Augmentation(), seed=3)
    (last,) = resumed.batches(1, start=4)
    assert (last.images == ours[4].images).all()


def test_a_million_images_are_described_in_sixty_megabytes(tmp_path):
    count = 1_000_000
    names = Names.of(b"%09d.jpg" % number for number in range(count))
    shard = np.repeat(np.arange(500, dtype=np.int32), count // 500)
    made = Index(shard, np.arange(count) * 25_000, np.full(count, 20_000, np.uint32), shard % 7, names, tuple("abcdefg"))
    with (tmp_path / "index.npz").open("wb") as file:
        save(file, made)
    del made, names
    tracemalloc.start()
    try:
        with (tmp_path / "index.npz").open("rb") as file:
            index = load(file)
        images = ShardImages([], [f"{number:06}.tar" for number in range(500)], index)
        assert tracemalloc.get_traced_memory()[0] < 60e6
    finally:
        tracemalloc.stop()
    assert images.keys[-1] == "000499.tar/000999999.jpg" and len(images.keys) == count
    assert images.keys[1_999:2_001] == ["000000.tar/000001999.jpg", "000001.tar/000002000.jpg"]
    assert len(index.of_shards([7, 3]).shard) == 4_000
    with pytest.raises(IndexError):
        images.keys[count]


def test_shards_are_read_at_a_server_by_ranges(tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "PAUSE", 0.001)
    shards(tmp_path / "foreign")
    with serving(tmp_path) as (url, server):
        data = open_shards(f"{url}/foreign/{{000000..000002}}.tar")
        assert red(data) == list(range(18))
        assert data.images.keys[7] == "000001.tar/000007.png"
        server.asked.clear()
        again = open_shards(f"{url}/foreign/{{000000..000002}}.tar")
        again.images.read(9)
        ranges = [wanted for path, wanted in server.asked if path.endswith("tar")]
        assert sorted(ranges[:3]) == ["bytes=0-0"] * 3 and len(ranges) == 4  # the index was kept; one image, one range
        server.failing = 2
        assert again.images.read(9)[0, 0, 0] == 9
        assert red(open_shards(f"{url}/moved/foreign/000001.tar")) == list(range(6, 12))
        with pytest.raises(ValueError, match=r"the shard http://.*/foreign/000003\.tar is missing: the server answers 404"):
            open_shards(f"{url}/foreign/{{000002..000003}}.tar")
        assert len(open_shards(f"{url}/foreign/{{000002..000003}}.tar", tolerate=True)) == 6


def test_what_pack_wrote_is_opened_at_a_server_by_its_index(tmp_path, photos, monkeypatch):
    pack(photos, tmp_path / "out", shards=2)
    monkeypatch.setattr("resnets.data.shards.scan.scanned", None)
    here = open_shards(tmp_path / "out")
    with serving(tmp_path) as (url, _):
        there = open_shards(f"{url}/out")
        assert there.images.keys[:] == here.images.keys[:] and (there.labels == here.labels).all()
        assert [there.images.encoded(index) for index in range(40)] == [here.images.encoded(index) for index in range(40)]
        assert there.fingerprint(there.indices()) == here.fingerprint(here.indices())
        assert open_shards(f"{url}/out/{{000001..000001}}.tar").classes == ("ant", "bee", "cat")
        with pytest.raises(ValueError, match=r"no index\.json of resnets in"):
            open_shards(f"{url}/nothing/")


def test_a_server_without_ranges_is_refused_with_the_remedy(tmp_path):
    shards(tmp_path)
    with serving(tmp_path, ranges=False) as (url, _), pytest.raises(ValueError, match=r"gives whole files alone.*download"):
        open_shards(f"{url}/000000.tar", tolerate=True)


def test_a_server_that_fails_is_work_that_failed(tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "PAUSE", 0.001)
    shards(tmp_path)
    with serving(tmp_path) as (url, server):
        data = open_shards(f"{url}/000000.tar")
        server.failing = 99
        with pytest.raises(WorkFailed, match=r"000000\.tar can't be read: it answers 503 \(4 attempts\)"):
            data.images.read(0)
    with pytest.raises(WorkFailed, match="can't be read"):
        data.images.read(0)


def test_any_storage_of_fsspec(tmp_path, monkeypatch):
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory")
    for number in range(2):
        path = write_tar(tmp_path / f"{number}.tar", samples(range(4 * number, 4 * number + 4)))
        files.pipe_file(f"/shelf/{number}.tar", path.read_bytes())
    assert red(open_shards("memory://shelf/{0..1}.tar")) == list(range(8))
    with pytest.raises(ValueError, match=r"memory://shelf/2\.tar is missing"):
        open_shards("memory://shelf/{0..2}.tar")
    with pytest.raises(ValueError, match="storage"):
        open_shards("nowhere://shelf/0.tar")
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    with pytest.raises(MissingExtra, match=r'reading s3://a/.* needs .*pip install "resnets\[remote\]"'):
        open_shards("s3://a/0.tar")


def test_an_index_of_a_newer_format_is_refused(tmp_path, photos):
    pack(photos, tmp_path / "out", shards=2)
    path = tmp_path / "out" / "index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "resnets_shards": 2}))
    with pytest.raises(ValueError, match="has the format 2"):
        open_shards(tmp_path / "out")
