"""What a check finds of single files: each kind, and none where nothing is wrong."""

import io
import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from healthy import encoded, found, jpeg, picture, put
from PIL import Image, features

from resnets.data.dataset import ArrayImages, Dataset
from resnets.data.decode import SUFFIXES
from resnets.data.health import KINDS, check
from resnets.data.health.kinds import KINDS_OF, belongs, cut_off, kind_of
from resnets.data.health.looking import look_at_file

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")  # as `decode` says, and pytest forgets

JPEG, PNG = jpeg(0), encoded(picture(0), "PNG")
GOOD = {"a/1.jpg": jpeg(1), "a/2.jpg": jpeg(2), "b/3.jpg": jpeg(3), "b/4.jpg": jpeg(4)}


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def claims(width, height):
    """A PNG whose header claims a size, with next to no pixels."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")


def claims_jpeg(width, height):
    frame = JPEG.index(b"\xff\xc0")
    return JPEG[: frame + 5] + struct.pack(">HH", height, width) + JPEG[frame + 9 :]


def animated(kind, **how):
    return encoded(picture(5), kind, save_all=True, append_images=[picture(6), picture(7)], **how)


def kinds_of_odd(tmp_path, name, content):
    """The kinds of problems of one odd file among good ones; every other file is named by none."""
    put(tmp_path, {**GOOD, f"a/{name}": content})
    health = found(tmp_path)
    assert all(paths == [(f"a/{name}",)] for paths in health.values()), health
    return set(health)


def test_a_healthy_folder(tmp_path):
    health = check(put(tmp_path / "pets", GOOD), size=96)
    assert (health.images, health.problems, health.leave_out) == (4, (), ())
    assert health.to_json() == {
        "images": 4,
        "classes": {"a": 2, "b": 2},
        "splits": {},
        "problems": [],
        "sizes": {"width": {"min": 128, "median": 128.0, "max": 128}, "height": {"min": 96, "median": 96.0, "max": 96}},
        "types": {"jpeg": 4},
        "modes": {"RGB": 4},
    }


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("x.jpg", np.random.default_rng(0).bytes(900), "unreadable"),
        ("x.jpg", JPEG[:200] + bytes(900) + b"\xff\xd9", "unreadable"),
        ("x.png", PNG[:60] + b"damage" + PNG[66:], "unreadable"),
        ("x.png", claims(8, 8), "truncated"),  # so Pillow says of too few pixels
        ("x.tiff", encoded(Image.fromarray(np.ones((9, 9), np.float32)), "TIFF"), "unreadable"),
        ("x.jpg", b"", "empty_file"),
        ("x.png", b"", "empty_file"),
        ("x.jpg", PNG, "wrong_type"),
        ("x.png", JPEG, "wrong_type"),
        ("x.webp", encoded(picture(0), "BMP"), "wrong_type"),
        ("x.jpg", b"<!DOCTYPE html>\n<html><body>404</body></html>", "wrong_type"),
        ("x.jpg", b"\n <HTML>", "wrong_type"),
        ("x.png", b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "wrong_type"),
        ("x.jpg", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "wrong_type"),
        ("x.jpg", b"PK\3\4" + bytes(200), "wrong_type"),
        ("x.jpg", "Zugriff verweigert: Maße unzulässig".encode(), "wrong_type"),
        ("x.png", claims(50_000, 50_000), "too_large"),
        ("x.png", claims(14_000, 13_000), "too_large"),
        ("x.jpg", claims_jpeg(50_000, 50_000), "too_large"),
        ("x.jpg", encoded(picture(8, 7, 9), "JPEG"), "too_small"),
        ("x.gif", animated("GIF"), "multi_page"),
        ("x.webp", animated("WEBP"), "multi_page"),
        ("x.png", animated("PNG"), "multi_page"),
        ("x.tif", animated("TIFF"), "multi_page"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_that_is_wrong_has_one_kind(tmp_path, name, content, kind):
    assert kinds_of_odd(tmp_path, name, content) == {kind}
    health = check(tmp_path, size=8)
    assert sum(health.types.values()) == sum(health.modes.values())


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95, 1.0])
@pytest.mark.parametrize(
    ("suffix", "kind", "how"),
    [
        ("jpg", "JPEG", {}),
        ("jpg", "JPEG", {"progressive": True}),
        ("png", "PNG", {}),
        ("gif", "GIF", {}),
        ("webp", "WEBP", {}),
        ("webp", "WEBP", {"lossless": True}),
        ("bmp", "BMP", {}),
        ("tif", "TIFF", {}),
        ("tif", "TIFF", {"compression": "tiff_lzw"}),
        ("ppm", "PPM", {}),
        ("avif", "AVIF", {}),
    ],
)
def test_a_file_that_is_cut_off_is_truncated_and_nothing_else(tmp_path, suffix, kind, how, share):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    whole = encoded(picture(9), kind, **how)
    assert kinds_of_odd(tmp_path, f"whole.{suffix}", whole) == set()
    (tmp_path / f"a/whole.{suffix}").unlink()
    assert kinds_of_odd(tmp_path, f"x.{suffix}", whole[: min(int(share * len(whole)), len(whole) - 1)]) == {"truncated"}


def test_a_cut_photo_with_a_whole_thumbnail_is_truncated(tmp_path):
    thumbnail = b"Exif\0\0" + encoded(picture(1, 16, 16), "JPEG")
    whole = encoded(picture(9), "JPEG", exif=thumbnail)
    assert whole.count(b"\xff\xd9") > 1
    assert not cut_off(whole, "jpeg", decodes=True)
    assert cut_off(whole[:-2], "jpeg", decodes=True)
    assert kinds_of_odd(tmp_path, "x.jpg", whole[:-2]) == {"truncated"}


PHOTO = picture(20)
ODD = {
    "CMYK.jpg": encoded(picture(21).convert("CMYK")),
    **{f"turned{n}.jpg": encoded(picture(30 + n), exif=exif(n)) for n in range(1, 9)},
    "palette.png": encoded(picture(22).quantize(32), "PNG"),
    "onebit.png": encoded(picture(23).convert("1"), "PNG"),
    "deep.png": encoded(Image.fromarray(np.asarray(picture(24).convert("L")).astype(np.uint16) * 257), "PNG"),
    "alpha.png": encoded(picture(25).convert("RGBA"), "PNG"),
    "greyalpha.png": encoded(picture(26).convert("LA"), "PNG"),
    "progressive.jpg": encoded(picture(27), progressive=True),
    "restarts.jpg": encoded(picture(28), restart_marker_rows=1),
    "trailing.jpg": encoded(picture(29)) + b"trailing garbage" * 99,
    "trailing.png": encoded(picture(40), "PNG") + b"trailing garbage",
    "trailing.gif": encoded(picture(41), "GIF") + bytes(9),
    "trailing.webp": encoded(picture(42), "WEBP") + b"more",
    "Größe 写真 📷 'quoted'.jpg": encoded(picture(43)),
    "n" * 240 + ".jpg": encoded(picture(44)),
    "UPPER.JPG": encoded(picture(45)),
    "Mixed.JpEg": encoded(picture(46)),
    "other.jpe": encoded(picture(47)),
    "other.jfif": encoded(picture(48)),
    "UPPER.TIF": encoded(picture(49), "TIFF"),
    "long.tiff": encoded(picture(50), "TIFF", big_tiff=True),
    "grey.pgm": encoded(picture(51).convert("L"), "PPM"),
    "colour.pgm": encoded(picture(52), "PPM"),
    "still.gif": encoded(picture(53), "GIF", comment=b"a;b;c"),
    "still.webp": encoded(picture(54), "WEBP", exif=exif(1)),
    "plain.bmp": encoded(picture(55), "BMP"),
}


def test_odd_but_good_files_are_named_by_none(tmp_path):
    health = check(put(tmp_path, {**GOOD, **{f"a/{name}": content for name, content in ODD.items()}}), size=96, workers=1)
    assert health.images == len(ODD) + 4
    assert [problem for problem in health.problems if problem.kind != "imbalance"] == []
    assert health.types["jpeg"] == 4 + sum(KINDS_OF["." + name.lower().rsplit(".", 1)[1]] == ("jpeg",) for name in ODD)
    assert {"CMYK", "P", "1", "RGBA", "LA", "L"} <= set(health.modes)
    assert health.sizes["width"] == {"min": 96, "median": 128.0, "max": 128}  # orientations 5 to 8 stand upright


def test_a_jpeg_of_several_pictures_is_one(tmp_path):
    content = animated("MPO")
    with Image.open(io.BytesIO(content)) as image:
        assert image.n_frames == 3
    assert kinds_of_odd(tmp_path / "data", "x.jpg", content) == set()


def test_a_tiff_with_a_smaller_copy_of_itself_is_one(tmp_path):
    small = picture(5).resize((32, 24))
    small.encoderinfo = {"tiffinfo": {254: 1}}
    content = encoded(picture(5), "TIFF", save_all=True, append_images=[small])
    assert kinds_of_odd(tmp_path, "x.tif", content) == set()


def test_hidden_files_are_ignored(tmp_path):
    put(tmp_path, {**GOOD, "a/.x.jpg": b"", ".cache/x.jpg": b"", "__MACOSX/x.jpg": b""})
    (tmp_path / ".link").symlink_to("/")
    (tmp_path / "a/.link.jpg").symlink_to("/nowhere.jpg")
    assert found(tmp_path) == {}


def test_a_pipe_is_unreadable(tmp_path):
    os.mkfifo(put(tmp_path, GOOD) / "a/x.jpg")
    assert found(tmp_path) == {"unreadable": [("a/x.jpg",)]}


def test_a_file_without_permission_or_target_is_unreadable(tmp_path):
    (put(tmp_path, GOOD) / "a/gone.jpg").symlink_to("nowhere.jpg")
    assert found(tmp_path) == {"unreadable": [("a/gone.jpg",)]}


def test_links_out_of_the_data_and_in_circles(tmp_path):
    root = put(tmp_path / "data", GOOD)
    put(tmp_path / "data elsewhere", {"c/1.jpg": jpeg(9), "one.jpg": jpeg(10), "notes.txt": b"x"})
    (root / "a/out.jpg").symlink_to("../../data elsewhere/one.jpg")
    (root / "a/lost.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (root / "a/in.jpg").symlink_to("1.jpg")  # stays inside: the same file twice
    (root / "a/self.jpg").symlink_to("self.jpg")
    (root / "a/round").symlink_to("..")
    (root / "a/deep").symlink_to(tmp_path / "data elsewhere")
    (root / "c").symlink_to(tmp_path / "data elsewhere/c")
    (root / "notes.txt").symlink_to(tmp_path / "data elsewhere/notes.txt")
    bad = ["a/deep", "a/lost.jpg", "a/out.jpg", "a/round", "a/self.jpg", "c"]
    health = check(root, size=8)
    assert [problem.paths for problem in health.of("outside_root")] == [(path,) for path in bad]
    assert health.counts() == {"duplicate": 1, "outside_root": 6}
    assert health.leave_out == ("a/in.jpg", "a/lost.jpg", "a/out.jpg", "a/self.jpg", "c/1.jpg")
    details = {problem.paths[0]: problem.detail for problem in health.of("outside_root")}
    assert "circle" in details["a/self.jpg"]
    assert "circle" in details["a/round"]
    assert str(tmp_path / "data elsewhere") in details["a/out.jpg"]


def test_a_data_folder_that_is_a_link_is_as_any_other(tmp_path):
    put(tmp_path / "data", GOOD)
    (tmp_path / "link").symlink_to("data")
    assert found(tmp_path / "link") == {}


def test_a_manifest_may_say_where_its_images_are(tmp_path):
    put(tmp_path / "disk", GOOD)
    (tmp_path / "images").symlink_to("disk")
    rows = [f"../images/{key},{key[0]}" for key in GOOD] + [f"{tmp_path}/images/gone.jpg,a"]
    table = put(tmp_path / "tables", {"t.csv": "\n".join(["path,label", *rows]).encode()}) / "t.csv"
    assert found(table) == {"unreadable": [(f"{tmp_path}/images/gone.jpg",)]}


@pytest.mark.parametrize(
    ("sides", "size", "small"),
    [
        ((64, 32), None, 0),  # the median side is 64: read as they are
        ((65, 32), None, 1),  # read at 224
        ((224, 224), None, 0),
        ((300, 223), None, 1),
        ((64, 32), 33, 1),
        ((64, 32), 32, 0),
    ],
)
def test_too_small_is_less_than_training_reads(tmp_path, sides, size, small):
    width, height = sides
    files = {
        f"{name}/{seed}.png": encoded(picture(60 + seed, height, width), "PNG") for name in "ab" for seed in (ord(name),)
    }
    problems = check(put(tmp_path, files), size=size).problems
    assert [problem.kind for problem in problems] == ["too_small"] * 2 * small


@pytest.mark.parametrize("size", [0, -3])
def test_a_size_that_is_none_is_refused(size):
    with pytest.raises(ValueError, match="at least 1"):
        check("digits", size=size)


def test_arrays_are_compared_and_counted():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (6, 8, 8), np.uint8)
    pixels[3], pixels[5] = pixels[0], pixels[1]
    keys = [f"{index}" for index in range(6)]
    data = Dataset("x", ArrayImages(pixels, keys), ("a", "b"), np.array([0, 0, 0, 0, 1, 1]))
    problems = check(data, size=224).problems
    assert [(problem.kind, problem.paths) for problem in problems] == [
        ("duplicate", ("0", "3")),
        ("label_conflict", ("1", "5")),
    ]


def test_the_digits_are_healthy():
    health = check("digits")
    assert (health.images, health.problems, health.types, health.modes) == (1797, (), {"array": 1797}, {"L": 1797})


def test_every_suffix_that_is_read_has_a_kind():
    assert set(KINDS_OF) == SUFFIXES
    assert belongs("no suffix", "png")
    assert not belongs("a.PNG", "jpeg")


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (JPEG, "jpeg"), (PNG, "png"), (b"GIF87a", "gif"), (b"BM", "bmp"), (b"MM\0*", "tiff"), (b"II+\0", "tiff"),
        (b"P6\n1 1", "ppm"), (b"P6x", "text"), (b"RIFF\0\0\0\0WEBP", "webp"), (b"RIFF\0\0\0\0AVI ", "AVI"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", "avif"), (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "heif"),
        (b"\0\0\0\x14ftypisom\0\0\0\0mp42", "MP4"), (b"%PDF-1.7", "PDF"), (b"\xef\xbb\xbf\r\n<HTML>", "HTML"),
        (b"<?xml?><rss/>", "XML"), (b"<svg/>", "SVG"), ("Grüße".encode(), "text"), (b"\xff\xfe\x00", ""), (b"a\0b", ""),
        (b"x" * 511 + "é".encode(), "text"),
    ],
)  # fmt: skip
def test_what_bytes_are(data, kind):
    assert kind_of(data) == kind


def test_a_name_without_a_suffix_promises_nothing():
    assert look_at_file("name", PNG).notes == ()
    assert look_at_file("name", b"<html>").fault == (
        "unreadable", "not an image of a kind that can be read here; HTML by its content",
    )  # fmt: skip
    assert look_at_file("name.jpg", b"<html>").fault == (
        "wrong_type",
        "HTML by its content, and no image: it can't be decoded",
    )


def test_the_same_container_has_two_suffixes():
    assert belongs("a.heif", "avif")
    assert not belongs("a.avif", "heif")


def test_a_gif_with_colours_of_its_own_for_a_frame_is_whole():
    header = b"GIF89a\x02\0\x01\0\0\0\0"
    frame = b"\x2c" + bytes(4) + b"\x02\0\x01\0\x80" + b"\x00\x00\x00\x3b\x3b\x3b" + b"\x02\x02\x44\x0a\0"
    assert not cut_off(header + frame + b"\x3b", "gif", decodes=True)
    assert cut_off(header + frame, "gif", decodes=True)
    assert cut_off(header + frame[:14], "gif", decodes=True)


@pytest.mark.parametrize("length", range(0, 40))
def test_no_beginning_harms(length):
    for data in (JPEG, PNG, encoded(picture(0), "GIF"), encoded(picture(0), "TIFF"), b"\0\0\0\x20ftypavif", b"RIFF"):
        assert isinstance(cut_off(data[:length], kind_of(data[:length]), decodes=False), bool)


def test_the_check_needs_no_torch():
    code = "import sys, resnets.data.health, resnets.pages.health; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_kinds():
    assert list(KINDS) == [
        "unreadable", "truncated", "empty_file", "wrong_type", "too_large", "too_small", "duplicate", "near_duplicate",
        "leak", "label_conflict", "multi_page", "outside_root", "class_mismatch", "imbalance",
    ]  # fmt: skip
