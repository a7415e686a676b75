"""A picture of what a network will see while it trains."""

import os
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from resnets.files import write_bytes
from resnets.training.building import loaders
from resnets.training.folder.watching import SHOWN, as_seen, png, sample_grid
from resnets.training.mixing import mix_of, mixed
from resnets.training.normalised import Normalised
from resnets.training.options import Options
from resnets.training.plan import Plan, plan
from resnets.training.processes.world import World
from resnets.training.shipped import recipe as shipped
from resnets.weights.pretrained import pretrained_for


def preview(
    data: str, out: str | os.PathLike[str], recipe: str | None = None, size: int | None = None, seed: int = 0
) -> Path:
    """Draw the first images of a run with everything that the recipe does to them, each over its class, as a PNG file.

    `recipe` is a name or a TOML file, by default the one that `train` takes; `size` the input in pixels, by default the
    network's. Raises ValueError where a run couldn't begin so, or `out` is no .png in a folder that is there.
    """
    check_picture(out)
    options = Options.parse(data, {"init": "none", "recipe": recipe or "quick", "input": size, "seed": seed})
    images, names = seen(_planned(options, recipe), options)
    write_bytes(Path(out), png(sample_grid(images, names)))
    return Path(out)


def check_picture(out: str | os.PathLike[str]) -> None:
    """ValueError where no picture can be written to `out`."""
    path = Path(out)
    if path.suffix.lower() != ".png":
        raise ValueError(f"a preview is a picture: FILE.png, not {path.name}")
    if not path.absolute().parent.is_dir():
        raise ValueError(f"there is no folder {path.parent} to write {path.name} to")


def seen(made: Plan, options: Options) -> tuple[np.ndarray, list[str]]:
    """The first images of a run as the network sees them, uint8 [n, size, size, channels], and the class of each."""
    world = World()
    loader, _ = loaders(made, options, world)
    normalised = Normalised(made.how, world.device)
    images: list[np.ndarray] = []
    names: list[str] = []
    with closing(loader.batches(0)) as batches:
        for number, batch in enumerate(batches):
            labels = torch.from_numpy(batch.labels).to(world.device)
            pixels, targets = mixed(normalised(batch), labels, mix_of(options.seed, 0, number, made.recipe))
            images.append(as_seen(pixels.float().cpu().numpy(), made.how))
            names += targets.in_words(made.classes)
            if len(names) >= SHOWN:
                break
    return np.concatenate(images), names


def _planned(options: Options, recipe: str | None) -> Plan:
    """The plan of a run from scratch, with the recipe that it would have from the weights that `train` takes by itself.

    Nothing is fetched, and no decoded image is kept.
    """
    made = plan(options)
    chosen = made.recipe
    if recipe is None and pretrained_for(made.net) is not None:
        chosen = replace(shipped("finetune"), batch_size=chosen.batch_size)
    return replace(made, recipe=replace(chosen, cache="none"))
