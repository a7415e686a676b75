"""Data of millions of images: manifests that stay columns, listings of folders that are kept."""

import hashlib
import io
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest

from resnets.data import columns
from resnets.data.columns import Strings, coded, lines, places, some, strings
from resnets.data.dataset import Dataset, FileImages, held_out
from resnets.data.order import order, uniform
from resnets.data.sources import folder as folders
from resnets.data.sources import index, open_dataset
from resnets.training.options import Options
from resnets.training.plan import _excluded, divide

# Strings


@pytest.fixture
def words(monkeypatch):
    """Strings in several chunks, of which a block holds 7, and the same as a list."""
    monkeypatch.setattr(columns, "BLOCK", 7)
    plain = [f"x/ä{number}" for number in range(50)]
    chunks = [plain[:3], [], plain[3:30], plain[30:]]
    return Strings(pa.chunked_array([pa.array(chunk, pa.string()) for chunk in chunks])), plain


def test_strings_are_a_sequence(words):
    column, plain = words
    assert len(column) == 50 and list(column) == plain == column and column != plain[1:]
    assert [column[place] for place in range(-50, 50)] == plain + plain
    for what in (slice(None), slice(2, 40, 3), slice(None, None, -1), slice(60, 70), slice(-5, None)):
        assert list(column[what]) == plain[what]
    with pytest.raises(IndexError):
        column[50]


def test_some_strings_in_an_order_of_their_own(words):
    column, plain = words
    rows = np.random.default_rng(0).integers(0, 50, 40)
    taken = some(column, rows)
    assert list(taken) == [plain[row] for row in rows] == some(plain, rows)
    assert list(some(taken, np.array([5, 0, 5]))) == [plain[rows[5]], plain[rows[0]], plain[rows[5]]]
    assert list(taken[3:20:4]) == [plain[row] for row in rows[3:20:4]] and taken[-1] == plain[rows[-1]]
    assert [len(block) for block in taken.blocks()] == [7, 7, 7, 7, 7, 5]


def test_names_that_are_no_utf_8_stay_themselves(tmp_path):
    odd = os.fsdecode(b"a/\xff.png")
    assert list(Strings(strings([odd, "a/b.png"]))) == [odd, "a/b.png"]
    (tmp_path / "a").mkdir()
    (tmp_path / odd).write_bytes(b"12345")
    data = open_dataset(tmp_path)
    assert data.images.keys[0] == odd and data.images.encoded(0) == b"12345"
    assert len(data.fingerprint(data.indices())) == 64


def test_the_places_of_strings(words):
    column, plain = words
    names = strings(["none", plain[40], plain[2]])
    for keys in (column, plain, tuple(plain)):
        found = places(keys, names)
        assert found[40] == 1 and found[2] == 2 and (np.delete(found, [2, 40]) == -1).all()
    assert places(some(column, np.array([2, 3])), names).tolist() == [2, -1]


def test_codes_of_a_column_in_chunks():
    chunks = [pa.array(["b", None, "a"]), pa.array(["c", "b"])]
    for column in (pa.chunked_array(chunks), pa.chunked_array([chunk.dictionary_encode() for chunk in chunks])):
        found = coded(column)
        assert [found.names[code] if code >= 0 else None for code in found.codes] == ["b", None, "a", "c", "b"]
    nulls = pa.DictionaryArray.from_arrays(pa.array([1, 0, 2]), pa.array(["x", None, "y"]))
    found = coded(pa.chunked_array([nulls]))
    assert found.codes.tolist()[0] == -1 and [found.names[code] for code in found.codes[1:]] == ["x", "y"]


@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_held_out_is_the_same_of_a_column(words, fraction):
    column, plain = words
    expected = held_out(plain, fraction, 7)
    assert held_out(column, fraction, 7).tolist() == expected.tolist()
    rows = np.arange(49, 0, -2)
    assert held_out(some(column, rows), fraction, 7).tolist() == expected[rows].tolist()
    assert fraction not in (0, 1) or (expected == bool(fraction)).all()


def test_an_epochs_order_is_drawn_in_parts(monkeypatch):
    whole = np.argsort(uniform(3, 5, np.arange(1000), 1)[:, 0], kind="stable")
    monkeypatch.setattr("resnets.data.order.AT_ONCE", 64)
    assert (order(3, 5, 1000) == whole).all()


def test_a_fingerprint_is_taken_in_blocks(words, monkeypatch, tmp_path):
    column, plain = words
    labels = np.arange(50) % 2
    rows = np.array([44, 3, 7, 6, 7])
    data = Dataset("x", FileImages(tmp_path, column), ("a", "ß"), labels)
    whole = "".join(f"{plain[row]}\t{data.classes[labels[row]]}\t-1\n" for row in sorted(set(rows.tolist())))
    assert data.fingerprint(rows) == hashlib.sha256(whole.encode()).hexdigest()


