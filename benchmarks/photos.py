"""Photos to measure on, made from scikit-learn's two sample photos: cropped, resized and with noise; always the same."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from resnets import machine

PHONE = (4000, 3000)  # width, height: 12 megapixels
OFFSETS = 100_000  # where in the noise an image's begins


def make_photos(folder: Path, count: int, size: tuple[int, int] = PHONE, quality: int = 90) -> list[Path]:
    """JPEG files of a size, (width, height), each another part of a photo with other noise."""
    from sklearn.datasets import load_sample_images

    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    noise = np.random.default_rng(0).normal(0, 6, size[0] * size[1] * 3 + OFFSETS).astype(np.int16)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:04}.jpg" for number in range(count)]
    with ThreadPoolExecutor(machine.cores()) as pool:
        list(pool.map(partial(_write, photos, noise, size, quality), range(count), paths))
    return paths


def _write(
    photos: list[Image.Image], noise: np.ndarray, size: tuple[int, int], quality: int, number: int, path: Path
) -> None:
    left, top, start = np.random.default_rng(number).integers(0, (40, 40, OFFSETS)).tolist()
    box = (left, top, left + 560, top + 380)
    pixels = np.asarray(photos[number % len(photos)].resize(size, Image.Resampling.BICUBIC, box=box)).astype(np.int16)
    pixels += noise[start : start + pixels.size].reshape(pixels.shape)
    Image.fromarray(np.clip(pixels, 0, 255, out=pixels).astype(np.uint8)).save(path, quality=quality)
