"""Residual networks, complete: name any network of the paper, train it on your images, know how good it is, run it anywhere.

The verbs of the command line are functions of the same names, but for `summary` and `bench`; each is loaded when first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from resnets.architecture import Architecture as Architecture
    from resnets.conversion import convert as convert
    from resnets.data import open_dataset as open_dataset
    from resnets.data.health import check as check
    from resnets.data.packing import pack as pack
    from resnets.data.preprocessing import Preprocessing as Preprocessing
    from resnets.demonstration import demo as demo
    from resnets.evaluation import evaluate as evaluate
    from resnets.exporting import export as export
    from resnets.model import Model as Model
    from resnets.model import load as load
    from resnets.networks import network as network
    from resnets.prediction import Prediction as Prediction
    from resnets.prediction import predict as predict
    from resnets.summary import table as table
    from resnets.training import train as train
    from resnets.training.recipe import Recipe as Recipe

_HOMES = {
    "Architecture": "architecture",
    "Model": "model",
    "Prediction": "prediction",
    "Preprocessing": "data.preprocessing",
    "Recipe": "training.recipe",
    "check": "data.health",
    "convert": "conversion",
    "demo": "demonstration",
    "evaluate": "evaluation",
    "export": "exporting",
    "load": "model",
    "network": "networks",
    "open_dataset": "data",
    "pack": "data.packing",
    "predict": "prediction",
    "table": "summary",
    "train": "training",
}

__all__ = [
    "Architecture", "Model", "Prediction", "Preprocessing", "Recipe", "__version__", "check", "convert", "demo", "evaluate",
    "export", "load", "network", "open_dataset", "pack", "predict", "table", "train",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'resnets' has no attribute {name!r}")
    return getattr(importlib.import_module(f"resnets.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
