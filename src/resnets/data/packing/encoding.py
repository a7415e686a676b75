"""One image as it goes into a shard."""

import io
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import simplejpeg
from PIL import Image

from resnets.data.dataset import Images
from resnets.data.decode import ORIENTATION, PILLOW_RAISES, SUFFIXES, UnreadableImage, decode
from resnets.data.preprocessing import RESAMPLING

LONGEST = 65_500  # pixels of a JPEG's side, libjpeg's limit
SUBSAMPLING = "420"  # of colour, as most cameras' and Pillow's
MAGIC = ((b"\xff\xd8\xff", ".jpg"), (b"\x89PNG", ".png"), (b"GIF8", ".gif"), (b"BM", ".bmp"), (b"II*\0", ".tif"),
         (b"MM\0*", ".tif"))  # fmt: skip


@dataclass(frozen=True)
class Encoding:
    """How images are written."""

    size: int  # pixels of the shorter side, at most; 0: each file's own bytes
    quality: int  # of JPEG

    def encoded(self, images: Images, index: int) -> tuple[bytes, str]:
        """An image's file and its suffix. Raises UnreadableImage.

        With a size, an image with a longer shorter side is resized and written as JPEG; another one as it is, where it is
        an upright JPEG or PNG of 8 bits in grey or RGB. What lies in memory, decoded, becomes PNG.
        """
        data = images.encoded(index)
        if data is None:
            return _png(resized(_thin(images.read(index)), self.size)), ".png"
        if not self.size or _stays(data, self.size):
            decode(data, least=1)  # what can't be decoded is left out; a JPEG is decoded at an eighth of its size
            return data, _suffix(images.keys[index] if not self.size else "", data)
        pixels = resized(_thin(decode(data, least=self.size)), self.size)
        if max(pixels.shape) > LONGEST:
            return _png(pixels), ".png"
        grey = pixels.shape[2] == 1
        how = {"colorspace": "GRAY", "colorsubsampling": "Gray"} if grey else {"colorsubsampling": SUBSAMPLING}
        return simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), self.quality, **how), ".jpg"


def resized(image: np.ndarray, size: int) -> np.ndarray:
    """uint8 [height, width, channels] with its shorter side resized to `size` as preprocessing does: bilinear, antialiased.

    Never enlarged; `size` 0 leaves it as it is. The longer side is rounded down, as torchvision does.
    """
    height, width, channels = image.shape
    if not 0 < size < min(height, width):
        return image
    shape = (size, size * height // width) if width <= height else (size * width // height, size)
    source = Image.fromarray(image[:, :, 0] if channels == 1 else image)
    return np.asarray(source.resize(shape, RESAMPLING["bilinear"])).reshape(shape[1], shape[0], channels)


def _thin(image: np.ndarray) -> np.ndarray:
    """One channel where all three are the same."""
    few = image[::16, ::16]  # most pictures show their colour here
    grey = image.shape[2] == 3 and (few == few[:, :, :1]).all() and (image == image[:, :, :1]).all()
    return np.ascontiguousarray(image[:, :, :1]) if grey else image


def _png(image: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(out, "PNG")
    return out.getvalue()


def _stays(data: bytes, size: int) -> bool:
    """Whether a file, if it can be decoded, needs no change."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            plain = image.format in ("JPEG", "PNG") and image.mode in ("L", "RGB") and "transparency" not in image.info
            return plain and min(image.size) <= size and image.getexif().get(ORIENTATION, 1) == 1
    except (Image.DecompressionBombError, *PILLOW_RAISES):
        return False


def _suffix(key: str, data: bytes) -> str:
    """The suffix of a file by its name, else by its first bytes."""
    suffix = PurePosixPath(key).suffix.lower()
    if suffix in SUFFIXES:
        return suffix
    found = next((suffix for magic, suffix in MAGIC if data.startswith(magic)), None)
    if found is None and data[8:12] == b"WEBP":
        return ".webp"
    if found is None:
        raise UnreadableImage("an image of which neither the name nor the first bytes say the kind")
    return found
