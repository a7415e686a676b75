"""Watching a run: pictures of what the network sees and confuses, its pace, and the memory it takes. Pure functions."""

import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from resnets.data.preprocessing import Preprocessing
from resnets.metrics import confused
from resnets.metrics import confusion as confusion  # offered here too
from resnets.pages.evaluation import MATRIX_CLASSES

SHOWN = 32  # images of a grid at most
TILE, TEXT, GAP, COLUMNS = 112, 20, 8, 8  # pixels, and tiles a row
PAPER, INK, SOFT = (255, 255, 255), (29, 36, 51), (102, 112, 133)
GOOD, BAD = (46, 139, 87), (192, 57, 43)  # the colours of the pages
AXIS = 20  # pixels beside a matrix for what its axis is
LABELLED = 20  # classes up to which a matrix has names
HALF = 15.0  # seconds after which a step counts half as much for the pace


def as_seen(inputs: np.ndarray, how: Preprocessing) -> np.ndarray:
    """What the network read, float32 [n, channels, height, width], as images again: uint8 [n, height, width, channels], RGB.

    The inverse of `normalise`, to half a level where nothing lies beyond 0…255.
    """
    shape = (1, -1, 1, 1)
    pixels = inputs * np.array(how.deviation, np.float32).reshape(shape) + np.array(how.mean, np.float32).reshape(shape)
    pixels = np.clip(np.rint(pixels / np.float32(how.scale)), 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)
    return pixels[..., ::-1] if how.colour == "BGR" else pixels


