"""What a file's bytes are, whatever it is called, and whether they go on to their end."""

import struct
from pathlib import PurePosixPath

# Every suffix that is read as an image, and the kinds its content may be.
KINDS_OF = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), ("jpeg",)),
    **dict.fromkeys((".tif", ".tiff"), ("tiff",)),
    **dict.fromkeys((".ppm", ".pgm", ".pbm", ".pnm"), ("ppm",)),
    **dict.fromkeys((".heic", ".heif"), ("heif", "avif")),  # HEIF is the container of both
    ".png": ("png",),
    ".bmp": ("bmp",),
    ".gif": ("gif",),
    ".webp": ("webp",),
    ".avif": ("avif",),
}
IMAGES = frozenset(kind for kinds in KINDS_OF.values() for kind in kinds)
STARTS = {
    b"\xff\xd8\xff": "jpeg", b"\x89PNG\r\n\x1a\n": "png", b"GIF87a": "gif", b"GIF89a": "gif", b"BM": "bmp",
    b"II*\0": "tiff", b"MM\0*": "tiff", b"II+\0": "tiff", b"MM\0+": "tiff", b"%PDF": "PDF", b"PK\3\4": "ZIP",
    b"\x1f\x8b": "gzip", b"8BPS": "Photoshop", b"version https://git-lfs": "Git LFS pointer", b"\x89HDF": "HDF5",
}  # fmt: skip
TIFF_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}  # of a value of each type
HTML = (b"<!doctype html", b"<html", b"<head", b"<body")


def kind_of(data: bytes) -> str:
    """What the bytes are by their beginning: one of `IMAGES`, a word for something else, or "" where nothing tells."""
    for start, kind in STARTS.items():
        if data.startswith(start):
            return kind
    if data[:1] == b"P" and data[1:2] in b"123456" and data[2:3].isspace():
        return "ppm"
    if data[:4] == b"RIFF":
        return {b"WEBP": "webp", b"AVI ": "AVI"}.get(data[8:12], "RIFF")
    if data[4:8] == b"ftyp":
        brands = {data[at : at + 4] for at in (8, *range(16, min(int.from_bytes(data[:4], "big"), 256), 4))}
        if brands & {b"avif", b"avis"}:
            return "avif"
        return "heif" if brands & {b"heic", b"heix", b"heim", b"hevc", b"mif1", b"msf1"} else "MP4"
    return _kind_of_text(data[:512])


def _kind_of_text(data: bytes) -> str:
    start = data.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith(HTML):
        return "HTML"
    if start.startswith((b"<?xml", b"<svg")):
        return "SVG" if b"<svg" in start else "XML"
    try:
        text = data.decode("utf-8", "strict" if len(data) < 512 else "ignore")
    except UnicodeDecodeError:
        return ""
    return "text" if text and all(letter.isprintable() or letter.isspace() for letter in text) else ""


def belongs(key: str, kind: str) -> bool:
    """Whether the suffix of a path may have content of this kind. A suffix of no image says nothing."""
    kinds = KINDS_OF.get(PurePosixPath(key).suffix.lower())
    return kinds is None or kind in kinds


def cut_off(data: bytes, kind: str, decodes: bool) -> bool:
    """Whether a file ends before its own end. What follows an end matters to none.

    Of an image that decodes, only formats with an end of their own tell: JPEG, PNG, GIF and WebP.
    """
    if kind not in ENDS or (decodes and kind not in ("jpeg", "png", "gif", "webp")):
        return False
    try:
        return ENDS[kind](data)
    except (struct.error, IndexError):  # in the middle of a header
        return True


def _jpeg(data: bytes) -> bool:
    """No end marker after the scan begins. The marker segments before are stepped over: a thumbnail has its own end."""
    at = 2
    while True:
        at = data.find(b"\xff", at)  # a decoder looks for the next marker too
        if at < 0:
            return True
        while data[at] == 0xFF:
            at += 1
        marker = data[at]
        if marker == 0xDA:
            return data.find(b"\xff\xd9", at) < 0
        if marker == 0xD9:
            return False
        alone = marker == 0x01 or 0xD0 <= marker <= 0xD8
        at += 1 if alone else 1 + struct.unpack_from(">H", data, at + 1)[0]


def _png(data: bytes) -> bool:
    """No whole chunk IEND."""
    at = 8
    while True:
        length, name = struct.unpack_from(">I4s", data, at)
        at += 12 + length
        if name == b"IEND" or at > len(data):
            return at > len(data)


def _gif(data: bytes) -> bool:
    """No trailer after the last block (GIF89a, section 27)."""
    at = 13 + _colours(data[10])
    while True:
        block = data[at]
        if block == 0x3B:
            return False
        if block == 0x2C:
            at += 10 + _colours(data[at + 9]) + 1
        elif block == 0x21:
            at += 2
        else:
            return False  # damaged, not cut
        while data[at]:
            at += 1 + data[at]
        at += 1


def _colours(flags: int) -> int:
    """Bytes of the colour table that a GIF's flags speak of."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _webp(data: bytes) -> bool:
    """Fewer bytes than the container says."""
    return len(data) < 8 + struct.unpack_from("<I", data, 4)[0]


def _boxes(data: bytes) -> bool:
    """A box that reaches beyond the end (ISO 14496-12, section 4.2)."""
    at = 0
    while at < len(data):
        length = struct.unpack_from(">I", data, at)[0]
        if length == 0:
            return False
        if length == 1:
            length = struct.unpack_from(">Q", data, at + 8)[0]
        at += max(length, 8)
    return at > len(data)


def _bmp(data: bytes) -> bool:
    """Fewer bytes than the header says."""
    return len(data) < struct.unpack_from("<I", data, 2)[0]


def _tiff(data: bytes) -> bool:
    """The first page's directory, or a value, strip or tile of it, beyond the end (TIFF 6.0, section 2).

    BigTIFF isn't looked at.
    """
    order = "<" if data[:2] == b"II" else ">"
    version, directory = struct.unpack_from(f"{order}HI", data, 2)
    if version != 42:
        return False
    (entries,) = struct.unpack_from(f"{order}H", data, directory)
    values: dict[int, tuple[int, ...]] = {}
    for at in range(directory + 2, directory + 2 + 12 * entries, 12):
        tag, kind, count, place = struct.unpack_from(f"{order}HHII", data, at)
        wide = TIFF_BYTES.get(kind, 0) * count
        if wide > 4 and place + wide > len(data):
            return True
        if tag in (273, 279, 324, 325) and kind in (3, 4):
            values[tag] = struct.unpack_from(
                f"{order}{count}{'H' if kind == 3 else 'I'}", data, place if wide > 4 else at + 8
            )
    for places, lengths in ((273, 279), (324, 325)):
        ends = map(sum, zip(values.get(places, ()), values.get(lengths, ()), strict=False))
        if any(end > len(data) for end in ends):
            return True
    return False


ENDS = {"jpeg": _jpeg, "png": _png, "gif": _gif, "webp": _webp, "avif": _boxes, "heif": _boxes, "bmp": _bmp, "tiff": _tiff}
