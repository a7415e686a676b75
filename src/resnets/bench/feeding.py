"""The figures of `bench data`: the plan of `train`, its loaders timed, a few steps trained, and nothing kept."""

import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from resnets import machine
from resnets.bench import describe
from resnets.bench.loading import Stages, Stretch, again, stages, stretch, trained
from resnets.data.cache import CachedImages, by_rule
from resnets.data.loader import Batch, Loader, keeps_squares
from resnets.errors import WorkFailed
from resnets.files import cache_folder
from resnets.training.building import initial, loaders, trainer
from resnets.training.normalised import Normalised
from resnets.training.options import Options
from resnets.training.plan import SMALL, Plan, plan
from resnets.training.processes.world import World

log = logging.getLogger("resnets")

STAGES, LOADING, TRAINING = 3.0, 4.0, 5.0  # seconds that each measurement takes, about
BATCHES = (128, 16)  # images of a batch at most on a processor, up to 64 pixels and above: steps of seconds measure nothing


@dataclass(frozen=True)
class Row:
    """A stage, the loader, or training."""

    name: str
    images: int  # that were measured
    threads: int
    images_per_second: float
    waiting: float | None = None  # of training: the share of its time that goes by waiting for data

    @property
    def milliseconds(self) -> float:
        """Of one thread, an image."""
        return 1000 * self.threads / self.images_per_second

    def to_json(self) -> dict[str, Any]:
        """All of it, rounded."""
        rates = {"images_per_second": round(self.images_per_second, 2), "milliseconds": round(self.milliseconds, 7)}
        return {**asdict(self), **rates, "waiting": None if self.waiting is None else round(self.waiting, 4)}


@dataclass(frozen=True)
class Figures:
    """What `bench data` finds."""

    data: str
    images: int  # that train
    network: str
    recipe: str
    size: int  # pixels of what the network sees in the first epoch
    batch: int
    workers: int  # threads that decode
    later: str | None  # what epochs after the first read: "in memory", "cached"; None: they decode again
    kept: float  # the share of the images that is there then
    step: str  # what the network does with a batch: "training", or "features", once, where its backbone is frozen
    waiting: float  # the share of the first epoch's time that goes by waiting for data
    waiting_later: float | None
    unreadable: int  # of the images that were met
    rows: tuple[Row, ...]

    def to_json(self) -> dict[str, Any]:
        """The document of `--json`."""
        plain = {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(self).items()}
        return {"machine": describe(), **plain, "rows": [row.to_json() for row in self.rows]}


def figures(options: Options) -> Figures:
    """Plan as `train` does, measure, and throw away. Raises as `train` does."""
    machine.keep_freed_memory()  # as training does
    world = World()
    made = bounded(plan(options), world)
    normalised = Normalised(made.how, world.device)
    anew = loaders(replace(made, recipe=replace(made.recipe, cache="none")), options, world)[0]

    def brought(batch: Batch) -> None:
        normalised(batch)
        normalised.here(batch.labels)

    each = stages(anew, brought, STAGES)
    if not each.images:
        path, why = next(iter(anew.failures.items()))
        raise WorkFailed(f"none of {len(anew.failures)} images of {made.data.name} can be read ({path}: {why})")
    loader = loaders(made, options, world)[0]
    later, kept = kept_later(loader, each)
    with throwaway():
        brings = stretches(loader, brought, LOADING, later)
    with throwaway():
        step, found = trained_or_features(made, options, world, later)
    rows = [*of_stages(each, loader.workers), *named("loader", later, brings, loader.workers, waits=False)]
    return Figures(
        data=made.data.name,
        images=len(made.division.train),
        network=made.name,
        recipe=made.recipe.name,
        size=loader.size_of(0) if loader.size_of else made.how.size,
        batch=made.recipe.batch_size,
        workers=loader.workers,
        later=later,
        kept=kept,
        step=step,
        waiting=found[0].waiting,
        waiting_later=found[1].waiting if later else None,
        unreadable=len(loader.failures),
        rows=(*rows, *named(step, later, found, machine.cores())),
    )