# Manifests


def listed(path, rows, **more):
    """A manifest of so many rows, in parts so that this process stays small too."""
    writer = None
    for start in range(0, rows, 500_000):
        numbers = range(start, min(rows, start + 500_000))
        names = [f"n0144{number % 1000:04}" for number in numbers]
        paths = [f"train/{name}/{name}_{number:08}.JPEG" for name, number in zip(names, numbers, strict=True)]
        table = pa.table({"path": paths, "label": names, **{key: value(numbers) for key, value in more.items()}})
        writer = writer or (pc.CSVWriter if path.suffix == ".csv" else pq.ParquetWriter)(path, table.schema)
        writer.write_table(table)
    writer.close()
    return path


MEASURE = """
import sys
import contextlib, numpy, pyarrow.compute, pyarrow.csv, pyarrow.parquet
with contextlib.suppress(ImportError):
    import pandas  # which pyarrow imports where it is there
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024
from resnets.data import divide, open_dataset
from resnets.data.augmentation import Augmentation
from resnets.data.loader import Loader, Samples
from resnets.data.preprocessing import Preprocessing
before, objects = peak(), sys.getallocatedblocks()
data = open_dataset(sys.argv[1])
division = divide(data, 0.1, 0)
samples = Samples(data.images, division.train, data.labels_as(data.classes)[division.train])
loader = Loader(samples, Preprocessing(), 256, augmentation=Augmentation(crop="resized"), seed=1)
order = loader._sequence(0)
print(len(data), len(data.classes), len(division.train) + len(division.val), len(order.samples))
print(peak() - before, sys.getallocatedblocks() - objects)
"""


def measured(path):
    """Images, classes, divided images, images of an epoch; the most bytes that opening, dividing and ordering took, and the
    Python objects that are left."""
    found = subprocess.run([sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True)
    return [int(word) for word in found.stdout.split()]


linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="measures memory as Linux tells it")


@linux
@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_manifest_takes_little_memory(tmp_path, name):
    images, classes, divided, shown, taken, objects = measured(listed(tmp_path / name, 200_000))
    assert (images, classes, divided) == (200_000, 1000, 200_000)
    assert 178_000 < shown < 182_000 and shown % 256 == 0
    assert objects < 20_000  # most of them of modules; a string a row would be 200,000
    assert taken < 90 * 2**20  # most of it Arrow's threads and blocks, however few the rows


@linux
@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_ten_million_rows_stay_under_a_gibibyte(tmp_path, name):
    images, _, divided, shown, taken, _ = measured(listed(tmp_path / name, 10_000_000))
    assert images == divided == 10_000_000 and shown > 8_990_000
    assert taken < 2**30


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_long_manifest_says_what_its_rows_say(tmp_path, name):
    def split(numbers):
        return [("train", "Val", "test", "train")[number % 4] for number in numbers]

    data = open_dataset(listed(tmp_path / name, 120_000, split=split))
    assert data.classes == tuple(f"n0144{number:04}" for number in range(1000))
    assert (data.labels == np.arange(120_000) % 1000).all() and data.labels.dtype == np.int64
    assert list(data.splits) == ["train", "val", "test"] and data.splits["test"].tolist() == list(range(2, 120_000, 4))
    assert (data.splits["train"] == np.flatnonzero(np.arange(120_000) % 4 % 3 == 0)).all()
    assert data.images.keys[119_999] == "train/n01440999/n01440999_00119999.JPEG"
    plain = FileImages(tmp_path, list(data.images.keys))
    assert plain.keys == [f"train/n0144{n % 1000:04}/n0144{n % 1000:04}_{n:08}.JPEG" for n in range(120_000)]


def test_a_row_far_down_is_named(tmp_path):
    path = tmp_path / "a.csv"
    rows = [f"{number}.png,a" for number in range(150_000)]
    rows[123_456] = "x.png,"
    path.write_text("path,label\n" + "\n".join(rows))
    with pytest.raises(ValueError, match="row 123457 has no label"):
        open_dataset(path)


