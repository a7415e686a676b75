import io
import struct
import zlib

import numpy as np
import pytest
import simplejpeg
from PIL import Image, features

from resnets.data.decode import UnreadableImage, decode, read, reduction
from resnets.data.preprocessing import Preprocessing, crop


def photo(height, width):
    """A smooth, colourful Pillow image without symmetry."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    waves = np.stack([200 * x + 30, 190 * y + 20, 128 + 90 * np.sin(14 * x + 9 * y * y)], axis=-1)
    return Image.fromarray(waves.astype(np.uint8))


def encoded(image, kind, **how):
    buffer = io.BytesIO()
    image.save(buffer, kind, **how)
    return buffer.getvalue()


def apart(one, other):
    """The mean absolute difference of two images, in levels."""
    one, other = np.asarray(one), np.asarray(other)
    assert one.shape == other.shape
    return np.abs(one.astype(int) - other.astype(int)).mean()


PHOTO = photo(48, 64)
JPEG = encoded(PHOTO, "JPEG", quality=95)
PNG = encoded(PHOTO, "PNG")
HALF_RED = Image.merge("RGBA", [Image.new("L", (4, 2), level) for level in (255, 0, 0, 128)])  # (255, 127, 127) on white


@pytest.mark.parametrize(
    "how", [{"subsampling": 0}, {"subsampling": 2}, {"progressive": True}, {"optimize": True, "quality": 40}]
)
def test_a_jpeg_is_what_simplejpeg_and_pillow_read(how):
    data = encoded(PHOTO, "JPEG", **how)
    image = decode(data)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, simplejpeg.decode_jpeg(data, "RGB"))
    assert np.abs(image.astype(int) - np.asarray(Image.open(io.BytesIO(data)))).max() <= 1
    assert apart(image, PHOTO) < 6


def test_a_grey_jpeg_is_grey_in_three_channels():
    image = decode(encoded(PHOTO.convert("L"), "JPEG", quality=95))
    assert (image == image[:, :, :1]).all()
    assert apart(image[:, :, 0], PHOTO.convert("L")) < 1


def test_a_cmyk_jpeg_has_the_colours_it_was_made_of():
    assert apart(decode(encoded(PHOTO.convert("CMYK"), "JPEG", quality=95)), PHOTO) < 2


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "WEBP"])
def test_a_lossless_file_is_read_as_it_was(kind):
    np.testing.assert_array_equal(decode(encoded(PHOTO, kind, **{"lossless": True} if kind == "WEBP" else {})), PHOTO)


# Where row 0 and column 0 of the stored image are seen (EXIF 2.3): each turns the upright image into the stored one.
STORED = {
    1: lambda upright: upright,  # top, left
    2: lambda upright: upright[:, ::-1],  # top, right
    3: lambda upright: upright[::-1, ::-1],  # bottom, right
    4: lambda upright: upright[::-1],  # bottom, left
    5: lambda upright: upright.swapaxes(0, 1),  # left, top
    6: lambda upright: upright[:, ::-1].swapaxes(0, 1),  # right, top
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),  # right, bottom
    8: lambda upright: upright[::-1].swapaxes(0, 1),  # left, bottom
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("grey", [False, True])
def test_an_image_stands_upright(orientation, kind, grey):
    upright = np.asarray(PHOTO)
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decode(encoded(stored, kind, exif=exif, quality=95, subsampling=0), grey)
    expected = np.asarray(PHOTO.convert("L"))[:, :, None] if grey else upright
    assert apart(image, expected) < 3


def exif_of(*entries, count=None):
    """EXIF data of (tag, type, values, four bytes) entries, little-endian, that may claim another `count`."""
    body = b"".join(struct.pack("<HHI4s", *entry) for entry in entries)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", count or len(entries)) + body + bytes(4)


TURNED = (0x0112, 3, 1, b"\6\0\0\0")


@pytest.mark.parametrize(
    "exif",
    [
        exif_of((0x0101, 2, 4, b"abc\0"), TURNED),  # a height in letters
        exif_of(TURNED, count=40),  # more entries said than there are
        exif_of((0x010E, 2, 4000, b"\xff\xff\0\0"), TURNED),  # a text beyond the end
        b"Exif\0\0II*\0",
        b"Exif\0\0nonsense",
    ],
    ids=["letters", "count", "beyond", "cut off", "nonsense"],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_damaged_exif_data_harm_no_image(exif, kind):
    shape = decode(encoded(PHOTO, kind, exif=exif)).shape
    assert shape in ((48, 64, 3), (64, 48, 3))


def test_an_orientation_that_is_none_turns_nothing():
    assert decode(encoded(PHOTO, "JPEG", exif=exif_of((0x0112, 3, 1, b"\x63\0\0\0")))).shape == (48, 64, 3)


def test_a_palette_png():
    colours = PHOTO.quantize(16)
    np.testing.assert_array_equal(decode(encoded(colours, "PNG")), colours.convert("RGB"))


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_transparent_palette_colour_is_white(kind):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    assert decode(encoded(image, kind, transparency=0)).tolist() == [[[255, 255, 255], [200, 100, 50]]]


def test_a_transparent_colour_of_an_rgb_png_is_white():
    image = Image.new("RGB", (2, 1), (1, 2, 3))
    image.putpixel((1, 0), (9, 8, 7))
    assert decode(encoded(image, "PNG", transparency=(1, 2, 3))).tolist() == [[[255, 255, 255], [9, 8, 7]]]


def test_a_png_of_one_bit_is_black_and_white():
    image = Image.new("1", (9, 1))
    image.putpixel((8, 0), 1)
    assert decode(encoded(image, "PNG")).tolist() == [[[0, 0, 0]] * 8 + [[255, 255, 255]]]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_scaled_to_8(kind):
    image = Image.fromarray(np.array([[0, 257, 32768, 65280, 65535]], np.uint16))
    data = encoded(image, kind)
    assert decode(data, grey=True).ravel().tolist() == [0, 1, 128, 254, 255]
    assert decode(data)[0, -1].tolist() == [255, 255, 255]


def test_numbers_without_a_white_are_refused():
    with pytest.raises(UnreadableImage, match="no fixed white"):
        decode(encoded(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF"))


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (HALF_RED, (255, 127, 127)),
        (Image.new("RGBA", (4, 2), (1, 2, 3, 0)), (255, 255, 255)),
        (Image.new("RGBA", (4, 2), (1, 2, 3, 255)), (1, 2, 3)),
        (Image.new("LA", (4, 2), (0, 128)), (127, 127, 127)),
        (Image.new("LA", (4, 2), (9, 255)), (9, 9, 9)),
    ],
)
def test_transparency_lies_on_white(image, expected):
    assert (decode(encoded(image, "PNG")) == expected).all()
    grey = Image.new("RGB", (1, 1), expected).convert("L").getpixel((0, 0))
    assert (decode(encoded(image, "PNG"), grey=True) == grey).all()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "PNG"])
def test_an_animation_is_its_first_frame(kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((250, 0, 0), (0, 250, 0))]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **{"lossless": True} if kind == "WEBP" else {})
    assert Image.open(io.BytesIO(data)).n_frames == 2
    assert (decode(data) == (250, 0, 0)).all()


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "P", "RGBA", "1"])
def test_the_shape_is_three_channels_or_one(mode, grey):
    image = PHOTO.quantize(8) if mode == "P" else PHOTO.convert(mode)
    decoded = decode(encoded(image, "JPEG" if mode in ("RGB", "L", "CMYK") else "PNG"), grey)
    assert decoded.shape == (48, 64, 1 if grey else 3)
    assert decoded.dtype == np.uint8


def test_grey_is_the_luminance_whatever_the_format():
    expected = np.asarray(PHOTO.convert("L"))[:, :, None]
    assert apart(decode(PNG, grey=True), expected) == 0
    assert apart(decode(JPEG, grey=True), expected) < 1


def test_a_jpeg_with_something_behind_it_is_read():
    np.testing.assert_array_equal(decode(JPEG + b"trailing garbage" * 99), decode(JPEG))


def claims(width, height):
    """A PNG whose header claims a size, with next to no pixels."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")


