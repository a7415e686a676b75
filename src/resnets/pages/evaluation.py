"""The report of an evaluation: figures, calibration, what is confused with what, and the surest mistakes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from resnets import metrics
from resnets.pages.charts import matrix, reliability
from resnets.pages.shell import figures, page, section, table

MATRIX_CLASSES = 30  # with more, the confused pairs are listed alone


def evaluation_page(
    names: Sequence[str], measured: Mapping[str, Any], probabilities: np.ndarray, labels: np.ndarray, keys: Sequence[str]
) -> str:
    """A self-contained HTML page. `names` are the model's classes, `probabilities` float32 [images, classes], `labels` int64
    [images], `keys` their paths."""
    predicted = probabilities.argmax(1)
    counts = metrics.confusion(predicted, labels, len(names))
    low, high = measured["interval"]
    parts = [figures([
        (f"{measured['top1']:.2%}", f"top-1 on {measured['images']:,} images"),
        (f"{low:.1%} – {high:.1%}", "its 95% interval"),
        (f"{measured['top5']:.2%}", "top-5"),
        (f"{measured['ece']:.3f}", "expected calibration error"),
        (f"{measured['loss']:.3f}", "loss"),
    ])]  # fmt: skip
    parts.append(
        section("Calibration", f'<div class="charts">{reliability(metrics.calibration(probabilities, labels)[1])}</div>')
    )
    if len(names) <= MATRIX_CLASSES:
        parts.append(section("What is called what", matrix(counts, names)))
    pairs = [(names[i], names[j], images) for i, j, images in metrics.confused(counts)]
    parts.append(section("Most confused", table(["is", "called", "images"], pairs)))
    wrong = np.flatnonzero(predicted != labels)
    surest = wrong[np.argsort(-probabilities[wrong].max(1), kind="stable")][:30]
    rows = [(keys[i], names[int(labels[i])], names[int(predicted[i])], float(probabilities[i].max())) for i in surest]
    parts.append(section("Surest mistakes", table(["image", "is", "called", "score"], rows)))
    classes = [(name, row["images"], row["top1"]) for name, row in measured["classes"].items()]
    parts.append(section("Classes", table(["class", "images", "top-1"], classes)))
    note = f"; {measured['note']}" if measured["note"] else ""
    how = [measured["engine"], measured["precision"], *["averaged with mirror images"] * measured["mirror"]]
    lead = f"Measured on {measured['split']} of {measured['data']}{note}. {', '.join(how)}."
    return page(f"How good is it? {measured['data']}", lead, *parts)
