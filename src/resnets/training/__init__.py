"""Training: `train`, from labelled images to a model file."""

import os
from pathlib import Path
from typing import Any

from resnets.errors import need
from resnets.model import Model, load


def need_training(purpose: str) -> None:
    """Raise MissingExtra, which says what brings it, where a library that trains isn't installed."""
    for module in ("torch", "lightning_fabric", "tensorboard"):
        need(module, "train", purpose)


def train(
    data: str | os.PathLike[str] | None = None,
    *,
    resume: str | os.PathLike[str] | None = None,
    allow_change: bool = False,
    **options: Any,
) -> Model:
    """Train a network on labelled images, and return the best model; the run folder holds it too.

    `options` are those of `Options` ("model", "init", "recipe", "out", …) and any field of a recipe (`epochs=4`). `resume`
    names a run folder to go on with, instead of `data`; a finished run returns its model, and one whose recipe, data or
    options are others than it began with goes on only with `allow_change`. Raises ValueError for a request that can't be,
    WorkFailed where the loss is no number or no image of a class can be read, and Stopped or Terminated where it was
    interrupted, with what was done saved.
    """
    return load(train_run(data, resume=resume, allow_change=allow_change, **options))


def train_run(
    data: str | os.PathLike[str] | None = None,
    *,
    resume: str | os.PathLike[str] | None = None,
    allow_change: bool = False,
    **options: Any,
) -> Path:
    """`train`, returning the run folder."""
    need_training("training")
    from resnets.training import session
    from resnets.training.options import Options

    if (data is None) == (resume is None):
        raise ValueError("train takes data, or the run folder to resume: one of the two")
    if resume is None and allow_change:
        raise ValueError("allow-change is for a run that is resumed: --resume RUN --allow-change")
    if resume is None:
        return session.start(Options.parse(os.fspath(data or ""), options))
    if "out" in options:
        raise ValueError("a resumed run stays in its folder; leave --out out")
    return session.resume(Path(resume), options, allow_change)