def sample_grid(images: np.ndarray, names: Sequence[str], columns: int = COLUMNS, limit: int = SHOWN) -> np.ndarray:
    """The first images, each over its name: uint8 [n, size, size, 1 or 3] → uint8 [height, width, 3].

    Small images are enlarged without smoothing, so that their pixels can be seen. Raises ValueError where there are no
    images, or not a name for each.
    """
    if len(images) == 0 or len(images) != len(names):
        raise ValueError(f"a grid has images, and a name for each; given were {len(images)} images and {len(names)} names")
    images, names = images[:limit], names[:limit]
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    canvas = Image.new("RGB", (columns * (TILE + GAP) + GAP, rows * (TILE + TEXT + GAP) + GAP), PAPER)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    for place, (image, name) in enumerate(zip(images, names, strict=True)):
        row, column = divmod(place, columns)
        x, y = GAP + column * (TILE + GAP), GAP + row * (TILE + TEXT + GAP)
        picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).convert("RGB")
        scale = TILE / max(picture.size)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        picture = picture.resize(size, Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BICUBIC)
        canvas.paste(picture, (x + (TILE - size[0]) // 2, y + (TILE - size[1]) // 2))
        short = shortened(name, TILE, font)
        draw.text((x + (TILE - draw.textlength(short, font)) / 2, y + TILE + 3), short, INK, font)
    return np.asarray(canvas)


def shortened(name: str, width: float, font: Any) -> str:
    """A name, or its beginning and "…", in at most `width` pixels of a Pillow font."""
    if font.getlength(name) <= width:
        return name
    return next((f"{name[:end]}…" for end in range(len(name) - 1, 0, -1) if font.getlength(f"{name[:end]}…") <= width), "…")


def confusion_document(counts: np.ndarray, classes: Sequence[str], epoch: int) -> dict[str, Any]:
    """The confusion of an epoch in plain values: "counts" of up to 30 classes, else the 20 "pairs" most confused."""
    if len(classes) <= MATRIX_CLASSES:
        return {"epoch": epoch, "classes": list(classes), "counts": counts.tolist()}
    return {"epoch": epoch, "pairs": [[classes[i], classes[j], images] for i, j, images in confused(counts)]}


def confusion_picture(counts: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """A matrix int64 [classes, classes] as a picture, uint8 [height, width, 3]: a row a true class, a column one said.

    Cells are shaded by their share of the row, green where right and red where wrong. Up to 20 classes have their names
    and counts. Raises ValueError where there isn't a row and a column for each class.
    """
    if counts.shape != (len(classes), len(classes)):
        raise ValueError(f"a confusion of {len(classes)} classes is as many rows and columns, not an array {counts.shape}")
    named, small = len(classes) <= LABELLED, ImageFont.load_default(12)
    cell = max(36, round(small.getlength(f"{counts.max()}")) + 8) if named else max(1, 720 // len(classes))
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    strength = np.where(counts > 0, 0.12 + 0.68 * shares, 0.03)[:, :, None]
    hue = np.where(np.eye(len(classes), dtype=bool)[:, :, None], np.array(GOOD), np.array(BAD))
    cells = np.rint(np.array(PAPER) * (1 - strength) + hue * strength).astype(np.uint8)
    square = cells.repeat(cell, 0).repeat(cell, 1)
    if not named:
        return square
    square[::cell] = square[:, ::cell] = PAPER
    return _named(square, cell, counts, classes)


def _named(square: np.ndarray, cell: int, counts: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """A matrix's cells with the counts in them, and beside them the names and what the axes are."""
    font, small = ImageFont.load_default(13), ImageFont.load_default(12)
    short = [shortened(name, 120, font) for name in classes]
    margin = round(max(font.getlength(name) for name in short)) + 12 + AXIS
    canvas = Image.new("RGB", (margin + square.shape[1] + 4, margin + square.shape[0] + 4), PAPER)
    canvas.paste(Image.fromarray(square), (margin, margin))
    draw = ImageDraw.Draw(canvas)

    def upright(words: str, length: int, colour: tuple[int, int, int], anchor: str, x: int, y: int) -> None:
        label = Image.new("RGB", (length, AXIS), PAPER)
        ImageDraw.Draw(label).text((length / 2 if anchor == "mm" else 6, AXIS / 2), words, colour, font, anchor=anchor)
        canvas.paste(label.rotate(90, expand=True), (x, y))

    draw.text((margin + square.shape[1] / 2, AXIS / 2 + 2), "called", INK, font, anchor="mm")
    upright("is", square.shape[0], INK, "mm", 2, margin)
    for i, name in enumerate(short):
        centre = margin + i * cell + cell // 2
        draw.text((margin - 6, centre), name, SOFT, font, anchor="rm")
        upright(name, margin - AXIS, SOFT, "lm", centre - AXIS // 2, AXIS)
        for j in np.flatnonzero(counts[i]):
            draw.text((margin + int(j) * cell + cell // 2, centre), f"{counts[i, j]}", INK, small, anchor="mm")
    return np.asarray(canvas)


def png(picture: np.ndarray) -> bytes:
    """A picture, uint8 [height, width, 3], as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", optimize=True)
    return file.getvalue()


def memory() -> int:
    """The most bytes this process has held: of the GPU where PyTorch uses one, else of the machine's memory.

    0 where the system doesn't say.
    """
    torch = sys.modules.get("torch")  # whoever uses a GPU has imported it
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return int(torch.cuda.max_memory_reserved())
    try:  # Linux: getrusage would also count the process that started this one
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@dataclass(frozen=True)
class Pace:
    """How fast a run goes: what its last steps took, where older ones count less and less, and what lies between epochs."""

    images: float = 0.0  # of the steps so far, each weighed by its age
    steps: float = 0.0
    seconds: float = 0.0
    waited: float = 0.0
    pauses: int = 0  # times that it was measured and saved
    paused: float = 0.0  # seconds that took

    def step(self, images: int, seconds: float, waited: float) -> "Pace":
        """The pace after a step of so many images that took `seconds`, of which `waited` were spent waiting for data."""
        fade = 0.5 ** (seconds / HALF)
        return replace(
            self,
            images=self.images * fade + images,
            steps=self.steps * fade + 1,
            seconds=self.seconds * fade + seconds,
            waited=self.waited * fade + waited,
        )

    def pause(self, seconds: float) -> "Pace":
        """The pace after an epoch's end, whose measuring and saving took `seconds`."""
        return replace(self, pauses=self.pauses + 1, paused=self.paused + seconds)

    @property
    def images_per_second(self) -> float:
        """0 before the first step."""
        return self.images / self.seconds if self.seconds else 0.0

    @property
    def waiting(self) -> float:
        """The share of the time that is spent waiting for data."""
        return min(1.0, self.waited / self.seconds) if self.seconds else 0.0

    def left(self, steps: int, epochs: float = 0) -> float | None:
        """Seconds for so many steps, and the ends of so many epochs; None before the first step."""
        if not self.steps:
            return None
        return steps * self.seconds / self.steps + (epochs * self.paused / self.pauses if self.pauses else 0.0)
