"""Images and folders for the tests of a dataset's health."""

import io
from functools import cache

import numpy as np
from PIL import Image

from resnets.data.health import check


@cache
def picture(seed, height=96, width=128):
    """A Pillow image of smooth, colourful blots: each seed another."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    image = np.zeros((height, width, 3))
    for _ in range(8):
        blot = np.exp(-(((y - rng.random()) ** 2 + (x - rng.random()) ** 2) / (2 * rng.uniform(0.05, 0.2) ** 2)))
        image += blot[..., None] * rng.uniform(-110, 110, 3)
    return Image.fromarray(np.clip(image + rng.uniform(90, 160, 3), 5, 250).astype(np.uint8))


def encoded(image, kind="JPEG", **how):
    buffer = io.BytesIO()
    image.save(buffer, kind, **how)
    return buffer.getvalue()


@cache
def jpeg(seed, **how):
    return encoded(picture(seed), "JPEG", **{"quality": 90, **how})


def put(root, files):
    """Files of a folder: relative path → bytes."""
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return root


def found(root, **how):
    """{kind: [paths of each problem]} of a folder, of what isn't too small for a photo."""
    problems = check(root, **{"size": 8, "workers": 1, **how}).problems
    return {kind: [p.paths for p in problems if p.kind == kind] for kind in dict.fromkeys(p.kind for p in problems)}