def test_parquet_that_is_no_utf_8_is_refused(tmp_path):
    broken = pa.array([b"a\xff.png"]).view(pa.string())
    pq.write_table(pa.table({"path": broken, "label": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"a\.parquet can't be read"):
        open_dataset(tmp_path / "a.parquet")


# What is left out


def test_many_paths_are_left_out_and_unknown_ones_said(tmp_path, caplog):
    data = open_dataset(listed(tmp_path / "a.parquet", 100_000))
    division = divide(data, 0.1, 0)
    gone = [data.images.keys[row] for row in range(0, 100_000, 2)]
    (tmp_path / "out.txt").write_text("\n".join([gone[0], "b/none.png", "", *gone, "also/none.png \r", "b/none.png"]))
    with caplog.at_level(logging.WARNING, "resnets"):
        left = _excluded(data, division, str(tmp_path / "out.txt"))
    assert (left.train == division.train[division.train % 2 == 1]).all() and len(left.train)
    assert (left.val == division.val[division.val % 2 == 1]).all() and len(left.val)
    assert "2 of the 50002 paths in" in caplog.text and caplog.text.rstrip().endswith("the first: b/none.png")
    caplog.clear()
    (tmp_path / "out.txt").write_text(gone[0])
    one = _excluded(data, division, str(tmp_path / "out.txt"))
    assert len(one.train) + len(one.val) == 99_999 and 0 not in {*one.train[:1], *one.val[:1]}
    assert not caplog.text


def test_an_empty_list_leaves_all(tmp_path):
    (tmp_path / "out.txt").write_text("\n \n")
    data = open_dataset("digits")
    division = divide(data, 0.1, 0)
    assert (_excluded(data, division, str(tmp_path / "out.txt")).train == division.train).all()
    with pytest.raises(ValueError, match="there is no file"):
        _excluded(data, division, str(tmp_path / "none.txt"))
    assert Options.parse("digits", {"exclude": tmp_path / "out.txt"}).exclude == str(tmp_path / "out.txt")


def test_lines_are_what_a_file_says(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffä/1.png\r\nb c.png  \n\nä/1.png\n".encode() + b"\xff.png")
    assert lines(tmp_path / "a.txt").to_pylist() == ["ä/1.png".encode(), b"b c.png", b"\xff.png"]


# Listings of folders


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A folder that was last changed long ago, as far as its listing is concerned, with an empty cache."""
    monkeypatch.setenv("RESNETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(index, "LEAST", 4)
    monkeypatch.setattr(index, "GRAIN", -(10**12))
    for path in (
        "train/a/1.png",
        "train/a/10.png",
        "train/a/2.jpg",
        "train/b/deep/er/1.png",
        "test/a/3.png",
        "test/b/4.png",
    ):
        (tmp_path / "tree" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / path).write_bytes(b"x")
    (tmp_path / "tree" / "train" / "none").mkdir()
    time.sleep(0.02)  # the kernel's clock for files ticks every few milliseconds
    return tmp_path / "tree"


def said(data):
    splits = {name: indices.tolist() for name, indices in data.splits.items()}
    return data.name, list(data.images.keys), data.classes, data.labels.tolist(), splits, data.empty, data.images.root


def fresh(tree, monkeypatch):
    """What the folder is without a kept listing."""
    with monkeypatch.context() as patch:
        patch.setattr(index, "kept", lambda _: None)
        patch.setattr(index, "keep", lambda *_: None)
        return said(open_dataset(tree))


@pytest.fixture
def scans(monkeypatch):
    """How often a folder was listed: as many entries."""
    done, scan = [], folders.scan
    monkeypatch.setattr(folders, "scan", lambda root: done.append(root) or scan(root))
    return done


def test_a_kept_listing_is_the_scan(tree, monkeypatch, scans):
    expected = fresh(tree, monkeypatch)
    scans.clear()
    for _ in range(3):
        data = open_dataset(tree)
        assert said(data) == expected and data.labels.dtype == np.int64
    assert len(scans) == 1
    assert expected[5] == {"train": ("none",)} and expected[1][2:5] == ["train/a/1.png", "train/a/2.jpg", "train/a/10.png"]


CHANGES = {
    "a file more": lambda tree: (tree / "train" / "b" / "deep" / "er" / "2.png").write_bytes(b"x"),
    "a file less": lambda tree: (tree / "test" / "a" / "3.png").unlink(),
    "a file renamed": lambda tree: (tree / "train" / "a" / "1.png").rename(tree / "train" / "a" / "7.png"),
    "a file moved": lambda tree: (tree / "train" / "a" / "1.png").rename(tree / "test" / "a" / "1.png"),
    "a class more": lambda tree: (tree / "train" / "c").mkdir(),
    "a class filled": lambda tree: (tree / "train" / "none" / "1.png").write_bytes(b"x"),
    "a class renamed": lambda tree: (tree / "train" / "b").rename(tree / "train" / "z"),
    "a split more": lambda tree: (
        (tree / "val" / "a").mkdir(parents=True),
        (tree / "val" / "a" / "5.png").write_bytes(b"x"),
    ),
    "a split renamed": lambda tree: (tree / "test").rename(tree / "val"),
    "a folder between": lambda tree: (tree / "train" / "b" / "deep").rename(tree / "train" / "b" / "deeper"),
    "a folder for another": lambda tree: (
        (tree / "train" / "a").rename(tree.parent / "away"),
        (tree / "train" / "b").rename(tree / "train" / "a"),
        (tree.parent / "away").rename(tree / "train" / "b"),
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_is_noticed(tree, monkeypatch, scans, change):
    before = said(open_dataset(tree))
    change(tree)
    after = fresh(tree, monkeypatch)
    scans.clear()
    assert said(open_dataset(tree)) == after != before
    assert said(open_dataset(tree)) == after
    assert len(scans) == 1


def test_a_change_is_noticed_though_the_folders_time_is_set_back(tree):
    open_dataset(tree)
    place = tree / "train" / "a"
    times = place.stat()
    (place / "new.png").write_bytes(b"x")
    os.utime(place, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert "train/a/new.png" in list(open_dataset(tree).images.keys)


def test_a_folder_that_has_just_changed_is_not_trusted(tree, monkeypatch, scans):
    monkeypatch.setattr(index, "GRAIN", 2_000_000_000)
    for _ in range(2):
        open_dataset(tree)
    assert len(scans) == 2 and not index.place_of(tree).exists()
    now = time.time_ns()
    monkeypatch.setattr(folders.time, "time_ns", lambda: now + 3_000_000_000)  # long after
    for _ in range(2):
        open_dataset(tree)
    assert len(scans) == 3 and index.place_of(tree).exists()


def test_few_images_are_not_kept(tree, monkeypatch, scans):
    monkeypatch.setattr(index, "LEAST", 7)
    for _ in range(2):
        open_dataset(tree)
    assert len(scans) == 2 and not index.place_of(tree).exists()


@pytest.mark.parametrize("damage", [lambda x: x[:-9], lambda x: x[:200] + b"?" + x[201:], lambda x: b"", lambda x: b"?" + x])
def test_a_damaged_listing_is_said_and_made_again(tree, monkeypatch, caplog, damage):
    open_dataset(tree)
    kept = index.place_of(tree)
    kept.write_bytes(damage(kept.read_bytes()))
    assert said(open_dataset(tree)) == fresh(tree, monkeypatch)
    assert "is damaged and made again" in caplog.text and str(kept) in caplog.text
    caplog.clear()
    open_dataset(tree)
    assert not caplog.text


def test_folders_of_the_same_name_have_listings_of_their_own(tree):
    other = tree.parent / "elsewhere" / "tree"
    (other / "a").mkdir(parents=True)
    for number in range(5):
        (other / "a" / f"{number}.png").touch()
    assert [len(open_dataset(place)) for place in (tree, other, tree, other)] == [6, 5, 6, 5]
    (tree.parent / "link").symlink_to(other)
    assert open_dataset(tree.parent / "link").name == "tree" and len(list(index.place_of(tree).parent.iterdir())) == 2


def test_without_a_place_to_keep_it_a_folder_still_opens(tree, monkeypatch):
    (tree.parent / "file").touch()
    monkeypatch.setenv("RESNETS_CACHE", str(tree.parent / "file"))
    assert len(open_dataset(tree)) == 6


def test_a_link_that_leads_in_a_circle_hides_nothing(tree):
    (tree / "train" / "a" / "0.png").symlink_to("0.png")
    (tree / "train" / "round").symlink_to("round")
    assert [key for key in open_dataset(tree).images.keys if key.startswith("train/a/")] == [
        "train/a/0.png", "train/a/1.png", "train/a/2.jpg", "train/a/10.png"
    ]  # fmt: skip


class Terminal(io.StringIO):
    def __init__(self, there):
        super().__init__()
        self.there = there

    def isatty(self):
        return self.there


@pytest.mark.parametrize(("there", "after", "shown"), [(True, 0, True), (False, 0, False), (True, 60, False)])
def test_what_takes_long_is_counted_on_a_terminal(tree, monkeypatch, there, after, shown):
    monkeypatch.setattr("resnets.data.progress.AFTER", after)
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal(there)
    monkeypatch.setattr(sys, "stderr", terminal)
    open_dataset(tree)
    assert ("listing tree" in terminal.getvalue()) == shown
    assert shown or not terminal.getvalue()


def test_links_to_class_folders_are_classes_and_links_deeper_are_not(tree, monkeypatch):
    (tree / "train" / "linked").symlink_to(tree / "test" / "b")
    (tree / "train" / "a" / "inner").symlink_to(tree / "test" / "b")
    data = open_dataset(tree)
    assert said(open_dataset(tree)) == said(data) == fresh(tree, monkeypatch)
    assert [key for key in data.images.keys if "linked" in key or "inner" in key] == ["train/linked/4.png"]
    (tree / "test" / "b" / "9.png").touch()
    assert "train/linked/9.png" in list(open_dataset(tree).images.keys)
