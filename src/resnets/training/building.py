"""The parts of a run, made from its plan: network, optimizer, average, loaders, teacher."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from resnets import machine
from resnets.data.augmentation import Augmentation
from resnets.data.cache import CachedImages
from resnets.data.dataset import ArrayImages
from resnets.data.learned import Learned
from resnets.data.loader import Loader, Samples, keeps_squares
from resnets.data.preprocessing import Preprocessing
from resnets.networks import ResNet, network
from resnets.training.features import computed
from resnets.training.feed import Feed
from resnets.training.loop import Trainer
from resnets.training.losses import class_weights
from resnets.training.normalised import Normalised
from resnets.training.optimizers.average import Average
from resnets.training.optimizers.optimizer import optimizer
from resnets.training.options import Options
from resnets.training.parts import Parts
from resnets.training.plan import Plan
from resnets.training.processes.norms import synchronised
from resnets.training.processes.world import World
from resnets.training.recipe import Recipe
from resnets.training.resizing import resized
from resnets.training.teaching import Teacher

log = logging.getLogger("resnets")


def trainer(made: Plan, options: Options, world: World, folder: Path | None = None) -> Trainer:
    """All that a run needs, before its first step. Features that are computed once are kept in the run's folder."""
    recipe = made.recipe
    if not recipe.sync_batch_norm and recipe.batch_size < 2 * world.size:
        raise ValueError(
            f"each of {world.size} processes needs two images of a batch for norms of its own, and the batch is "
            f"{recipe.batch_size}; --set sync_batch_norm=true, or fewer processes"
        )
    net = initial(made, options.seed)
    if recipe.sync_batch_norm and world.size > 1:
        synchronised(net)
    net.to(world.device).to(memory_format=torch.channels_last)
    images, held_out = loaders(made, options, world)
    training: Feed = images
    measuring: Feed = held_out
    learner: torch.nn.Module = net
    if recipe.freeze == "backbone":
        learner = net.fc
        net.requires_grad_(False).fc.requires_grad_(True)
        training, measuring = computed(net, made, (images, held_out), world, folder)
    labels = training.samples.labels
    parts = Parts(
        network=net,
        learner=learner,
        optimizer=optimizer(net, recipe),
        average=Average(net, recipe.ema_decay) if recipe.ema_decay else None,
        loader=training,
        val_loader=measuring,
        gap_loader=None if learner is not net else shuffled(held_out, options.seed),
        class_weights=class_weights(labels, len(made.classes)).to(world.device) if recipe.balance == "weight" else None,
        learned=images.learned,
    )
    if recipe.teacher:
        parts.teacher = taught(made, options, world, images)
    return Trainer(parts, recipe, made.how, world, options.seed)


def taught(made: Plan, options: Options, world: World, training: Loader) -> Teacher:
    """The teacher; its answers computed once where every epoch shows the same images."""
    recipe = made.recipe
    teacher = Teacher(recipe.teacher, made.classes, made.how, world.device)
    still = training.augmentation is not None and training.augmentation.still
    if still and not recipe.mixup and not recipe.cutmix and set(recipe.train_input) == {1.0}:
        every = Loader(training.samples, made.how, max(recipe.batch_size, 32), workers=options.workers)
        teacher.remember(every, Normalised(made.how, world.device))
    return teacher


def initial(made: Plan, seed: int) -> ResNet:
    """The network before the first step: fresh from the seed, then the weights to start from, all but an unfit head."""
    net = network(made.net, seed=seed, zero_gamma=made.recipe.zero_gamma)
    if made.start is None:
        return net
    own = net.state_dict()
    given = {name: torch.from_numpy(np.asarray(array)) for name, array in made.start.state.items() if name in own}
    if made.start.classes is None:
        given = {name: tensor for name, tensor in given.items() if not name.startswith("fc.")}
    else:  # the same classes, perhaps in another order
        place = [made.start.classes.index(name) for name in made.classes]
        given |= {name: given[name][place] for name in ("fc.weight", "fc.bias")}
    net.load_state_dict({**own, **given})
    return net


def loaders(made: Plan, options: Options, world: World) -> tuple[Loader, Loader]:
    """Those of training and validation images, of this process's part of each batch."""
    how, recipe, part = made.how, made.recipe, world.part
    workers = options.workers or max(1, machine.cores() // world.here)  # the processes of a machine share its cores
    what = recipe.augmentation(how.size, made.data.mirrors)
    training, measuring = made.samples(made.division.train), made.samples(made.division.val)
    if recipe.cache == "auto":
        training, measuring = kept(training, how, what, world.here), kept(measuring, how, None, world.here)
    loader = Loader(
        training, how, recipe.batch_size, augmentation=what, seed=options.seed, workers=workers, part=part,
        size_of=sizes(recipe, how.size, len(training) // recipe.batch_size),
    )  # fmt: skip
    loader.resize = resized
    loader.learned = Learned(len(training), recipe.skip_learned) if recipe.skip_learned else None
    at_once = max(32, -(-recipe.batch_size // recipe.accumulate))  # no more than training has in memory
    return loader, Loader(measuring, how, at_once, workers=workers, part=part)


def kept(samples: Samples, how: Preprocessing, what: Augmentation | None, sharing: int) -> Samples:
    """The samples, decoded once and kept on disk by each of `sharing` processes, where each epoch would decode them anew."""
    decodes = not isinstance(samples.images, ArrayImages) and not keeps_squares(len(samples), how, what)
    return replace(samples, images=CachedImages(samples.images, sharing=sharing)) if decodes and len(samples) else samples


def shuffled(measuring: Loader, seed: int) -> Loader:
    """Validation images as evaluation sees them, in a shuffled order."""
    return Loader(
        measuring.samples, measuring.how, measuring.batch_size, augmentation=Augmentation(), seed=seed,
        workers=measuring.workers, part=measuring.part,
    )  # fmt: skip


def sizes(recipe: Recipe, size: int, steps_per_epoch: int) -> Callable[[int], int] | None:
    """Pixels of the images of each epoch, where training doesn't see the input's own: `train_input` in equal parts."""
    if recipe.train_input == (1.0,):
        return None
    found = recipe.train_sizes(size)
    epochs = max(1, -(-recipe.total_steps(steps_per_epoch) // max(steps_per_epoch, 1)))

    def pixels(epoch: int) -> int:
        return found[min(epoch * len(found) // epochs, len(found) - 1)]

    return pixels
