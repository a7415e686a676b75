"""`resnets bench data`: what brings images to the network, stage by stage, and whether training waits for it."""

import os
from typing import Any

from resnets.training import need_training


def bench_data(data: str | os.PathLike[str], **options: Any) -> dict[str, Any]:
    """Measure, on these images and this machine, what happens to an image on its way to the network that `train` would take.

    `options` are those of `train` ("recipe", "input", "workers", any field of a recipe, …) without "out": nothing is kept,
    no run and no decoded image; pretrained weights that it fetches are. It takes about half a minute whatever the data's
    size, more where one step takes seconds. Gives {"machine", "rows", "waiting", "waiting_later", …}: `Figures` as JSON, a
    row a `Row`. Raises ValueError for a request that can't be, WorkFailed where no image can be read, MissingExtra without
    the libraries that train.
    """
    need_training("bench data")
    from resnets.bench.feeding import figures
    from resnets.training.options import Options

    if "out" in options:
        raise ValueError("bench data keeps no run; leave out what names its folder")
    return figures(Options.parse(os.fspath(data), options)).to_json()
