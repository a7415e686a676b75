"""What an export proves: that its own runtime gives the model's answers, on images that the reader can name."""

import logging
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from resnets import machine, metrics
from resnets.data.preprocessing import Preprocessing, crop, normalise
from resnets.data.synthetic import synthetic
from resnets.errors import WorkFailed
from resnets.exporting.pictures import Pictures
from resnets.model import Model
from resnets.prediction.engines import Engine
from resnets.prediction.exported import Exported
from resnets.prediction.predictor import Predictor, Source
from resnets.prediction.timing import latency, throughput

log = logging.getLogger("resnets")

# The largest difference of a probability. What nobody photographs lies nearer to the border between classes, where one
# level of 255, which is how far two antialiased resizes differ, moves a probability more (0.013 was seen in float32).
TOLERANCE = {"real": {"float32": 0.005, "bf16": 0.05}, "synthetic": {"float32": 0.03, "bf16": 0.15}}
REDUCED = 200  # images on which decoding at a reduced scale is compared
FASTER = 1.1  # what int8 is expected to bring, against float32


@dataclass(frozen=True)
class Answers:
    """Logits of the images that could be read, and which these are."""

    logits: np.ndarray  # float32 [readable, classes]
    readable: np.ndarray  # bool [images]


def answers(predictor: Predictor, sources: Iterable[Source]) -> Answers:
    """What a predictor says of images. Raises WorkFailed where none can be read."""
    outputs = list(predictor(sources))
    logits = [output.logits for output in outputs if output.logits is not None]
    if not logits:
        raise WorkFailed(f"none of the {len(outputs)} images could be read; the first: {outputs[0].error}")
    return Answers(np.stack(logits), np.array([output.logits is not None for output in outputs]))


def reference(model: Model, exact: bool = True) -> Predictor:
    """The model as it is, in float32, JPEGs decoded in full."""
    return Predictor(model, engine="openvino", precision="float32", exact=exact)


def compared(ours: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
    """Differences of logits [images, classes] and of their probabilities, and the share whose best class is the same."""
    logits, probabilities = np.abs(ours - theirs), np.abs(metrics.softmax(ours) - metrics.softmax(theirs))
    return {
        "images": len(ours),
        "logits": {"largest": float(logits.max()), "mean": float(logits.mean())},
        "probabilities": {"largest": float(probabilities.max()), "mean": float(probabilities.mean())},
        "top1_agreement": float((ours.argmax(1) == theirs.argmax(1)).mean()),
    }


def on_synthetic(model: Model, exported: Exported, how: Preprocessing) -> dict[str, Any]:
    """The comparison on synthetic images."""
    images = synthetic(how)
    return compared(answers(reference(model), images).logits, answers(Predictor(exported, exact=True), images).logits)


def on_real(model: Model, exported: Exported, pictures: Pictures) -> dict[str, Any]:
    """The comparison on the user's images, with accuracy where they have labels, and what a reduced scale adds."""
    before = answers(reference(model), pictures.readers)
    after = answers(Predictor(exported, exact=True), pictures.readers)
    some = pictures.readers[:: -(-len(pictures.readers) // REDUCED)]
    reduced = compared(answers(reference(model), some).logits, answers(reference(model, exact=False), some).logits)
    return {
        "data": pictures.name,
        "part": pictures.part,
        **compared(before.logits, after.logits),
        "unreadable": int((~before.readable).sum()),
        "accuracy": accuracy(before, after, pictures.labels),
        "reduced_scale_decoding": reduced,
    }


def accuracy(before: Answers, after: Answers, labels: np.ndarray | None) -> dict[str, Any]:
    """Top-1 of model and export, the drop and its paired 95% interval, as fractions; agreement where there are no labels."""
    right = before.logits.argmax(1) if labels is None else labels[before.readable]
    was, now = before.logits.argmax(1) == right, after.logits.argmax(1) == right
    drop, low, high = metrics.paired_drop(was, now)
    return {
        "of": "agreement with the model" if labels is None else "labels",
        "model": float(was.mean()),
        "export": float(now.mean()),
        "drop": drop,
        "interval": [low, high],
    }


def too_much(measured: dict[str, Any], max_drop: float) -> bool:
    """Whether accuracy dropped by more than `max_drop` points, and surely dropped: the paired interval excludes zero."""
    return measured["drop"] * 100 > max_drop and measured["interval"][0] > 0


def drop_in_words(measured: dict[str, Any]) -> str:
    """The figures of `accuracy` in a few words."""
    drop, low, high = (share * 100 for share in (measured["drop"], *measured["interval"]))
    return (
        f"top-1 ({measured['of']}) {measured['model']:.2%} → {measured['export']:.2%}, a drop of {drop:.2f} points "
        f"(95% interval {low:.2f} to {high:.2f})"
    )


def hold(document: dict[str, Any], precision: str, max_drop: float) -> None:
    """Raise WorkFailed, with the figures, where an export doesn't predict what the model predicts."""
    real, made = document.get("real"), document["synthetic"]
    if precision == "int8":
        if real is not None and too_much(real["accuracy"], max_drop):
            raise WorkFailed(f"int8 costs too much: {drop_in_words(real['accuracy'])}; --max-drop is {max_drop:g}")
        return
    for where, measured in (("real", real), ("synthetic", made)):
        most = TOLERANCE[where][precision]
        if measured is not None and not measured["probabilities"]["largest"] <= most:
            raise WorkFailed(
                f"the export differs from the model on {where} images: a probability by "
                f"{measured['probabilities']['largest']:.4f}, where {precision} may differ by {most:g}"
            )


def speed(exported: Exported) -> dict[str, Any]:
    """Milliseconds of one image alone, and images a second at the best batch, in the export's own runtime, here."""
    alone = Predictor(exported)
    example = example_of(exported)
    single = example if alone.reads == "image" else example[None]
    found = {"latency_ms": round(latency(alone.compiled(1), single) * 1000, 3)}
    engine = alone.compiled(machine.cores())
    batches = (1,) if alone.reads == "image" else (1, 8, 32)
    rates = {n: throughput(engine, single if n == 1 else np.repeat(single, n, 0), n) for n in batches}
    best = max(rates, key=lambda n: rates[n])
    return {**found, "batch": best, "images_per_second": round(rates[best], 1)}


def example_of(exported: Exported) -> np.ndarray:
    """One input, as the file reads it."""
    how = exported.preprocessing
    image = synthetic(how)[1]
    if exported.input == "image":
        return np.ascontiguousarray(image)
    square = crop(image, how)
    return square if exported.input == "crops" else normalise(square[None], how)[0]


def speed_up(plain: Engine, faster: Engine, crops: np.ndarray) -> float:
    """How many times as fast one engine is as another: the ratio of medians of five rounds, interleaved."""
    rounds = [(throughput(plain, crops, len(crops)), throughput(faster, crops, len(crops))) for _ in range(5)]
    return statistics.median(fast for _, fast in rounds) / statistics.median(slow for slow, _ in rounds)
