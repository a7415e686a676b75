"""The recipe of a run, settled: its batch for few images, and by rule every "auto" about machine and network."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from resnets import machine
from resnets.training.options import Options
from resnets.training.recipe import Recipe
from resnets.training.shipped import recipe

log = logging.getLogger("resnets")

STEPS_AN_EPOCH = 16  # fewer batches than this, and the batch is made smaller
HEAD = 5  # times longer, and at so many times the rate, a head learns that learns alone: it takes seconds
ANEW = ("mixup", "cutmix", "teacher", "drop_path", "skip_learned", "train_input", "repeats")  # what features can't have
FEW = 1000  # images: with fewer, and no GPU, "freeze=auto" trains the head alone


def tolerates(options: Options) -> bool:
    """Whether the recipe, which may not be known yet, leaves out shards that are missing or cut off."""
    given = {field: value for field, value in options.settings.items() if field == "tolerate"}
    return recipe("quick" if options.recipe == "auto" else options.recipe, given).tolerate


def settled(options: Options, pretrained: bool, images: int) -> Recipe:
    """The recipe, its batch made small enough for few images, its precision settled."""
    name = options.recipe if options.recipe != "auto" else "finetune" if pretrained else "quick"
    settings = {field: value for field, value in options.settings.items() if (field, value) != ("learning_rate", "find")}
    chosen = recipe(name, settings)
    if options.recipe == "auto":
        log.info("recipe %s", name)
    size = chosen.batch_size
    while size > max(16, chosen.repeats) and images < STEPS_AN_EPOCH * size and "batch_size" not in settings:
        size = size // 2 // chosen.repeats * chosen.repeats
    if size != chosen.batch_size:
        rate = chosen.learning_rate * size / chosen.batch_size
        log.info(
            "batch size %d of the recipe's %d for %d images, the learning rate with it", size, chosen.batch_size, images
        )
        chosen = replace(chosen, batch_size=size, learning_rate=settings.get("learning_rate", rate))
    if images < chosen.batch_size:
        if images < chosen.repeats:
            raise ValueError(
                f"a batch shows an image {chosen.repeats} times, and {images} images to train on are fewer; --set repeats=1"
            )
        chosen = replace(chosen, batch_size=images // chosen.repeats * chosen.repeats)
    chosen = _by_rule(chosen, pretrained, images)
    if chosen.batch_size == 1 and not (chosen.freeze_statistics or chosen.freeze == "backbone"):
        raise ValueError("norms need two images of a batch or more: --batch-size 2, or --set freeze_statistics=true")
    return _head_alone(chosen, settings)


def _by_rule(chosen: Recipe, pretrained: bool, images: int) -> Recipe:
    """A recipe whose every "auto" about the machine and the network is decided, by rule and said."""
    gpu = machine.has_gpu()
    precision = machine.training_precision(chosen.precision)
    compiles = chosen.compile
    if compiles == "auto":
        lacking = machine.compiling_lacks() if gpu else ""
        compiles = "on" if gpu and not lacking else "off"
        if lacking:
            log.warning("torch.compile is left out: it needs %s", lacking)
    freeze, plain = chosen.freeze, Recipe(steps=1)
    anew = [name for name in ANEW if getattr(chosen, name) != getattr(plain, name)]
    if freeze == "auto":
        freeze = "backbone" if pretrained and not anew and not gpu and images < FEW else "none"
    if freeze == "backbone":
        if not pretrained:
            raise ValueError(
                "freeze=backbone keeps the weights that it starts from, and there are none; name some by --init"
            )
        if anew:
            raise ValueError(
                f"freeze=backbone trains on features that are computed once, and {' and '.join(anew)} would have others "
                "each time: leave it, or set freeze=none"
            )
    log.info("precision %s", precision)
    return replace(chosen, precision=precision, compile=compiles, freeze=freeze)


def _head_alone(chosen: Recipe, settings: Mapping[str, Any]) -> Recipe:
    """A recipe whose length and rate are made for a head on features, where they weren't given."""
    if chosen.freeze != "backbone":
        return chosen
    log.info("the backbone is frozen, statistics too: the head learns from features computed once")
    if not settings.keys() & {"epochs", "steps"} and chosen.epochs is not None:
        chosen = replace(chosen, epochs=HEAD * chosen.epochs)
        log.info("%g epochs, %d times the recipe's", chosen.epochs, HEAD)
    if "learning_rate" not in settings:
        chosen = replace(chosen, learning_rate=HEAD * chosen.learning_rate)
        log.info("learning rate %g, %d times the recipe's", chosen.learning_rate, HEAD)
    return chosen
