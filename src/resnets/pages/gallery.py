"""A PNG of predicted images: each with what it was called and how sure that was."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from resnets.files import replacing

TILE, TEXT, GAP = 112, 36, 8  # pixels
RIGHT, WRONG, INK = "#2e8b57", "#c0392b", "#1d2433"


class Tile(NamedTuple):
    """One image of the picture."""

    image: np.ndarray  # uint8 [height, width, 1 or 3]
    called: str
    score: float
    truth: str | None = None  # where known; a wrong call is red


def gallery(tiles: Sequence[Tile], path: Path, columns: int = 8) -> None:
    """Draw the tiles row by row to a PNG file."""
    rows = -(-len(tiles) // columns)
    size = (columns * (TILE + GAP) + GAP, rows * (TILE + TEXT + GAP) + GAP)
    canvas = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    for place, tile in enumerate(tiles):
        row, column = divmod(place, columns)
        x, y = GAP + column * (TILE + GAP), GAP + row * (TILE + TEXT + GAP)
        picture = Image.fromarray(tile.image[:, :, 0] if tile.image.shape[2] == 1 else tile.image).convert("RGB")
        scale = TILE / max(picture.size)
        smooth = Image.Resampling.NEAREST if scale > 2 else Image.Resampling.BICUBIC
        picture = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))), smooth)
        canvas.paste(picture, (x + (TILE - picture.width) // 2, y + (TILE - picture.height) // 2))
        right = tile.truth is None or tile.truth == tile.called
        draw.text((x, y + TILE + 2), f"{tile.called[:12]}  {tile.score:.0%}", RIGHT if right else WRONG, font)
        if not right:
            draw.text((x, y + TILE + 18), f"is {tile.truth}"[:16], INK, font)
    with replacing(path) as file:
        canvas.save(file, "PNG")
