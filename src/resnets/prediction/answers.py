"""What a model says of an image, and the count of what came of many."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from resnets.metrics import softmax
from resnets.prediction.predictor import Output

log = logging.getLogger("resnets")


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image: its class names and their scores, the likeliest first; or `error`."""

    path: str | None  # None for an image that came without one
    labels: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()  # probabilities
    error: str | None = None  # why the image couldn't be read
    features: np.ndarray | None = field(default=None, repr=False, compare=False)  # float32, pooled; where asked for

    def top(self, count: int = 1) -> list[tuple[str, float]]:
        """The likeliest classes with their scores: [("tabby", 0.91), …]."""
        return list(zip(self.labels[:count], self.scores[:count], strict=True))

    def to_json(self) -> dict[str, Any]:
        """{"path", "labels", "scores"}, and "features" where they were asked for; or {"path", "error"}."""
        if self.error is not None:
            return {"path": self.path, "error": self.error}
        said = {"path": self.path, "labels": list(self.labels), "scores": list(self.scores)}
        return said if self.features is None else {**said, "features": self.features.tolist()}


@dataclass(frozen=True)
class Wanted:
    """What is asked of each answer. Raises ValueError for what can't be."""

    top: int | None = None  # that many classes; all if None
    above: float = 0.0  # and only those with at least this score
    features: bool = False  # the pooled vector too

    def __post_init__(self) -> None:
        if self.top is not None and self.top < 1:
            raise ValueError(f"top is at least 1, not {self.top}")
        if not 0 <= self.above <= 1:
            raise ValueError(f"above is a score from 0 to 1, not {self.above}")


def prediction(path: str | None, output: Output, classes: tuple[str, ...], wanted: Wanted) -> Prediction:
    """Names and scores, sorted, of one output of a `Predictor`."""
    if output.logits is None:
        return Prediction(path, error=output.error)
    scores = softmax(output.logits)
    order = [int(index) for index in np.argsort(-scores, kind="stable")[: wanted.top] if scores[index] >= wanted.above]
    return Prediction(
        path,
        tuple(classes[index] for index in order),
        tuple(round(float(scores[index]), 6) for index in order),
        features=output.features if wanted.features else None,
    )


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
