"""Predicting: `predict`, and the engines and tables behind it."""

import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from PIL import Image

from resnets.metrics import softmax
from resnets.model import Model
from resnets.prediction.exported import Exported, open_model
from resnets.prediction.paths import expand
from resnets.prediction.predictor import Output, Predictor, Source

log = logging.getLogger("resnets")

One = str | os.PathLike[str] | bytes | np.ndarray | Image.Image


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image: its class names and their scores, the likeliest first; or `error`."""

    path: str | None  # None for an image that came without one
    labels: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()  # probabilities
    error: str | None = None  # why the image couldn't be read

    def top(self, count: int = 1) -> list[tuple[str, float]]:
        """The likeliest classes with their scores: [("tabby", 0.91), …]."""
        return list(zip(self.labels[:count], self.scores[:count], strict=True))

    def to_json(self) -> dict[str, Any]:
        """{"path", "labels", "scores"}, or {"path", "error"}."""
        if self.error is not None:
            return {"path": self.path, "error": self.error}
        return {"path": self.path, "labels": list(self.labels), "scores": list(self.scores)}


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
    **how: Any,
) -> Prediction | Iterator[Prediction]:
    """Classify one image, or many: an iterator, in order, of which a few batches are in memory at a time.

    An image is a file's path, its bytes, a PIL image, or uint8 [height, width, channels]; in a list, a path may also be
    a folder, a glob or a manifest. A single folder counts as a list of one. `top` keeps that many classes (all if not
    given), `above` those with at least that score; `how` is `Predictor`'s engine, precision, exact, batch and lanes. Raises
    ValueError for a model that can't be loaded and for options that can't be; an unreadable file is a `Prediction` with
    `error`.
    """
    loaded = model if isinstance(model, Model | Exported) else open_model(model)
    _check_range(top, above)
    predictor = Predictor(loaded, **how)
    if isinstance(images, str | os.PathLike) and Path(images).is_dir():
        images = [images]
    if isinstance(images, str | os.PathLike | bytes | np.ndarray | Image.Image):
        return next(_predictions(predictor, loaded.classes, [images], top, above))
    return _predictions(predictor, loaded.classes, _expanded(images), top, above)


class Counted:
    """Predictions passed on one by one, with a count of what came of them."""

    def __init__(self, answers: Iterator[Prediction]) -> None:
        self.answers = answers
        self.predicted = 0
        self.failed = 0

    def __iter__(self) -> Iterator[Prediction]:
        for answer in self.answers:
            self.predicted += answer.error is None
            self.failed += answer.error is not None
            yield answer

    def status(self) -> int:
        """The exit status: 0 if at least one image was predicted. Failures are counted on standard error."""
        if self.failed:
            log.warning("%d of %d images couldn't be read", self.failed, self.failed + self.predicted)
        return 0 if self.predicted else 1


def _predictions(
    predictor: Predictor, classes: tuple[str, ...], images: Iterable[One], top: int | None, above: float
) -> Iterator[Prediction]:
    paths: list[str | None] = []

    def noted() -> Iterator[Source]:
        for image in images:
            paths.append(os.fspath(image) if isinstance(image, str | os.PathLike) else None)
            yield image

    for output in predictor(noted()):
        yield prediction(paths.pop(0), output, classes, top, above)


def prediction(path: str | None, output: Output, classes: tuple[str, ...], top: int | None, above: float) -> Prediction:
    """Names and scores, sorted, of one output of a `Predictor`."""
    if output.logits is None:
        return Prediction(path, error=output.error)
    scores = softmax(output.logits)
    order = [int(index) for index in np.argsort(-scores, kind="stable")[:top] if scores[index] >= above]
    return Prediction(path, tuple(classes[index] for index in order), tuple(round(float(scores[i]), 6) for i in order))


def _expanded(images: Iterable[One]) -> Iterator[One]:
    for image in images:
        if isinstance(image, str | os.PathLike):
            yield from expand([image])
        else:
            yield image


def _check_range(top: int | None, above: float) -> None:
    if top is not None and top < 1:
        raise ValueError(f"top is at least 1, not {top}")
    if not 0 <= above <= 1:
        raise ValueError(f"above is a score from 0 to 1, not {above}")
