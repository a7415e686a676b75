"""What is minimised: a loss of each image, from logits and one label, or two that share the image."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from resnets.training.recipe import Recipe


class Targets(NamedTuple):
    """What a batch should be taken for: each image its label, or a mixture of two."""

    labels: Tensor  # int64 [batch]
    others: Tensor | None = None  # int64 [batch], where images are mixed
    share: Tensor | None = None  # float32 [batch], of `labels`; the others have the rest

    def part(self, some: slice) -> "Targets":
        """Those of a part of the batch."""
        if self.others is None or self.share is None:
            return Targets(self.labels[some])
        return Targets(self.labels[some], self.others[some], self.share[some])

    def in_words(self, classes: Sequence[str]) -> list[str]:
        """Of each image its class, or "cat 70% dog"."""
        labels = self.labels.tolist()
        if self.others is None or self.share is None:
            return [classes[int(label)] for label in labels]
        both = zip(labels, self.others.tolist(), self.share.tolist(), strict=True)
        return [f"{classes[int(label)]} {share:.0%} {classes[int(other)]}" for label, other, share in both]


def loss(logits: Tensor, targets: Targets, recipe: Recipe, class_weights: Tensor | None = None) -> Tensor:
    """The recipe's loss of each image, float32 [batch], of logits [batch, classes].

    Cross-entropy of mixed labels is that of the soft labels they stand for. `class_weights` [classes], on the logits'
    device, weigh an image by its label; of two labels, each by its share.
    """
    logits = logits.float()
    if recipe.loss == "binary":
        each = binary(logits, targets, recipe.label_smoothing)
        return each if class_weights is None else each * by_share(targets, lambda labels: class_weights[labels])

    def cross_entropy(labels: Tensor) -> Tensor:
        each = F.cross_entropy(logits, labels, reduction="none", label_smoothing=recipe.label_smoothing)
        return each if class_weights is None else each * class_weights[labels]

    return by_share(targets, cross_entropy)


def by_share(targets: Targets, of: Callable[[Tensor], Tensor]) -> Tensor:
    """What `of` says of the labels, and of those they are mixed with, by their shares: [batch]."""
    if targets.others is None or targets.share is None:
        return of(targets.labels)
    return targets.share * of(targets.labels) + (1 - targets.share) * of(targets.others)


def binary(logits: Tensor, targets: Targets, smoothing: float) -> Tensor:
    """Each class a question of its own, yes or no, summed over the classes: [batch] (Wightman et al. 2021, section 3.1).

    Every class that has a share of the image is a yes. A no is smoothing/classes and a yes 1 − smoothing more, as timm's.
    The sum, where timm has the mean, is of the size of cross-entropy's gradient in each logit (σ − target to softmax −
    target), so that one learning rate does for both. For LAMB and AdamW the scale of a loss cancels, and rates that were
    found with the mean hold; a gradient's clipping is of the sum.
    """
    off = smoothing / logits.shape[1]
    wanted = torch.full_like(logits, off)
    share = torch.ones_like(logits[:, 0]) if targets.share is None else targets.share
    for labels, part in ((targets.labels, share), (targets.others, 1 - share)):
        if labels is not None:
            values = off + (1 - smoothing) * (part > 0).to(logits.dtype)
            wanted.scatter_reduce_(1, labels[:, None], values[:, None], "amax")
    return F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").sum(1)


def class_weights(labels: np.ndarray, classes: int) -> Tensor:
    """Weights that make the classes of these labels [images] count alike, float32 [classes]: their mean over images is 1.

    A class without images has weight 0.
    """
    counts = np.bincount(labels, minlength=classes)
    there = counts > 0
    weights = np.where(there, len(labels) / (np.maximum(counts, 1) * max(there.sum(), 1)), 0)
    return torch.from_numpy(weights.astype(np.float32))


def distilled(student_logits: Tensor, teacher_logits: Tensor, recipe: Recipe) -> Tensor:
    """How far a student's answers are from a teacher's, each image, float32 [batch] (Hinton et al. 2015, section 2).

    The divergence of the softmax of student from teacher logits [batch, classes] at the recipe's temperature T, times T²,
    which keeps its gradient's size. The teacher learns nothing. Raises ValueError where their classes differ in number.
    """
    if student_logits.shape != teacher_logits.shape:
        had, wanted = teacher_logits.shape[1], student_logits.shape[1]
        raise ValueError(
            f"the teacher tells {had} classes apart and the student {wanted}; take a teacher of the same classes"
        )
    at = recipe.teacher_temperature
    student = F.log_softmax(student_logits.float() / at, 1)
    teacher = F.log_softmax(teacher_logits.detach().float() / at, 1)
    return F.kl_div(student, teacher, reduction="none", log_target=True).sum(1) * at**2
