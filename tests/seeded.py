"""Weights that are made from their names, so that a recorded fixture needs to hold names, shapes and logits alone."""

import zlib

import numpy as np


def seeded(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """float32, the same for the same name and shape everywhere: small for kernels, about 1 for scales and variances."""
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    last = name.rsplit("/", 1)[-1].rsplit(".", 1)[-1]
    if last in ("moving_variance", "running_var", "variance"):
        return generator.uniform(0.5, 1.5, shape).astype(np.float32)
    if last == "gamma" or (last == "weight" and len(shape) == 1):
        return generator.uniform(0.5, 1.0, shape).astype(np.float32)
    if len(shape) < 2:
        return generator.normal(0, 0.1, shape).astype(np.float32)
    return (generator.standard_normal(shape) * np.sqrt(2 / (np.prod(shape) / max(shape[-1], shape[0])))).astype(np.float32)


def images(count: int, channels: int, size: int, seed: int = 0) -> np.ndarray:
    """float32 [count, channels, size, size], normal."""
    return np.random.default_rng(seed).standard_normal((count, channels, size, size)).astype(np.float32)
