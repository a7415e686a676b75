"""Validation images measured while training: each exactly once, whatever the number of processes."""

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from resnets import metrics
from resnets.data.loader import Batch
from resnets.training.processes.norms import batch_statistics
from resnets.training.processes.world import World


class Measured(NamedTuple):
    """What was found on images."""

    figures: dict[str, float]  # top1, top5, loss, ece and images
    predicted: np.ndarray  # int64 [images]
    labels: np.ndarray  # int64 [images]


@torch.inference_mode()
def measure(
    learner: nn.Module,
    batches: Iterable[Batch],
    logits_of: Callable[[Batch], Tensor],
    world: World,
    by_batch: bool = False,
) -> Measured | None:
    """The figures over the images of all processes, on each of them; None where no image is there to measure.

    `by_batch`: norms use each batch's own statistics, as in training.
    """
    learner.eval()
    found = []
    with batch_statistics(learner) if by_batch else nullcontext():
        for batch in batches:
            few = world.total([len(batch.labels) < 2])[0] if by_batch else not len(batch.labels)
            if not few:  # of the batch alone, on all processes or on none, as norms may wait for each other
                found.append((logits_of(batch).cpu().numpy(), batch.labels, batch.samples))
    every = [rows for part in world.gathered(found) for rows in part]
    if not every:
        return None
    logits, labels, places = (np.concatenate(column) for column in zip(*every, strict=True))
    order = np.argsort(places, kind="stable")  # as one process would have it
    logits, labels = logits[order], labels[order]
    return Measured({**metrics.summarise(logits, labels), "images": len(labels)}, logits.argmax(1), labels)
