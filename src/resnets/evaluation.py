"""A model on a dataset: how good it is, on which images, and how far to trust the figure."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from resnets import metrics
from resnets.data import Dataset, open_dataset
from resnets.data.dataset import held_out
from resnets.errors import WorkFailed
from resnets.model import Model
from resnets.prediction.exported import Exported, open_model
from resnets.prediction.predictor import Predictor, Reader

log = logging.getLogger("resnets")

HELD_OUT = "held-out"
ALL = "all"


class Part(NamedTuple):
    """Which images of a dataset are measured, and what to know about that."""

    name: str
    indices: np.ndarray
    note: str = ""


@dataclass(frozen=True)
class Evaluation:
    """What was measured, image by image and in sum."""

    figures: dict[str, Any]  # the JSON document of `resnets evaluate`
    keys: Sequence[str]  # of the images measured, in order
    labels: np.ndarray  # int64 [images], in the model's classes
    logits: np.ndarray  # float32 [images, classes]
    unreadable: dict[str, str]  # relative path → why


def evaluate(
    model: Model | Exported | str | os.PathLike[str],
    data: Dataset | str | os.PathLike[str],
    *,
    split: str | None = None,
    **how: Any,
) -> dict[str, Any]:
    """Measure a model on labelled images: {"top1", "top5", "loss", "ece", "images", "split", …}, accuracies as fractions.

    `split` is the data's own ("test"), "held-out" or "all"; without it: test, else val, else what this model held out, else
    all. `how` is `Predictor`'s engine, precision, exact, mirror, batch and lanes. Raises ValueError where model and data
    share no class or there is no such split, and WorkFailed where no image could be read.
    """
    return examine(model, data, split=split, **how).figures


def examine(
    model: Model | Exported | str | os.PathLike[str],
    data: Dataset | str | os.PathLike[str],
    *,
    split: str | None = None,
    **how: Any,
) -> Evaluation:
    """`evaluate` with every image's logits, for reports."""
    loaded = model if isinstance(model, Model | Exported) else open_model(model)
    dataset = data if isinstance(data, Dataset) else open_dataset(data)
    part = choose(loaded, dataset, split)
    labels = dataset.labels_as(loaded.classes)[part.indices]
    known = part.indices[labels >= 0]
    if not len(known):
        ours, theirs = ", ".join(loaded.classes[:5]), ", ".join(dataset.classes[:5])
        raise ValueError(
            f"model and data share no class: the model knows {ours} …, {dataset.name} ({part.name}) has {theirs} …"
        )
    predictor = Predictor(loaded, **how)
    predictor.announce()
    if predictor.mirror and not dataset.mirrors:
        log.warning("a mirror image of %s is something else: mirror is likely to make answers worse", dataset.name)
    good, logits, reasons = _logits(predictor, dataset, known)
    keys = dataset.keys(known)
    unreadable = {keys[place]: reason for place, reason in reasons.items()}
    if not good.any():
        raise WorkFailed(f"none of the {len(known)} images could be read; the first: {keys[0]}: {unreadable[keys[0]]}")
    right = labels[labels >= 0][good]
    figures = {
        **metrics.summarise(logits, right),
        "images": len(right),
        "split": part.name,
        "interval": list(metrics.interval(metrics.top_k(logits, right, 1), len(right))),
        "classes": _per_class(loaded, logits, right),
        "unreadable": len(unreadable),
        "unknown_class": int((labels < 0).sum()),
        "data": dataset.name,
        "engine": predictor.engine,
        "precision": predictor.precision,
        "exact": predictor.exact,
        "mirror": predictor.mirror,
        "note": part.note,
    }
    _say(loaded, dataset, part, figures, unreadable)
    return Evaluation(figures, dataset.keys(known[good]), right, logits, unreadable)


