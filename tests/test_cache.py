"""Decoded images on disk: the same pixels, kept whole or not at all, within their room."""

import errno
import gc
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnets.data import cache
from resnets.data.cache import CachedImages
from resnets.data.dataset import ArrayImages, FileImages
from resnets.data.decode import UnreadableImage

COUNT = 12


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """The cache folder."""
    monkeypatch.setenv("RESNETS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "decoded"


@pytest.fixture
def files(tmp_path):
    """JPEG files of several sizes, the last one broken."""
    generator = np.random.default_rng(0)
    for number in range(COUNT):
        shape = (40 + 7 * number, 300 - 9 * number, 3)
        Image.fromarray(generator.integers(0, 256, shape, np.uint8)).save(tmp_path / f"{number}.jpg")
    (tmp_path / f"{COUNT - 1}.jpg").write_bytes(b"\xff\xd8\xffno")
    return FileImages(tmp_path, [f"{number}.jpg" for number in range(COUNT)])


class Counted(FileImages):
    """Files that count how often one is decoded."""

    def __init__(self, files):
        super().__init__(files.root, files.keys)
        self.decoded = []

    def read(self, index, grey=False, least=0):
        self.decoded.append(index)
        return super().read(index, grey, least)


def all_same(images, files, **how):
    for index in range(COUNT - 1):
        np.testing.assert_array_equal(images.read(index, **how), files.read(index, **how))


@pytest.mark.parametrize("how", [{}, {"grey": True}, {"least": 10}])
def test_each_image_is_decoded_once_also_by_a_later_run(files, how):
    counted = Counted(files)
    images = CachedImages(counted)
    for _ in range(2):
        all_same(images, files, **how)
    assert sorted(counted.decoded) == list(range(COUNT - 1))
    images.close()
    later = Counted(files)
    all_same(CachedImages(later), files, **how)
    assert later.decoded == []


def test_it_stands_for_the_images(files):
    images = CachedImages(files)
    assert images.keys == files.keys
    assert images.encoded(3) == files.encoded(3)
    assert list(images.contents()) == list(files.contents())
    assert not images.read(0).flags.writeable and not images.read(0).flags.writeable  # decoded, and kept
    for _ in range(2):
        with pytest.raises(UnreadableImage):
            images.read(COUNT - 1)


def test_images_that_change_are_decoded_anew(files):
    CachedImages(files).read(2)
    path = files.root / "2.jpg"
    found = path.stat()
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(path)
    os.utime(path, ns=(found.st_mtime_ns, found.st_mtime_ns + 1))
    assert CachedImages(files).read(2).shape == (9, 9, 3)


def test_a_table_without_its_pixels_and_pixels_that_are_others_are_not_believed(files, place):
    images = CachedImages(files)
    all_same(images, files)
    images.close()
    (pixels,) = place.glob("*/00.pixels")
    content = bytearray(pixels.read_bytes())
    assert len(content) == sum(files.read(index).nbytes for index in range(COUNT - 1))
    first = files.read(0).nbytes
    content[first + 5] ^= 1
    pixels.write_bytes(content[: len(content) // 2])
    counted = Counted(files)
    images = CachedImages(counted)
    all_same(images, files)
    assert 1 in counted.decoded and COUNT - 2 in counted.decoded and 0 not in counted.decoded
    images.close()
    again = Counted(files)
    all_same(CachedImages(again), files)
    assert again.decoded == []


def test_no_more_is_kept_than_there_is_room_for(files, place):
    most = sum(files.read(index).nbytes for index in range(3)) + 5
    counted = Counted(files)
    images = CachedImages(counted, most)
    for _ in range(2):
        all_same(images, files)
    assert [counted.decoded.count(index) for index in range(5)] == [1, 1, 1, 2, 2]
    images.close()
    assert sum(path.stat().st_size for path in place.glob("*/*.pixels")) <= most


def test_processes_that_begin_together_share_the_room(files):
    whole, quarter = CachedImages(files), CachedImages(files, sharing=4)
    for images in (whole, quarter):
        images.read(0)
    most = [store.most for images in (whole, quarter) for store in images._stores.values()]
    assert most[1] == pytest.approx(most[0] / 4, rel=0.01)
    whole.close()
    quarter.close()


def test_two_that_train_at_once_write_files_of_their_own(files, place):
    one, two = CachedImages(files), CachedImages(files)
    for index in range(0, COUNT - 1, 2):
        np.testing.assert_array_equal(one.read(index), files.read(index))
    for index in range(1, COUNT - 1, 2):
        np.testing.assert_array_equal(two.read(index), files.read(index))
    one.close()
    two.close()
    assert sorted(path.name for path in place.glob("*/*.pixels")) == ["00.pixels", "01.pixels"]
    counted = Counted(files)
    all_same(CachedImages(counted), files)
    assert counted.decoded == []


def test_threads_read_the_same(files):
    images, found = CachedImages(files), []

    def reading():
        found.append([images.read(index) for index in range(COUNT - 1)])

    threads = [threading.Thread(target=reading) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for each in found:
        for index, image in enumerate(each):
            np.testing.assert_array_equal(image, files.read(index))


def test_a_full_disk_is_said_once_and_costs_nothing_else(files, monkeypatch, caplog):
    def full(*given):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    caplog.set_level(logging.WARNING, "resnets")
    images = CachedImages(files)
    images.read(0)
    monkeypatch.setattr(cache.os, "pwrite", full)
    for _ in range(2):
        all_same(images, files)
    assert caplog.text.count("aren't kept any more") == 1
    assert "No space left" in caplog.text


def test_a_folder_that_cannot_be_written_is_said_once(files, tmp_path, monkeypatch, caplog):
    (tmp_path / "cache").write_text("no folder")
    caplog.set_level(logging.WARNING, "resnets")
    all_same(CachedImages(files), files)
    assert caplog.text.count("aren't kept any more") == 1


def test_a_process_that_is_killed_leaves_whole_images(files, place):
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom resnets.data.cache import CachedImages, Part\n"
        "from resnets.data.dataset import FileImages\n"
        f"images = CachedImages(FileImages(Path({str(files.root)!r}), {files.keys!r}))\n"
        "for index in range(4): images.read(index)\n"
        "real = os.pwrite\n"
        "def half(fd, data, offset):\n"
        "    real(fd, data[: len(data) // 2], offset)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "os.pwrite = half\n"
        "images.read(4)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    counted = Counted(files)
    images = CachedImages(counted)
    all_same(images, files)
    assert sorted(counted.decoded) == list(range(4, COUNT - 1))
    images.close()
    (pixels,) = place.glob("*/*.pixels")
    assert pixels.stat().st_size == sum(files.read(index).nbytes for index in range(COUNT - 1))


def test_files_are_given_back_when_nobody_holds_the_images(files):
    before = set(Path("/proc/self/fd").iterdir()) if Path("/proc/self/fd").exists() else pytest.skip("no /proc")
    images = CachedImages(files)
    images.read(0)
    del images
    gc.collect()
    assert len(set(Path("/proc/self/fd").iterdir())) <= len(before)


def test_what_was_used_longest_ago_makes_room(files, place, monkeypatch):
    images = CachedImages(files)
    all_same(images, files)
    images.close()
    (old,) = place.iterdir()
    monkeypatch.setattr(cache, "ALL", 0.0)
    arrays = ArrayImages(np.zeros((3, 8, 8), np.uint8), ["a", "b", "c"])
    CachedImages(arrays).read(1)
    assert not old.exists()
    assert len(list(place.iterdir())) == 1


def test_the_room_is_a_share_of_memory_and_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(cache.machine, "memory", lambda: 1000)
    assert cache.by_rule(tmp_path) == 250
    monkeypatch.setattr(cache.machine, "memory", lambda: 2**80)
    assert cache.by_rule(tmp_path) == pytest.approx(0.25 * cache.shutil.disk_usage(tmp_path).free, rel=0.01)
