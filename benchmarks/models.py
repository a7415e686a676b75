"""Model files with random weights, for measuring time: what the weights are changes none."""

from pathlib import Path

import numpy as np

from resnets.architecture import named
from resnets.data.preprocessing import Preprocessing
from resnets.graph import weight_shapes
from resnets.model import Model


def random_model(name: str, path: Path, size: int = 224) -> Path:
    """A model file of a named network with random weights, of a scale that neither grows nor fades from block to block."""
    net = named(name)
    generator = np.random.default_rng(0)
    state = {}
    for key, shape in weight_shapes(net).items():
        if len(shape) > 1:
            state[key] = generator.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape).astype(np.float32)
        elif key.endswith("running_var"):
            state[key] = np.ones(shape, np.float32)
        elif key.endswith("weight"):  # of a norm: half the variance, since a block adds two branches
            state[key] = np.full(shape, 0.5**0.5, np.float32)
        else:
            state[key] = generator.normal(0, 0.05, shape).astype(np.float32)
    classes = tuple(f"class {index}" for index in range(net.classes))
    return Model(net, classes, Preprocessing(size=size), state).save(path)
