"""Training: `train`, from labelled images to a model file."""

import os
from pathlib import Path
from typing import Any

from resnets.errors import need
from resnets.model import Model, load


def train(
    data: str | os.PathLike[str] | None = None, *, resume: str | os.PathLike[str] | None = None, **options: Any
) -> Model:
    """Train a network on labelled images, and return the best model; the run folder holds it too.

    `options` are those of `Options` ("model", "init", "recipe", "out", …) and any field of a recipe (`epochs=4`). `resume`
    names a run folder to go on with, instead of `data`; a finished run returns its model. Raises ValueError for a request
    that can't be, WorkFailed where the loss is no number or no image of a class can be read.
    """
    return load(train_run(data, resume=resume, **options))


def train_run(
    data: str | os.PathLike[str] | None = None, *, resume: str | os.PathLike[str] | None = None, **options: Any
) -> Path:
    """`train`, returning the run folder."""
    for module in ("torch", "lightning_fabric", "tensorboard"):
        need(module, "train", "training")
    from resnets.training import session
    from resnets.training.options import Options

    if (data is None) == (resume is None):
        raise ValueError("train takes data, or the run folder to resume: one of the two")
    if resume is None:
        return session.start(Options.parse(os.fspath(data or ""), options))
    if options:
        raise ValueError(f"a resumed run keeps its options; {sorted(options)[0]} can't be given with --resume")
    return session.resume(Path(resume))