def claims_jpeg(width, height):
    """PHOTO as a JPEG whose header claims another size."""
    frame = JPEG.index(b"\xff\xc0")
    return JPEG[: frame + 5] + struct.pack(">HH", height, width) + JPEG[frame + 9 :]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "not an image"),
        (b"\xff\xd8\xff", "not an image"),
        (JPEG[: len(JPEG) // 2], "truncated"),
        (JPEG[:300], "."),
        (JPEG[:200] + bytes(len(JPEG) - 200), "."),
        (PNG[: len(PNG) // 2], "truncated"),
        (PNG[:20], "."),
        (encoded(PHOTO, "GIF")[:900], "."),
        (encoded(PHOTO, "WEBP")[:200], "."),
        (claims(50_000, 50_000), "more than 178,956,970 pixels"),
        (claims(14_000, 13_000), "more than 178,956,970 pixels"),
        (claims_jpeg(50_000, 50_000), "50000×50000 is more than 178,956,970 pixels"),
        (claims(8, 8), "."),
    ],
    ids=[
        "empty", "html", "magic", "half a JPEG", "JPEG header", "JPEG of zeros", "half a PNG", "PNG header", "half a GIF",
        "half a WebP", "huge PNG", "large PNG", "huge JPEG", "PNG of too few pixels",
    ],
)  # fmt: skip
def test_what_is_no_image_is_said(tmp_path, data, said):
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    for grey in (False, True):
        with pytest.raises(UnreadableImage, match=said):
            read(path, grey)


AVIF = encoded(PHOTO, "AVIF") if features.check("avif") else b""


@pytest.mark.skipif(not AVIF, reason="this Pillow reads no AVIF")
@pytest.mark.parametrize(
    "damaged",
    [AVIF[:200], AVIF[: len(AVIF) // 2], AVIF.replace(b"iloc", b"lost"), AVIF[: AVIF.find(b"mdat") + 8] + bytes(len(AVIF))],
    ids=["header", "half", "no place", "zeros"],
)
def test_a_damaged_avif_is_unreadable(damaged):
    assert apart(decode(AVIF), PHOTO) < 6
    with pytest.raises(UnreadableImage):
        decode(damaged)


def test_a_path_that_is_no_file_is_unreadable(tmp_path):
    with pytest.raises(UnreadableImage, match="No such file"):
        read(tmp_path / "no.jpg")
    with pytest.raises(UnreadableImage, match="directory"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("height", "width", "least", "factor"),
    [
        (3000, 4000, 0, 1),
        (3000, 4000, 256, 4),  # 750 left; 375 would be less than 512
        (4096, 4096, 256, 8),
        (4095, 9999, 256, 4),
        (1024, 2000, 256, 2),
        (1023, 2000, 256, 1),
        (375, 500, 256, 1),
        (9999, 16, 1, 8),
        (9999, 15, 1, 4),
    ],
)
def test_a_jpeg_is_reduced_while_twice_the_needed_size_remains(height, width, least, factor):
    assert reduction(height, width, least) == factor


@pytest.mark.parametrize(
    ("least", "shape"), [(0, (1200, 1600)), (256, (600, 800)), (150, (300, 400)), (75, (150, 200)), (1, (150, 200))]
)
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_jpeg_is_decoded_at_a_reduced_scale(least, shape, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decode(encoded(photo(1200, 1600), "JPEG", quality=92, exif=exif), least=least)
    assert image.shape == ((*shape, 3) if orientation == 1 else (*shape[::-1], 3))
    assert decode(encoded(photo(1200, 1600), "JPEG"), grey=True, least=least).shape == (*shape, 1)


@pytest.mark.parametrize("shape", [(1200, 1600), (1203, 1598)], ids=str)
def test_a_reduced_scale_shows_the_network_the_same(shape):
    data, how = encoded(photo(*shape), "JPEG", quality=92), Preprocessing(size=112, crop=0.875)
    reduced, full = decode(data, least=how.resized), decode(data)
    assert reduced.shape[0] == -(-shape[0] // 4)
    assert full.shape == (*shape, 3)
    assert apart(crop(reduced, how), crop(full, how)) < 1


def test_only_jpegs_are_reduced():
    assert decode(PNG, least=1).shape == (48, 64, 3)
