"""What a SOURCE is: the file or folder that a path means, in whatever form, as arrays under its own names."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resnets.files import read_object
from resnets.model import NOT_OURS, Model, load
from resnets.weights.ecosystem import State
from resnets.weights.foreign import PYTORCH, SHARDED, read_dictionary

KERAS = (".weights.h5", ".h5", ".hdf5", ".keras")
WEIGHTS = ("model.safetensors", f"model{SHARDED}", "pytorch_model.bin")  # in a folder, the first that is there
CONFIGURATIONS = ("config.json", "preprocessor_config.json")


@dataclass(frozen=True)
class Source:
    """Weights from elsewhere under their own names, and all that the files say of them."""

    path: Path
    form: str  # "PyTorch file", …
    weights: State = field(repr=False)
    ecosystem: str | None = None  # where the form settles it
    configuration: Mapping[str, Any] = field(default_factory=dict)  # a folder's JSON files by their names
    peeled: tuple[str, ...] = ()
    stored: str = "float32"


def open_source(given: str | os.PathLike[str], which: str | None = None) -> Source | Model:
    """The weights that a path means; a `Model` where they are ours. `which`: "plain" or "ema", where there are both.

    Raises ValueError, naming what lies there, where it is nothing that weights are read from.
    """
    from resnets.weights.forms.tensor_bundle import find_bundle, read_bundle

    path = Path(given)
    if path.is_dir() and ((path / "best.safetensors").is_file() or (path / "config.json").is_file()):
        return load(path) if (path / "best.safetensors").is_file() else _folder(path, which)
    prefix = find_bundle(path)
    if prefix is not None:
        return Source(prefix, "TensorFlow checkpoint", read_bundle(prefix), "tensorflow")
    if path.is_dir():
        raise ValueError(
            f"the folder {path} holds no weights that are known here: neither config.json (timm, transformers), nor a "
            "TensorFlow checkpoint's .index, nor best.safetensors (a run)"
        )
    if path.name.endswith(KERAS):
        from resnets.weights.forms.hdf5 import read_keras

        if not path.is_file():
            raise ValueError(f"there is no file {path} to read weights from")
        return Source(path, f"Keras {''.join(path.suffixes[-2:]) if path.name.endswith('.weights.h5') else path.suffix}",
                      read_keras(path), "keras")  # fmt: skip
    if path.suffix == ".safetensors":
        try:
            return load(path)
        except ValueError as error:
            if NOT_OURS not in str(error):
                raise
    elif path.is_file() and path.suffix not in PYTORCH and not path.name.endswith(SHARDED):
        raise ValueError(
            f"{path.name} is no form that weights are read from: .pth, .pt, .th, .safetensors, .h5, .keras, a TensorFlow "
            "checkpoint's prefix or .index, or a folder of timm or transformers"
        )
    elif not path.exists() and path.suffix not in PYTORCH:
        raise ValueError(f"there is no file or checkpoint {path} to read weights from")
    found = read_dictionary(path, which)
    form = "safetensors file" if path.suffix in (".safetensors", ".json") else "PyTorch file"
    return Source(path, form, found.weights, peeled=found.peeled, stored=found.stored)


def _folder(path: Path, which: str | None) -> Source:
    """A folder as timm and transformers write them."""
    configuration = {name: read_object(path / name) for name in CONFIGURATIONS if (path / name).is_file()}
    config = configuration["config.json"]
    if "architecture" in config:  # timm's, also where transformers wraps it
        ecosystem, title = "timm", "timm folder"
    elif "model_type" in config or "architectures" in config:
        ecosystem, title = "huggingface", "transformers folder"
    else:
        raise ValueError(
            f"{path / 'config.json'} is neither transformers' (it has no model_type) nor timm's (it has no architecture)"
        )
    file = next((path / name for name in WEIGHTS if (path / name).is_file()), None)
    if file is None:
        raise ValueError(f"the folder {path} has a config.json and no weights: one of {', '.join(WEIGHTS)} is wanted")
    found = read_dictionary(file, which)
    return Source(path, title, found.weights, ecosystem, configuration, found.peeled, found.stored)
