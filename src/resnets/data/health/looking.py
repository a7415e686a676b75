"""One look at one image: its file is read once, hashed, and decoded at a small scale."""

import hashlib
import stat
from typing import NamedTuple

import numpy as np
import simplejpeg
from PIL import Image

from resnets.data.dataset import FileImages, Images
from resnets.data.decode import MOST_PIXELS, PILLOW_RAISES, UnreadableImage, decode, opened
from resnets.data.health.kinds import IMAGES, belongs, cut_off, kind_of
from resnets.data.health.likeness import SIDE, thumbnail

JPEG_MODES = {"Gray": "L", "CMYK": "CMYK", "YCCK": "CMYK"}
ANIMATED = ("gif", "webp", "png", "avif")  # a JPEG's further pictures (MPO) are previews, or the other eye's view
MOST_PAGES = 16  # of a TIFF, looked at for one that is a picture of its own
SAID_CUT = ("truncated", "Truncated", "not enough image data")  # by Pillow
BOMB = f"more than {MOST_PIXELS:,} pixels: it is never decoded"


class Look(NamedTuple):
    """What a look at an image finds."""

    digest: bytes = b""  # SHA-256 of the file, or of an array's pixels
    type: str = ""  # "jpeg", "png", …; "array"; "" where it is no image
    mode: str = ""  # Pillow's: "RGB", "L", "CMYK", "P", …
    width: int = 0  # pixels, upright; 0 where unknown
    height: int = 0
    fault: tuple[str, str] | None = None  # kind and detail of what keeps it from being used
    notes: tuple[tuple[str, str], ...] = ()  # kind and detail of what doesn't
    thumbnail: np.ndarray | None = None  # uint8 [32, 32, 3], where there is no fault


class Header(NamedTuple):
    """What a file's header says."""

    type: str
    mode: str
    width: int
    height: int
    pages: bool  # whether pictures follow the first


def look(images: Images, index: int) -> Look:
    """One image, looked at. Nothing that a file can hold raises."""
    try:
        data = _encoded(images, index)
        if data is None:
            return _look_at_array(images.read(index))
    except UnreadableImage as error:
        return Look(fault=("unreadable", str(error)))
    try:
        return look_at_file(images.keys[index], data)
    except Exception as error:  # a decoder's own fault; whatever a file holds, the others are still looked at
        return Look(fault=("unreadable", f"{type(error).__name__}: {error}"))


def _encoded(images: Images, index: int) -> bytes | None:
    if isinstance(images, FileImages):
        try:
            regular = stat.S_ISREG((images.root / images.keys[index]).stat().st_mode)
        except (OSError, ValueError):
            regular = True  # `encoded` says what is wrong with the name
        if not regular:
            raise UnreadableImage("it is no regular file but a folder, a pipe or a device")
    return images.encoded(index)


def _look_at_array(pixels: np.ndarray) -> Look:
    height, width = pixels.shape[:2]
    digest = hashlib.sha256(f"{pixels.shape}".encode() + np.ascontiguousarray(pixels).tobytes()).digest()
    grey = bool((pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 1] == pixels[..., 2]).all())
    return Look(digest, "array", "L" if grey else "RGB", width, height, thumbnail=thumbnail(pixels))


def look_at_file(key: str, data: bytes) -> Look:
    """A file's bytes, looked at; of its path the suffix alone matters."""
    if not data:
        return Look(fault=("empty_file", "0 bytes"))
    digest, kind = hashlib.sha256(data).digest(), kind_of(data)
    try:
        header = _header(data, kind)
        if header.width * header.height > MOST_PIXELS:
            raise Image.DecompressionBombError
        pixels = decode(data, least=SIDE)
    except Image.DecompressionBombError:
        return Look(digest, kind, fault=("too_large", BOMB))
    except UnreadableImage as error:
        return Look(digest, kind if kind in IMAGES else "", fault=_fault(key, data, kind, str(error)))
    width, height = header.width, header.height
    if (width > height and pixels.shape[1] < pixels.shape[0]) or (width < height and pixels.shape[1] > pixels.shape[0]):
        width, height = height, width  # by its EXIF orientation
    found = Look(digest, header.type, header.mode, width, height)
    if cut_off(data, kind, decodes=True):
        return found._replace(fault=("truncated", "it decodes, but its end is missing"))
    notes = []
    if not belongs(key, header.type):
        notes.append(("wrong_type", f"{header.type} by its content; it decodes"))
    if header.pages:
        notes.append(("multi_page", "pictures follow the first, which alone is used"))
    return found._replace(notes=tuple(notes), thumbnail=thumbnail(pixels))


def _header(data: bytes, kind: str) -> Header:
    """The header. Raises UnreadableImage, and Pillow's DecompressionBombError."""
    if kind == "jpeg":
        try:
            height, width, colours = simplejpeg.decode_jpeg_header(data)[:3]
            return Header(kind, JPEG_MODES.get(colours, "RGB"), int(width), int(height), pages=False)
        except ValueError:
            pass  # Pillow decides, as in `decode`
    try:
        with opened(data) as image:
            found = kind if kind in IMAGES else (image.format or "").lower()
            width, height, mode = image.width, image.height, image.mode
            return Header(found, mode, width, height, width * height <= MOST_PIXELS and _pages(image, found))
    except UnreadableImage:
        raise
    except PILLOW_RAISES as error:
        raise UnreadableImage(str(error) or type(error).__name__) from None


def _pages(image: Image.Image, kind: str) -> bool:
    """Whether an opened animation has a second frame, or a TIFF a second page that isn't a smaller copy of one."""
    try:
        if kind in ANIMATED:
            return bool(getattr(image, "is_animated", False))
        for page in range(1, MOST_PAGES if kind == "tiff" else 0):
            image.seek(page)
            if not image.getexif().get(254, 0) & 1:  # NewSubfileType: a reduced version
                return True
    except PILLOW_RAISES:
        return False
    return False


def _fault(key: str, data: bytes, kind: str, error: str) -> tuple[str, str]:
    """Why a file can't be decoded: kind and detail."""
    said_cut = any(words in error for words in SAID_CUT)
    if kind in IMAGES and (said_cut or cut_off(data, kind, decodes=False)):
        return "truncated", error if said_cut else f"its end is missing ({error})"
    if kind and not belongs(key, kind):
        return "wrong_type", f"{kind} by its content, and {'it' if kind in IMAGES else 'no image: it'} can't be decoded"
    return "unreadable", f"{error}; {kind} by its content" if kind and kind not in IMAGES else error
