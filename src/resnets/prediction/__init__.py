"""Predicting: `predict` one image or many, `predict_to` a table, and the engines behind them."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, overload

import numpy as np
from PIL import Image

from resnets.model import Model
from resnets.prediction.answers import Counted, Prediction, Wanted, prediction
from resnets.prediction.bulk import Written, predict_to
from resnets.prediction.exported import Exported, open_model
from resnets.prediction.paths import Listed, expand
from resnets.prediction.predictor import Predictor, Source

__all__ = ["Counted", "Prediction", "Wanted", "Written", "predict", "predict_to", "prediction"]

One = str | os.PathLike[str] | bytes | np.ndarray | Image.Image


@overload
def predict(model: Model | Exported | str | os.PathLike[str], images: One, **how: Any) -> Prediction: ...
@overload
def predict(model: Model | Exported | str | os.PathLike[str], images: Iterable[One], **how: Any) -> Iterator[Prediction]: ...
def predict(
    model: Model | Exported | str | os.PathLike[str],
    images: One | Iterable[One],
    *,
    top: int | None = None,
    above: float = 0.0,
    features: bool = False,
    **how: Any,
) -> Prediction | Iterator[Prediction]:
    """Classify one image, or many: an iterator, in order, of which a few batches are in memory at a time.

    An image is a file's path, its bytes, a PIL image, or uint8 [height, width, channels]; in a list, a path may also be
    a folder, a glob or a manifest. A single folder counts as a list of one. `top` keeps that many classes (all if not
    given), `above` those with at least that score; `features` adds the pooled vector; `how` is `Predictor`'s engine,
    precision, exact, mirror, batch and lanes. Raises ValueError for a model that can't be loaded and for options that can't
    be; an unreadable file is a `Prediction` with `error`.
    """
    loaded = model if isinstance(model, Model | Exported) else open_model(model)
    wanted = Wanted(top, above, features)
    predictor = Predictor(loaded, **how)
    predictor.announce()
    if isinstance(images, str | os.PathLike) and Path(images).is_dir():
        images = [images]
    if isinstance(images, str | os.PathLike | bytes | np.ndarray | Image.Image):
        return next(_predictions(predictor, loaded.classes, [images], wanted))
    return _predictions(predictor, loaded.classes, _expanded(images), wanted)


def _predictions(
    predictor: Predictor, classes: tuple[str, ...], images: Iterable[One], wanted: Wanted
) -> Iterator[Prediction]:
    paths: list[str | None] = []

    def noted() -> Iterator[Source]:
        for image in images:
            paths.append(os.fspath(image) if isinstance(image, str | os.PathLike) else None)
            yield image

    for output in predictor(noted()):
        yield prediction(paths.pop(0), output, classes, wanted)


def _expanded(images: Iterable[One]) -> Iterator[One]:
    if isinstance(images, Listed):
        yield from images
        return
    for image in images:
        if isinstance(image, str | os.PathLike):
            yield from expand([image])
        else:
            yield image
