"""A frozen backbone's features, computed once: the head then learns from them in seconds, on any processor.

Each image is seen in so many views, the augmentations of as many epochs; epoch e learns from view e modulo their number.
"""

import json
import logging
from collections.abc import Generator, Mapping
from pathlib import Path

import numpy as np
import safetensors
import torch

from resnets.data.loader import Batch, Loader
from resnets.data.order import part_of, sequence
from resnets.model import write_tensors
from resnets.networks import ResNet
from resnets.training.folder.checkpoint import FEATURES
from resnets.training.normalised import Normalised
from resnets.training.plan import Plan
from resnets.training.processes.world import World

log = logging.getLogger("resnets")


class FeatureLoader:
    """Batches of features in the place of images, as `Loader` gives them."""

    def __init__(self, loader: Loader, views: np.ndarray, readable: np.ndarray) -> None:
        """`views` float32 [views, samples, features]; what isn't `readable` is left out of every batch."""
        self.loader, self.samples, self.augmentation = loader, loader.samples, loader.augmentation
        self.failures, self.waited = loader.failures, 0.0
        self.views, self.readable = views, readable

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return self.loader.steps

    def batches(self, epoch: int, start: int = 0) -> Generator[Batch, None, None]:
        """The batches of an epoch from number `start` on."""
        what, count, size = self.augmentation, len(self.samples), self.loader.batch_size
        places = np.arange(count)
        if what is not None:
            places = sequence(self.loader.seed, epoch, self.samples.labels, size, balanced=what.balance == "sample").samples
        for number in range(start, self.steps):
            chosen = places[number * size : (number + 1) * size]
            chosen = chosen[part_of(len(chosen), *self.loader.part)]
            chosen = chosen[self.readable[chosen]]
            yield Batch(self.views[epoch % len(self.views), chosen], self.samples.labels[chosen], None, chosen)


def computed(
    network: ResNet, made: Plan, loaders: tuple[Loader, Loader], world: World, folder: Path | None
) -> tuple[FeatureLoader, FeatureLoader]:
    """Loaders of features in the place of loaders of images, computed or, where the run's folder has them, read."""
    training, measuring = loaders
    views = made.recipe.views if training.augmentation and not training.augmentation.still else 1
    of = origin(made, training, views)
    found = None if folder is None else read(folder / FEATURES, of)
    if found is None:
        found = {}
        log.info("features of %d images are computed once, in %d views", len(training.samples), views)
        each = [table(network, training, view, made, world) for view in range(views)]
        found["train"], found["train_readable"] = np.stack([rows for rows, _ in each]), each[0][1]
        found["val"], found["val_readable"] = table(network, measuring, 0, made, world)
        if folder is not None and world.first:
            write_tensors(folder / FEATURES, found, of)
    return (
        FeatureLoader(training, found["train"], found["train_readable"].astype(bool)),
        FeatureLoader(measuring, found["val"][None], found["val_readable"].astype(bool)),
    )


@torch.inference_mode()
def table(network: ResNet, loader: Loader, epoch: int, made: Plan, world: World) -> tuple[np.ndarray, np.ndarray]:
    """Features float32 [samples, features] of each sample as an epoch shows it, and which could be read: uint8 [samples].

    Each process computes its part; all of them have the whole.
    """
    network.eval()
    normalised = Normalised(made.how, world.device)
    mine = []
    for batch in loader.in_order().batches(epoch):
        if len(batch.samples):
            with torch.autocast(world.device.type, torch.bfloat16, enabled=made.recipe.precision == "bf16"):
                mine.append((batch.samples, network.features(normalised(batch)).float().cpu().numpy()))
    rows = np.zeros((len(loader.samples), network.architecture.features), np.float32)
    readable = np.zeros(len(loader.samples), np.uint8)
    for samples, values in (found for part in world.gathered(mine) for found in part):
        rows[samples], readable[samples] = values, 1
    return rows, readable


def origin(made: Plan, training: Loader, views: int) -> dict[str, str]:
    """All that features depend on, as the header of their file."""
    of = {
        "network": made.name, "start": str(made.start), "preprocessing": made.how.to_json(),
        "precision": made.recipe.precision, "seed": training.seed, "views": views,
        "augmentation": str(training.augmentation), "train": made.fingerprint,
        "val": made.data.fingerprint(made.division.val),
    }  # fmt: skip
    return {"of": json.dumps(of, sort_keys=True)}


def read(path: Path, of: Mapping[str, str]) -> dict[str, np.ndarray] | None:
    """Features that a run computed before it was stopped; None where there are none that are whole and of the same."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            if file.metadata() != of:
                return None
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError):
        return None
