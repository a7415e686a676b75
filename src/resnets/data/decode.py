"""The one decode: a file's bytes to a uint8 image, without PyTorch. simplejpeg for JPEG, Pillow for the rest; HEIC by its
plugin pillow-heif, imported when the first is met.

Handled alike wherever images are read: EXIF orientation is applied, transparency lies on white, CMYK and palettes become
RGB, 16-bit grey becomes 8-bit, an animation is its first frame, and an image of more than `MOST_PIXELS` is refused by its
header.
"""

import io
import struct
import warnings
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

from resnets.errors import need

MOST_PIXELS = 178_956_970  # Pillow's own limit for a decompression bomb
SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .bmp .gif .webp .tif .tiff .ppm .pgm .pbm .pnm .avif .heic .heif".split()  # noqa: SIM905
)
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
ORIENTATION, SHORT = 0x0112, 3  # the EXIF tag, and the kind of its value
PILLOW_RAISES = (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, KeyError, RuntimeError, struct.error)

warnings.filterwarnings("ignore", module=r"PIL\.")  # odd metadata, and sizes that are refused here by their own rule

# How each EXIF orientation is undone: (transpose rows and columns first?, flip up-down?, flip left-right?)
UPRIGHT = {
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


class UnreadableImage(ValueError):
    """A file that is no readable image; the message says why, without the file's name."""


def read(path: Path, grey: bool = False, least: int = 0) -> np.ndarray:
    """`decode` of a file. Raises UnreadableImage where there is none or it can't be read."""
    return decode(file_bytes(path), grey, least)


def file_bytes(path: Path) -> bytes:
    """A file's bytes. Raises UnreadableImage where there is none or it can't be read."""
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise UnreadableImage(getattr(error, "strerror", None) or str(error)) from None


def decode(data: bytes, grey: bool = False, least: int = 0) -> np.ndarray:
    """An encoded image as uint8 [height, width, 3], RGB, or [height, width, 1] with `grey`.

    `least` is the shorter side in pixels that the image will be resized to: a JPEG is decoded at 1/2, 1/4 or 1/8 of its
    size while at least twice `least` remains. 0 decodes in full. Raises UnreadableImage.
    """
    if not data:
        raise UnreadableImage("the file is empty")
    if data[:3] == b"\xff\xd8\xff":
        try:
            return _decode_jpeg(data, grey, least)
        except ValueError as error:
            if isinstance(error, UnreadableImage):
                raise
            # CMYK, or a fault that simplejpeg is strict about: Pillow decides, and says what is wrong if it is
    return _decode_with_pillow(data, grey)


def reduction(height: int, width: int, least: int) -> int:
    """By how much a JPEG is reduced while it is decoded: 8, 4, 2 or 1, so that the shorter side keeps twice `least`."""
    if least <= 0:
        return 1
    return next((factor for factor in (8, 4, 2) if min(height, width) >= 2 * least * factor), 1)


def _decode_jpeg(data: bytes, grey: bool, least: int) -> np.ndarray:
    header = simplejpeg.decode_jpeg_header(data)
    height, width, colours = int(header[0]), int(header[1]), header[2]
    _refuse_too_large(height, width)
    if colours in ("CMYK", "YCCK"):
        return _decode_with_pillow(data, grey)
    factor = reduction(height, width, least)
    smallest = (-(-height // factor), -(-width // factor)) if factor > 1 else (0, 0)
    image = simplejpeg.decode_jpeg(data, "GRAY" if grey else "RGB", min_height=smallest[0], min_width=smallest[1])
    return _upright(image, _orientation(data))


def _decode_with_pillow(data: bytes, grey: bool) -> np.ndarray:
    try:
        with opened(data) as image:
            _refuse_too_large(image.height, image.width)
            return from_pillow(image, grey)
    except Image.DecompressionBombError:
        raise UnreadableImage(f"more than {MOST_PIXELS:,} pixels") from None
    except UnreadableImage:
        raise
    except PILLOW_RAISES as error:
        raise UnreadableImage(str(error) or type(error).__name__) from None


def opened(data: bytes) -> Image.Image:
    """An encoded image, its header read by Pillow and its pixels not yet. Raises UnreadableImage, and what Pillow raises."""
    without_heic = _heic_is_missing(data)
    try:
        return Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        raise UnreadableImage(without_heic or "not an image of a kind that can be read here") from None


def _heic_is_missing(data: bytes) -> str:
    """Have Pillow read HEIC from here on, if the data are such: "", or why it can't."""
    if data[4:8] != b"ftyp" or data[8:12] not in HEIF_BRANDS or "HEIF" in Image.OPEN:
        return ""
    try:
        plugin = need("pillow_heif", "heic", "HEIC")
    except ImportError as error:
        return str(error)
    Image.init()  # so that Pillow's own formats go first: two of the brands are AVIF's too
    plugin.register_heif_opener()
    return ""


def from_pillow(image: Image.Image, grey: bool = False) -> np.ndarray:
    """An opened image as `decode` would give it. Raises UnreadableImage for pixels that have no fixed white."""
    eight_bit, mode = _to_8_bit(image), "L" if grey else "RGB"
    if eight_bit.mode != mode:  # else `convert` would only copy it
        eight_bit = eight_bit.convert(mode)
    pixels = np.asarray(eight_bit)
    orientation = _orientation(image.info.get("exif") or b"")  # TIFF and HEIC have been turned by now
    return _upright(pixels[:, :, None] if grey else pixels, orientation)


def _to_8_bit(image: Image.Image) -> Image.Image:
    """16-bit grey scaled to 8 bits, transparency laid on white; other images as they are."""
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image)
        if image.mode == "F" or values.min() < 0 or values.max() > 65535:
            raise UnreadableImage(f"pixels of a kind (Pillow's mode {image.mode}) that has no fixed white")
        return Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        with_alpha = image.convert("RGBA")
        white = Image.new("RGBA", with_alpha.size, "white")
        return Image.alpha_composite(white, with_alpha)
    return image


def _orientation(data: bytes) -> int:
    """The EXIF orientation in a JPEG's bytes, or in EXIF data alone: 1…8; 1 where the data are damaged.

    Read here and not by Pillow, which warns of, or fails on, damage elsewhere in the data that turns nothing.
    """
    start = data.find(b"Exif\x00\x00", 0, 65536)
    tiff = data[start + 6 : start + 65536] if start >= 0 else data if data[:2] in (b"II", b"MM") else b""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, directory)
        for entry in range(directory + 2, directory + 2 + 12 * entries, 12):
            tag, kind, count, value = struct.unpack_from(f"{order}HHIH", tiff, entry)
            if tag == ORIENTATION:
                return value if kind == SHORT and count == 1 else 1
    except struct.error:  # cut off
        return 1
    return 1


def _upright(image: np.ndarray, orientation: int) -> np.ndarray:
    if orientation not in UPRIGHT:
        return image
    transpose, up_down, left_right = UPRIGHT[orientation]
    turned = image.transpose(1, 0, 2) if transpose else image
    turned = turned[::-1] if up_down else turned
    return np.ascontiguousarray(turned[:, ::-1] if left_right else turned)


def _refuse_too_large(height: int, width: int) -> None:
    if height * width > MOST_PIXELS:
        raise UnreadableImage(f"{width}×{height} is more than {MOST_PIXELS:,} pixels")
