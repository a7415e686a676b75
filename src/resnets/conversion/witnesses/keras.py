"""Keras as a witness: Keras Applications' network, with the file's weights loaded by Keras itself, over PyTorch.

The network is built anew, without the softmax at its end, and not from a file's configuration, which could run code.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from resnets.architecture import Architecture
from resnets.errors import need
from resnets.weights.forms.hdf5 import HDF5, ROOTS
from resnets.weights.forms.keras_program import built, keras_on_torch

LIBRARY = "keras"
BATCH = 8  # images at once


def logits(path: Path, net: Architecture, tensors: np.ndarray) -> np.ndarray:
    """Keras' logits, float32 [images, classes], of float32 [images, channels, height, width]."""
    keras = keras_on_torch("checking with Keras")
    torch = need("torch", "convert", "checking with Keras")
    images = np.ascontiguousarray(tensors.transpose(0, 2, 3, 1), np.float32)
    with keras.device("cpu"), torch.no_grad():
        model = built(keras, net, activation=None)
        _load(model, path)
        batches = (images[start : start + BATCH] for start in range(0, len(images), BATCH))
        return np.concatenate([keras.ops.convert_to_numpy(model(batch, training=False)) for batch in batches])


def _load(model: Any, path: Path) -> None:
    """Load a file's weights, under the suffix that Keras tells its form by."""
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / f"model{_suffix(path)}"
        link.symlink_to(path.absolute())
        model.load_weights(link)


def _suffix(path: Path) -> str:
    with path.open("rb") as file:
        if file.read(len(HDF5)) != HDF5:
            return ".keras"
    h5py = need("h5py", "convert", "checking with Keras")
    with h5py.File(path, "r") as file:
        return ".weights.h5" if any(root in file for root in ROOTS) else ".h5"


def tensors(path: Path, images: list[np.ndarray]) -> np.ndarray | None:
    """None: a Keras file says nothing of what happens to an image."""
    return None
