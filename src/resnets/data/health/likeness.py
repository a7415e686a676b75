"""Which images look the same: a hash that finds pairs fast, and a comparison of thumbnails that decides.

The hash is the perceptual hash of the DCT (Zauner 2010, "Implementation and benchmarking of perceptual image hash
functions", section 3.2.1): the signs of the 64 lowest frequencies, but the mean, of a grey thumbnail. It finds candidates
alone; whether a pair is one is decided on the thumbnails. Copies that were resized, encoded again, or made a little
brighter or darker are found. Mirrored, turned and cropped ones are not: that a bird looks left is no fault of the data.
"""

from collections.abc import Iterable, Iterator
from itertools import combinations

import numpy as np
from PIL import Image

SIDE = 32  # pixels of a thumbnail
SMALLEST = 16  # pixels of the shorter side: what is smaller has too little to tell pictures apart
FLAT = 6.0  # levels: a thumbnail whose standard deviation is less shows nothing
BYTES = 8  # of a hash: two hashes of at most 6 differing bits share two of them
FAR = 8  # differing bits of a hash: more are no candidates
CROWD = 2000  # neighbours that a hash is compared with where very many share two bytes
CHUNK = 4096  # pairs compared at once

FIELDS = 8  # × 8 of a thumbnail are compared one by one
SPOT, SMALL_SPOT = 12.0, 8.0  # levels that a field may differ once brightness is matched; the second in small images
SMALL = 64  # pixels of the shorter side: images up to this size are small, and alike sooner
UNLIKE = 0.25  # root mean square of what is left then, as a share of the contrast
TINT = 32.0  # levels that a field's colour may differ then
GAIN = 1.6  # the most that the contrast may differ
WHITE = 245.0  # levels: from here on brightening may have cut an image off
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)


def thumbnail(image: np.ndarray) -> np.ndarray:
    """uint8 [height, width, 3] → uint8 [32, 32, 3], squashed."""
    return np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def grey(thumbnails: np.ndarray) -> np.ndarray:
    """uint8 [images, 32, 32, 3] → luminance, float32 [images, 32, 32]."""
    return thumbnails @ LUMINANCE


def hashes(thumbnails: np.ndarray) -> np.ndarray:
    """uint8 [images, 32, 32, 3] → uint64 [images]. Neighbouring frequencies lie in different bytes."""
    wave = np.cos(np.pi / SIDE * np.outer(np.arange(16), np.arange(SIDE) + 0.5)).astype(np.float32)
    order = sorted(((u, v) for u in range(16) for v in range(16)), key=lambda uv: (sum(uv), uv))[1:65]
    down, across = np.array(order).T
    bits = (wave @ grey(thumbnails) @ wave.T)[:, down, across] > 0
    spread = bits.reshape(-1, 8, 8).transpose(0, 2, 1).reshape(-1, 64)
    return np.packbits(spread, axis=1).view(np.uint64).ravel()


def alike(thumbnails: np.ndarray, chosen: np.ndarray, small: np.ndarray) -> np.ndarray:
    """Pairs [n, 2] of the chosen places in uint8 [images, 32, 32, 3] that show the same. `small`, bool [chosen], says which
    are of small images. Flat ones are left out: they are all alike.
    """
    found = [np.zeros((0, 2), np.int64)]
    if len(chosen) == 0:
        return found[0]
    codes, fields, contrast = map(np.concatenate, zip(*_described(thumbnails, chosen), strict=True))
    shown = np.flatnonzero(contrast >= FLAT)
    chosen, codes, fields, spot = chosen[shown], codes[shown], fields[shown], np.where(small[shown], SMALL_SPOT, SPOT)
    for pairs in _gathered(candidates(codes)):
        for start in range(0, len(pairs), CHUNK):
            some = pairs[start : start + CHUNK]
            some = some[_fields_agree(fields[some[:, 0]], fields[some[:, 1]], spot[some].min(1))]
            one, other = (grey(thumbnails[chosen[side]]) for side in some.T)
            found.append(chosen[some[_left(one, other) <= UNLIKE]])
    return np.concatenate(found)


