"""How good a classifier is: accuracy, calibration, and how far to trust either. NumPy alone."""

import math

import numpy as np

BINS = 15  # of the expected calibration error (Guo et al. 2017)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities [images, classes] of logits, float32."""
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def averaged(logits: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Logits [images, classes], float32, whose probabilities are the means of two answers' probabilities."""
    return np.logaddexp(_log_softmax(logits), _log_softmax(others)) - np.float32(np.log(2))


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def top_k(logits: np.ndarray, labels: np.ndarray, k: int) -> float:
    """The share of images whose label is among the k largest logits, of equal ones those of lower index, as `argmax` has it.

    A label whose logit is no number is not.
    """
    own = logits[np.arange(len(labels)), labels][:, None]
    before = (logits == own) & (np.arange(logits.shape[1]) < labels[:, None])
    place = ((logits > own) | before).sum(1)
    return float(((place < k) & np.isfinite(own[:, 0])).mean())


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """The mean negative log-likelihood, in nats."""
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    return float((np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(labels)), labels]).mean())


def calibration(probabilities: np.ndarray, labels: np.ndarray) -> tuple[float, list[tuple[float, float, int]]]:
    """The expected calibration error, and of each of 15 equal bins of confidence (mean confidence, accuracy, images)."""
    confidence = probabilities.max(1)
    right = probabilities.argmax(1) == labels
    which = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    bins = []
    for index in range(BINS):
        inside = which == index
        if inside.any():
            bins.append((float(confidence[inside].mean()), float(right[inside].mean()), int(inside.sum())))
    error = sum(abs(sure - accurate) * count for sure, accurate, count in bins) / len(labels)
    return float(error), bins


def interval(share: float, count: int, z: float = 1.959964) -> tuple[float, float]:
    """The 95% interval of a share seen on `count` images (Wilson's); (0, 1) where there are none."""
    if not count:
        return 0.0, 1.0
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return max(0.0, centre - half), min(1.0, centre + half)


def confusion(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """How many images of class i were called j: int64 [classes, classes]."""
    return np.bincount(labels * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def confused(counts: np.ndarray, limit: int = 20) -> list[tuple[int, int, int]]:
    """The most confused pairs of int64 [classes, classes]: (is, called, images), the most images first, none with 0."""
    off = counts.copy()
    np.fill_diagonal(off, 0)
    pairs = [divmod(int(index), len(counts)) for index in np.argsort(-off, axis=None, kind="stable")[:limit]]
    return [(i, j, int(off[i, j])) for i, j in pairs if off[i, j]]


def summarise(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """top1, top5, loss and ece of logits [images, classes] and labels [images]; accuracies are fractions."""
    return {
        "top1": top_k(logits, labels, 1),
        "top5": top_k(logits, labels, 5),
        "loss": cross_entropy(logits, labels),
        "ece": calibration(softmax(logits), labels)[0],
    }


def paired_drop(before: np.ndarray, after: np.ndarray, z: float = 1.959964) -> tuple[float, float, float]:
    """By how much accuracy fell between two answers to the same images, with its 95% interval: (drop, low, high), fractions.

    `before` and `after` say of each image whether it was right. The interval is of the mean of paired differences.
    """
    difference = before.astype(np.float64) - after
    drop, half = float(difference.mean()), z * float(difference.std()) / math.sqrt(len(difference))
    return drop, drop - half, drop + half