def bounded(made: Plan, world: World) -> Plan:
    """The plan without images that measure, and on a processor with a batch that takes no minutes."""
    recipe, most = made.recipe, BATCHES[made.how.size > SMALL]
    if world.device.type == "cpu" and recipe.batch_size > most:
        size = max(recipe.repeats, most - most % recipe.repeats)
        log.info("batches of %d images here, not the recipe's %d: as much work an image", size, recipe.batch_size)
        recipe = replace(recipe, batch_size=size)
    nothing = made.division._replace(val=np.array([], np.int64), val_name="")
    return replace(made, recipe=recipe, division=nothing)


@contextmanager
def throwaway() -> Iterator[None]:
    """Within the block derived files are kept in a folder that goes with it, and nobody is told that they are."""
    before, level = os.environ.get("RESNETS_CACHE"), log.level
    with tempfile.TemporaryDirectory() as place:
        os.environ["RESNETS_CACHE"] = place
        log.setLevel(logging.WARNING)
        try:
            yield
        finally:
            log.setLevel(level)
            del os.environ["RESNETS_CACHE"]
            if before is not None:
                os.environ["RESNETS_CACHE"] = before


def kept_later(loader: Loader, each: Stages) -> tuple[str | None, float]:
    """What epochs after the first read, and the share of the images for which there is room."""
    samples = loader.samples
    if keeps_squares(len(samples), loader.how, loader.augmentation):
        return "in memory", 1.0
    if not isinstance(samples.images, CachedImages):
        return None, 0.0
    own = cache_folder().absolute()
    there = next(folder for folder in (own, *own.parents) if folder.exists())
    return "cached", min(1.0, by_rule(there) * each.images / max(1, each.decoded * len(samples)))


def stretches(loader: Loader, take: Callable[[Batch], object], seconds: float, later: str | None) -> list[Stretch]:
    """The first batches of the first epoch, and where later epochs have them otherwise, as these do."""
    first = stretch(loader, take, seconds, loader.steps)
    return [first, again(loader, take, seconds, first)] if later else [first]


def trained_or_features(made: Plan, options: Options, world: World, later: str | None) -> tuple[str, list[Stretch]]:
    """What the network does with the images, and what that takes: as `stretches`."""
    if made.recipe.freeze != "backbone":
        training = trainer(made, options, world)
        first = trained(training, TRAINING, training.steps_per_epoch)
        return "training", [first, trained(training, TRAINING, first.steps)] if later else [first]
    net = initial(made, options.seed).to(world.device).to(memory_format=torch.channels_last).eval()
    normalised = Normalised(made.how, world.device)

    def features(batch: Batch) -> None:
        precision = torch.autocast(world.device.type, torch.bfloat16, enabled=made.recipe.precision == "bf16")
        with torch.inference_mode(), precision:
            net.features(normalised(batch)).float().cpu()

    return "features", stretches(loaders(made, options, world)[0], features, TRAINING, later)


def of_stages(each: Stages, workers: int) -> list[Row]:
    """Each stage on one thread, and all of them on as many as decode, none of them ever idle."""
    parts = {"decode": each.decode, "augment": each.augment, "collate": each.collate}
    rows = [Row(name, each.images, 1, each.images / seconds) for name, seconds in parts.items()]
    return [*rows, Row("all three", each.images, workers, workers * each.images / sum(parts.values()))]


def named(name: str, later: str | None, found: list[Stretch], threads: int, waits: bool = True) -> list[Row]:
    """Stretches as rows."""
    return [
        Row(f"{name}, {when}", each.images, threads, each.images / each.seconds, each.waiting if waits else None)
        for when, each in zip(("cold", later), found, strict=False)
    ]
