"""A model with another preprocessing than its own, or with one where it has none."""

import logging
import os
from dataclasses import replace
from pathlib import Path

from resnets.data.preprocessing import Preprocessing, named_preprocessing
from resnets.model import Model, load
from resnets.prediction.exported import Exported

log = logging.getLogger("resnets")


def prepared(model: Model | Exported, given: str | os.PathLike[str] | None) -> Model | Exported:
    """The model with the preprocessing that `given` means: a name, a JSON file, or another model's; None leaves it as it is.

    Raises ValueError where there is no such preprocessing, it has other channels than the network, or the model is an
    export, whose preprocessing was certified with it.
    """
    if given is None:
        return model
    if isinstance(model, Exported):
        raise ValueError("an export keeps the preprocessing that it was certified with; leave --preprocessing out")
    how = preprocessing_of(given)
    if model.preprocessing not in (None, how):
        log.warning("images are prepared as %s says, not as the model does", given)
    return replace(model, preprocessing=how)


def preprocessing_of(given: str | os.PathLike[str]) -> Preprocessing:
    """The preprocessing of a name, a JSON file or a model's file. ValueError where there is none."""
    how = load(given).preprocessing if Path(given).suffix == ".safetensors" else named_preprocessing(given)
    if how is None:
        raise ValueError(f"{given} doesn't say how its images are prepared either")
    return how