def _logits(predictor: Predictor, data: Dataset, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
    """Which images can be read, bool [images]; their logits, float32 [readable, classes]; and why others can't, by place."""
    readers: Iterator[Reader] = (partial(data.images.read, int(index)) for index in indices)
    good, reasons, logits = np.zeros(len(indices), bool), {}, np.empty((0, 0), np.float32)
    for place, output in enumerate(predictor(readers)):
        if output.logits is None:
            reasons[place] = output.error or ""
            continue
        if not len(logits):
            logits = np.empty((len(indices), len(output.logits)), output.logits.dtype)
        logits[place - len(reasons)] = output.logits
        good[place] = True
    return good, logits[: len(indices) - len(reasons)], reasons


def choose(model: Model | Exported, data: Dataset, split: str | None) -> Part:
    """The images to measure: those of `split`, or by the rule of `evaluate`."""
    held_in = data.splits.get("train", data.indices()) if data.splits else data.indices()
    rule = model.data.get("held_out", {})
    hashed = rule.get("rule") == "hash"
    if split == ALL:
        return Part(ALL, data.indices())
    if split is None:
        split = next((name for name in ("test", "val") if name in data.splits), None)
    if split == HELD_OUT or (split is None and hashed and _trained_on(model, data, held_in, rule)):
        if not hashed:
            raise ValueError("this model held out no images by the hash rule; choose a split of the data, or all")
        mask = held_out(data.keys(held_in), rule["fraction"], rule["seed"])
        return Part(HELD_OUT, held_in[mask], "these images also chose the best epoch")
    if split is None:
        return Part(ALL, data.indices(), "images that trained the model may be among them" if hashed else "")
    chose = rule.get("rule") == "split" and rule.get("split") == split and model.data.get("name") == data.name
    return Part(split, data.indices(split), "these images also chose the best epoch" if chose else "")


def _trained_on(model: Model | Exported, data: Dataset, held_in: np.ndarray, rule: Mapping[str, Any]) -> bool:
    """Whether a model that held images out by the hash rule was trained on this data, which may have another name now."""
    if model.data.get("name") == data.name:
        return True
    trained = held_in[~held_out(data.keys(held_in), rule["fraction"], rule["seed"])]
    return data.fingerprint(trained) == model.data.get("fingerprint")


def _per_class(model: Model | Exported, logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Images and top-1 accuracy of each class that was measured."""
    counts = metrics.confusion(logits.argmax(1), labels, len(model.classes))
    return {
        name: {"images": int(row.sum()), "top1": float(row[index] / row.sum())}
        for index, (name, row) in enumerate(zip(model.classes, counts, strict=True))
        if row.sum()
    }


def _say(model: Model | Exported, data: Dataset, part: Part, figures: dict[str, Any], unreadable: dict[str, str]) -> None:
    """What a reader of the figures has to know, once."""
    log.info("measured on %s of %s%s", part.name, data.name, f"; {part.note}" if part.note else "")
    here = {data.classes[label] for label in np.unique(data.labels[part.indices])}
    if unknown := sorted(here - set(model.classes)):
        log.warning("%d images left out: the model has no class %s", figures["unknown_class"], ", ".join(unknown[:5]))
    if missing := [name for name in model.classes if name not in here]:
        log.warning("no image of %d of the model's classes here: %s", len(missing), ", ".join(missing[:5]))
    for path, reason in list(unreadable.items())[:10]:
        log.warning("not read: %s: %s", path, reason)
    if len(unreadable) > 10:
        log.warning("not read: %d more", len(unreadable) - 10)


def write_report(folder: Path, model: Model | Exported, evaluation: Evaluation) -> None:
    """metrics.json, predictions.csv and report.html of an evaluation, in a folder that is made if it isn't there."""
    from resnets.files import write_json
    from resnets.pages.evaluation import evaluation_page
    from resnets.prediction.tables import table_row, write_table

    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "metrics.json", evaluation.figures)
    probabilities = metrics.softmax(evaluation.logits)
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, : min(5, len(model.classes))]
    rows = (
        table_row(key, [model.classes[index] for index in best], [round(float(score[index]), 6) for index in best], None)
        for key, best, score in zip(evaluation.keys, order, probabilities, strict=True)
    )
    write_table(folder / "predictions.csv", rows, order.shape[1])
    page = evaluation_page(model.classes, evaluation.figures, probabilities, evaluation.labels, evaluation.keys)
    (folder / "report.html").write_text(page, encoding="utf-8")