def _described(thumbnails: np.ndarray, chosen: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The hashes, fields and contrast (the standard deviation of luminance, in levels) of the chosen, in parts."""
    for start in range(0, len(chosen), CHUNK):
        part = thumbnails[chosen[start : start + CHUNK]]
        yield hashes(part), _fields(part), grey(part).std((1, 2))


def candidates(codes: np.ndarray) -> Iterator[np.ndarray]:
    """Pairs [n, 2] of hashes that share two of their eight bytes and differ in at most `FAR` bits, each pair once.

    For each of the 28 choices of two bytes the hashes are sorted by them, and each is paired with those that follow while
    they agree, at most `CROWD`. Pairs that agreed in an earlier choice are left out.
    """
    parts = np.ascontiguousarray(codes).view(np.uint8).reshape(-1, BYTES)
    choices = list(combinations(range(BYTES), 2))
    for turn, (one, other) in enumerate(choices):
        keys = parts[:, one].astype(np.uint16) << 8 | parts[:, other]
        order = np.argsort(keys, kind="stable")
        keys, sorted_codes = keys[order], codes[order]
        places = np.arange(len(order) - 1)
        for step in range(1, CROWD + 1):
            places = places[: np.searchsorted(places, len(order) - step)]
            places = places[keys[places] == keys[places + step]]
            if not len(places):
                break
            near = places[np.bitwise_count(sorted_codes[places] ^ sorted_codes[places + step]) <= FAR]
            pairs = np.stack([order[near], order[near + step]], 1)
            same = parts[pairs[:, 0]] == parts[pairs[:, 1]]
            known = np.zeros(len(pairs), bool)
            for first, second in choices[:turn]:
                known |= same[:, first] & same[:, second]
            yield pairs[~known]


def _gathered(parts: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The same pairs in arrays of at least `CHUNK` pairs, but the last."""
    waiting: list[np.ndarray] = []
    held = 0
    for part in parts:
        waiting.append(part)
        held += len(part)
        if held >= CHUNK:
            yield np.concatenate(waiting)
            waiting, held = [], 0
    if waiting:
        yield np.concatenate(waiting)


def _fields(thumbnails: np.ndarray) -> np.ndarray:
    """The mean of each of 8×8 fields: float32 [images, 64, 4], red, green and blue less luminance, then luminance."""
    wide = SIDE // FIELDS
    means = thumbnails.reshape(-1, FIELDS, wide, FIELDS, wide, 3).mean((2, 4), dtype=np.float32).reshape(-1, FIELDS**2, 3)
    light = means @ LUMINANCE
    return np.concatenate([means - light[..., None], light[..., None]], 2)


def _fields_agree(one: np.ndarray, other: np.ndarray, spot: np.ndarray) -> np.ndarray:
    """Whether no field of a pair, float32 [pairs, 64, 4] each, differs too much, in light or colour: bool [pairs]."""
    swap = one[..., 3].mean(1) > other[..., 3].mean(1)
    dark, light = np.where(swap[:, None, None], other, one), np.where(swap[:, None, None], one, other)
    gain, rest = _matched(dark[..., 3], light[..., 3])
    most = np.maximum(gain, 1)
    good = (gain <= GAIN) & (gain >= 1 / GAIN) & (np.abs(rest).max(1) <= spot * most)
    colour = light[..., :3] - gain[:, None, None] * dark[..., :3]
    return good & (np.abs(colour).max((1, 2)) <= TINT * most)


def _left(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """What is left of each pair of grey thumbnails once brightness is matched: a share of the contrast, float32 [pairs]."""
    one, other = one.reshape(-1, SIDE**2), other.reshape(-1, SIDE**2)
    swap = (one.mean(1) > other.mean(1))[:, None]
    light = np.where(swap, one, other)
    _, rest = _matched(np.where(swap, other, one), light)
    return np.sqrt((rest**2).mean(1)) / np.maximum(light.std(1), 1e-6)


def _matched(dark: np.ndarray, light: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The gain that makes the darker image the lighter one, and what is then left: float32 [pairs], [pairs, points].

    Least squares of light = gain · dark + offset over the points that aren't white, cut off at white as brightening does.
    """
    weight = ((dark < WHITE) & (light < WHITE)).astype(np.float32)
    weight[weight.mean(1) < 0.25] = 1
    weight /= weight.sum(1, keepdims=True)
    mean_dark, mean_light = (weight * dark).sum(1), (weight * light).sum(1)
    away = dark - mean_dark[:, None]
    gain = (weight * away * (light - mean_light[:, None])).sum(1) / np.maximum((weight * away**2).sum(1), 1e-6)
    return gain, np.clip(gain[:, None] * away + mean_light[:, None], 0, 255) - light
