"""Two runs, one or four workers, one or two processes, from files, the disk cache or shards: the same batches in order."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnets.data.augmentation import Augmentation
from resnets.data.cache import CachedImages
from resnets.data.loader import Batch, Loader, Samples
from resnets.data.packing import pack
from resnets.data.preprocessing import Preprocessing, resample
from resnets.data.shards import open_shards
from resnets.data.sources import open_dataset

HOW = Preprocessing(size=16, crop=0.8)
SIZES = (16, 12)  # of epochs 0 and 1
PADDED = Augmentation(crop="padded", padding=2)
RESIZED = Augmentation(crop="resized")
EVERYTHING = Augmentation(
    "resized", flip="alternate", lighting=0.1, policy="randaugment", spread=0.5, jitter=(0.4, 0.4, 0.4, 0.1), erasing=0.5,
    repeats=2, balance="sample",
)  # fmt: skip
KINDS = {
    "none": Augmentation(),
    "padded": PADDED,
    "resized": RESIZED,
    "short-side": Augmentation("short-side", short_side=(18, 24)),
    "flip": replace(PADDED, flip=True),
    "alternate": replace(PADDED, flip="alternate"),
    "lighting": replace(RESIZED, lighting=0.1),
    "randaugment": replace(RESIZED, policy="randaugment", spread=0.5),
    "trivialaugment": replace(PADDED, policy="trivialaugment"),
    "jitter": replace(RESIZED, jitter=(0.4, 0.4, 0.4, 0.1)),
    "erasing": replace(PADDED, erasing=0.5),
    "repeats": replace(RESIZED, repeats=2),
    "balance": replace(PADDED, balance="sample"),
    "everything": EVERYTHING,
    "everything, padded": replace(EVERYTHING, crop="padded", padding=2),
    "reflected": replace(PADDED, fill="reflect"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """JPEGs of several sizes in classes of unlike size, some large enough to be decoded at half their size, one broken."""
    root, generator = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for number in range(27):
        path = root / ("ant", "ant", "bee", "ant", "cat")[number % 5] / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        small = generator.integers(0, 256, (5, 6, 3), np.uint8)
        size = (30 + 7 * number, 90 + 3 * number)
        Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(path, quality=90)
    path.write_bytes(path.read_bytes()[:500])
    return root


@pytest.fixture(scope="module")
def packed(folder, tmp_path_factory):
    """The same in three shards."""
    return pack(folder, tmp_path_factory.mktemp("shards") / "out", size=0, shards=3).out


@pytest.fixture
def sources(folder, packed, tmp_path, monkeypatch):
    """The same samples from files, from the disk cache and from shards, without the broken one."""
    monkeypatch.setenv("RESNETS_CACHE", str(tmp_path / "cache"))
    files, shards = open_dataset(folder), open_shards(packed)
    whole = np.array([index for index in range(len(files)) if not files.images.keys[index].endswith("26.jpg")])
    content = {shards.images.encoded(index): index for index in range(len(shards))}
    places = np.array([content[files.images.encoded(index)] for index in whole])
    assert (shards.labels[places] == files.labels[whole]).all()
    return {
        "files": Samples(files.images, whole, files.labels[whole]),
        "cached": Samples(CachedImages(files.images), whole, files.labels[whole]),
        "shards": Samples(shards.images, places, files.labels[whole]),
        "cached shards": Samples(CachedImages(shards.images), places, files.labels[whole]),
    }


def batches(samples, what, resize=resample, **how):
    """Those of both epochs."""
    loader = Loader(samples, HOW, 8, augmentation=what, seed=3, size_of=lambda epoch: SIZES[epoch], **how)
    loader.resize = resize
    return [batch for epoch in range(2) for batch in loader.batches(epoch)]


def together(parts):
    """The batches of all processes, from those of each."""
    return [
        Batch(*(None if fields[0] is None else np.concatenate(fields) for fields in zip(*ranks, strict=True)))
        for ranks in zip(*parts, strict=True)
    ]


def assert_same(found, expected):
    assert len(found) == len(expected) == 2 * (26 // 8)
    for number, (one, other) in enumerate(zip(found, expected, strict=True)):
        for field, ours, theirs in zip(Batch._fields, one, other, strict=True):
            assert (ours is None) == (theirs is None), (number, field)
            assert ours is None or (ours.dtype == theirs.dtype and np.array_equal(ours, theirs)), (number, field)


RESIZING = ("resized", "short-side", "everything", "everything, padded")


@pytest.mark.parametrize(("kind", "by_torch"), [*((kind, False) for kind in KINDS), *((kind, True) for kind in RESIZING)])
def test_whoever_reads_them_from_wherever_batches_are_the_same(sources, kind, by_torch):
    from resnets.training.resizing import resized  # here, for the two processes below read this file

    what, resize = KINDS[kind], resized if by_torch else resample
    expected = batches(sources["files"], what, resize, workers=1)
    assert {batch.images.shape for batch in expected} == {(8, size, size, 3) for size in SIZES}
    for samples in sources.values():
        for workers in (1, 4):  # each another run
            assert_same(batches(samples, what, resize, workers=workers), expected)
        parts = [batches(samples, what, resize, part=(rank, 2), workers=2 - rank) for rank in range(2)]
        assert_same(together(parts), expected)


def test_the_kinds_differ(sources):
    """None of them is another under a second name, so that each is compared."""
    firsts = {kind: batches(sources["files"], what)[0] for kind, what in KINDS.items()}
    shown = {kind: batch.images.tobytes() + repr(batch.lighting).encode() for kind, batch in firsts.items()}
    assert len(set(shown.values())) == len(KINDS)


def test_a_broken_file_leaves_the_others_as_they_are(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("RESNETS_CACHE", str(tmp_path))
    data = open_dataset(folder)
    samples = Samples(data.images, data.indices(), data.labels)
    cached = replace(samples, images=CachedImages(data.images))
    expected = batches(samples, EVERYTHING, workers=1)
    assert sum(len(batch.samples) for batch in expected) < 48
    for given in (samples, cached):
        assert_same(batches(given, EVERYTHING, workers=4), expected)
        assert_same(together([batches(given, EVERYTHING, part=(rank, 2)) for rank in range(2)]), expected)


def test_two_processes_give_the_halves(folder, tmp_path):
    data = open_dataset(folder)
    expected = batches(Samples(data.images, data.indices(), data.labels), EVERYTHING, workers=1)
    code = (
        "import sys\nimport numpy as np\nfrom test_same_batches import *\n"
        "data, rank = open_dataset(sys.argv[1]), int(sys.argv[2])\n"
        "found = batches(Samples(data.images, data.indices(), data.labels), EVERYTHING, part=(rank, 2), workers=1 + rank)\n"
        "every = {f'{n} {name}': array for n, batch in enumerate(found) for name, array in batch._asdict().items()}\n"
        "np.savez(sys.argv[3], **{name: array for name, array in every.items() if array is not None})\n"
    )
    parts = []
    for rank in range(2):
        out = tmp_path / f"{rank}.npz"
        command = [sys.executable, "-c", code, str(folder), str(rank), str(out)]
        subprocess.run(command, check=True, cwd=Path(__file__).parent)
        held = np.load(out)
        parts.append([Batch._make(held.get(f"{n} {field}") for field in Batch._fields) for n in range(len(expected))])
    assert_same(together(parts), expected)
