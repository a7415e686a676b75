"""State dictionaries as people have them: PyTorch files and safetensors, with their wrappers, prefixes and other names.

A PyTorch file is read with `weights_only=True`: plain tensors, no code.
"""

import logging
import os
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from resnets.errors import need

log = logging.getLogger("resnets")

WRAPPERS = ("state_dict", "model_state_dict", "model")
PREFIXES = ("module.", "model.", "net.", "_orig_mod.")
NAMES = [(r"^linear\.(weight|bias)$", r"fc.\1")]  # CIFAR networks as people write them call the last layer so


def read_weights(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The weights in a `.pth`, `.pt`, `.th` or `.safetensors` file, under torchvision's names.

    What was peeled off (a wrapper, a prefix) is logged. Raises ValueError where the file is missing, damaged, holds
    anything but plain tensors, or no state dictionary.
    """
    source = Path(path)
    if not source.is_file():
        raise ValueError(f"there is no file {source} to read weights from")
    if source.suffix == ".safetensors":
        return renamed(_peeled(_read_safetensors(source), source))
    if source.suffix in (".pth", ".pt", ".th", ".bin", ".ckpt"):
        return renamed(_peeled(_read_pytorch(source), source))
    raise ValueError(f"{source} is neither .pth, .pt, .th nor .safetensors; those are what weights are read from")


def renamed(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Torchvision's names for the common other ones: a pure function of names."""
    found = {}
    for name, array in state.items():
        for pattern, replacement in NAMES:
            name = re.sub(pattern, replacement, name)
        found[name] = array
    return found


def _read_safetensors(source: Path) -> dict[str, np.ndarray]:
    try:
        with safetensors.safe_open(source, framework="numpy") as file:
            return {name: _as_array(file, name, source) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(f"{source} is no whole safetensors file: {error}") from None


def _as_array(file: Any, name: str, source: Path) -> np.ndarray:
    """One tensor; of a kind that NumPy lacks (bfloat16), through PyTorch."""
    try:
        return file.get_tensor(name)
    except TypeError:
        need("torch", "train", f"reading the {name} of {source.name}")
        with safetensors.safe_open(source, framework="pt") as as_torch:
            return as_torch.get_tensor(name).float().numpy()


def _read_pytorch(source: Path) -> Any:
    torch = need("torch", "train", f"reading {source.name}")
    try:
        return torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(
            f"{source} holds more than plain tensors, or is damaged; it isn't read, as that could run its code"
        ) from None
    except Exception as error:  # a damaged file makes PyTorch raise of every kind
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{source} is no whole PyTorch file: {said}") from None


def _peeled(document: Any, source: Path) -> dict[str, np.ndarray]:
    """The state dictionary inside a file's document, as arrays."""
    for wrapper in WRAPPERS:
        if isinstance(document, Mapping) and isinstance(document.get(wrapper), Mapping):
            log.info("%s: weights taken from its entry %r", source.name, wrapper)
            document = document[wrapper]
    entries = document.items() if isinstance(document, Mapping) else ()
    arrays = {name: _array(value) for name, value in entries if isinstance(name, str)}
    arrays = {name: array for name, array in arrays.items() if array is not None}
    if not arrays:
        raise ValueError(f"{source} holds no state dictionary of tensors")
    while prefix := next((prefix for prefix in PREFIXES if all(name.startswith(prefix) for name in arrays)), None):
        log.info("%s: prefix %r taken off every name", source.name, prefix)
        arrays = {name.removeprefix(prefix): array for name, array in arrays.items()}
    return arrays


def _array(value: Any) -> np.ndarray | None:
    if isinstance(value, np.ndarray):
        return value
    return value.detach().float().numpy() if hasattr(value, "detach") and value.is_floating_point() else (
        value.detach().numpy() if hasattr(value, "detach") else None)  # fmt: skip
