"""Odd files beside those of test_decode.py: what is read of them, pixel by pixel, by their bytes and by their names."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image, features
from test_decode import JPEG, PHOTO, STORED, apart, encoded

from resnets.data.decode import UnreadableImage, decode, file_bytes
from resnets.data.sources import open_dataset


def inverted(plane):
    return plane.point(lambda level: 255 - level)


def test_a_cmyk_jpeg_of_photoshop_has_the_colours_it_was_made_of():
    cyan, magenta, yellow, key = PHOTO.convert("CMYK").split()
    rotated = Image.merge("RGB", [cyan, magenta, yellow]).convert("YCbCr").split()
    data = encoded(Image.merge("CMYK", [inverted(plane) for plane in (*rotated, inverted(key))]), "JPEG", quality=95)
    transform = data.index(b"Adobe") + 11
    photoshops = data[:transform] + b"\2" + data[transform + 1 :]  # 2: the first three are YCbCr, so "YCCK"
    assert apart(decode(photoshops), PHOTO) < 2
    assert apart(decode(photoshops, grey=True)[..., 0], PHOTO.convert("L")) < 2
    assert apart(decode(data), PHOTO) > 50


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["TIFF", "AVIF"])
def test_an_image_of_a_rarer_kind_stands_upright_too(orientation, kind):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](np.asarray(PHOTO))))
    assert apart(decode(encoded(stored, kind, exif=exif, quality=95)), PHOTO) < 3


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_progressive_jpeg_that_is_cut_off_is_refused_and_not_half_read(share):
    data = encoded(PHOTO, "JPEG", quality=95, progressive=True)
    with pytest.raises(UnreadableImage, match="truncated"):
        decode(data[: int(share * len(data))])


@pytest.mark.parametrize(
    "behind", [b"\0" * 999, JPEG, b"\xff\xd8\xff\xe0", b"\xff\xd9" * 9], ids=["0", "JPEG", "start", "end"]
)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_what_lies_behind_a_jpeg_is_not_looked_at(behind, mode):
    data = encoded(PHOTO.convert(mode).transpose(Image.Transpose.ROTATE_180), "JPEG")
    np.testing.assert_array_equal(decode(data + behind), decode(data))


NAMES = [
    "Größe 写真 📷.png",
    "e\u0301.png",  # é in two letters, and in one: two files
    "\u00e9.png",
    "a b'c\"d%20#?&;$x*[1].png",
    "new\nline\ttab.png",
    " lead and trail .png",
    "-rf.png",
    "UPPER.PNG",
    "many.dots.jpg.png",
    os.fsdecode(b"latin-\xe9.png"),  # no UTF-8
    "n" * 251 + ".png",  # as long as a name can be
    "/".join("d" * 100 for _ in range(9)) + "/deep.png",
]


def colour(number):
    return (20 * number, 255 - 20 * number, number)


@pytest.mark.parametrize("odd_class", ["cats", "Käfer 写\nx", os.fsdecode(b"\xe9")], ids=["plain", "odd", "no UTF-8"])
def test_a_files_name_is_anything(tmp_path, odd_class):
    for number, name in enumerate(NAMES):
        path = tmp_path / odd_class / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(Image.new("RGB", (4, 3), colour(number)), "PNG"))
    data = open_dataset(tmp_path)
    assert data.classes == (odd_class,) and sorted(data.images.keys) == sorted(f"{odd_class}/{name}" for name in NAMES)
    for index, key in enumerate(data.images.keys):
        number = NAMES.index(key.removeprefix(f"{odd_class}/"))
        assert (data.images.read(index) == colour(number)).all() and data.images.read(index).shape == (3, 4, 3)


def test_hidden_files_stay_out_and_links_are_read(tmp_path):
    elsewhere, folder = tmp_path / "elsewhere.png", tmp_path / "data" / "a"
    folder.mkdir(parents=True)
    elsewhere.write_bytes(encoded(Image.new("RGB", (4, 3), colour(1)), "PNG"))
    shutil.copy(elsewhere, folder / ".hidden.png")
    (folder / "1.png").symlink_to(elsewhere)
    (folder / "2.png").symlink_to("1.png")  # a link to a link
    (folder / "3.png").symlink_to("nowhere.png")
    (folder / "4.png").symlink_to("4.png")
    (folder / ".link.png").symlink_to(elsewhere)
    (tmp_path / "data" / "b").symlink_to("a")
    data = open_dataset(tmp_path / "data")
    assert list(data.images.keys) == [f"{name}/{number}.png" for name in "ab" for number in (1, 2, 3, 4)]
    for index in (0, 1, 4, 5):
        assert (data.images.read(index) == colour(1)).all()
    for index, said in ((2, "No such file"), (3, "Too many levels")):
        with pytest.raises(UnreadableImage, match=said):
            data.images.read(index)


@pytest.mark.parametrize("name", ["n" * 256 + ".jpg", "a\0b.jpg", "a/" * 3000 + "b.jpg"], ids=["long", "zero", "deep"])
def test_a_name_that_no_file_can_have_is_unreadable(tmp_path, name):
    with pytest.raises(UnreadableImage):
        file_bytes(tmp_path / name)
