"""Files to augmented, normalised batches: our loader beside torchvision's and timm's, and beside what decoding allows.

    python benchmarks/data.py [CIFAR] [--images 1000] [--quick] [--json] [--out FILE]

It needs `pip install ".[dev,convert]"`. 1,000 JPEG photos of 500×375 pixels and a tenth as many of 4000×3000, in two
classes, random-resized crops of 224 pixels, mirrored or not, normalised, in batches of 32; and files of 32×32 pixels,
shifted and mirrored: those of CIFAR, a folder of class folders, else made. Every way has the same files, is warmed up first,
and is timed in turn with the others, three seconds or more each time, with a worker or thread a core. Files are in the
system's memory.

- torchvision: ImageFolder and DataLoader
- timm: `create_dataset` and `create_loader`
- ours, cold: `Loader`, photos decoded each time
- ours, cached: the same from the cache of decoded images
- ours, crops: cold too, uint8 batches before they are normalised: what the limit is of
- ours, first epoch: files of 32×32, which every later epoch has in memory, decoded each time
- ours, in processes: the same decoding and cropping by processes instead of threads, a whole batch each
- limit: a file decoded and its random part resized, on as many threads, without queue or batch; the faster of two ways

`wait_share` is the share of the time that training ResNet-20 waits for the 32×32 files in the first epoch, in which they are
decoded.
"""

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from loaders import Case, Ours, Processes, Timm, Torchvision, limits
from photos import make_photos
from PIL import Image
from timed import Way

from resnets import bench, machine
from resnets.training.building import trainer
from resnets.training.options import Options
from resnets.training.parts import Progress
from resnets.training.plan import plan
from resnets.training.processes.world import World

SMALL, LARGE, TINY = "500×375", "4000×3000", "32×32"


def photos(folder: Path, count: int, size: tuple[int, int], quality: int) -> Path:
    """Photos in two classes, every other one."""
    made = make_photos(folder / "all", count, size, quality)
    for number, path in enumerate(made):
        place = folder / "classes" / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        path.rename(place / path.name)
    return folder / "classes"


def tiny(folder: Path, count: int) -> Path:
    """JPEG files of 32×32 pixels in ten classes, parts of a photo with noise."""
    source = Image.open(make_photos(folder, 1, (640, 480))[0])
    for number in range(count):
        place = folder / "classes" / str(number % 10)
        place.mkdir(parents=True, exist_ok=True)
        left, top = np.random.default_rng(number).integers(0, (560, 400)).tolist()
        source.resize((32, 32), box=(left, top, left + 80, top + 80)).save(place / f"{number:05}.jpg", quality=95)
    return folder / "classes"


def ways_of(case: Case, quick: bool) -> list[Way]:
    """All ways for one kind of images."""
    made: dict[str, Any] = {"torchvision": Torchvision(case).run, "ours, cold": Ours(case).run}
    if not (quick and case.title == LARGE):
        made |= {} if quick else {"timm": Timm(case).run}
        made["ours, cached"] = Ours(case, cached=True).run
    if case.title != LARGE:
        made |= {"ours, first epoch": Ours(case, anew=True).run} if case.small else {}
        made["ours, in processes"] = Processes(case).run
    if not case.small:
        made["ours, crops"] = Ours(case, floats=False).run
        made |= {f"limit, {name}": run for name, run in limits(case).items()}
    return [Way(name, run, case.paths, case.title, "float32") for name, run in made.items()]


def measured(case: Case, quick: bool) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Rows and speeds by way, of one kind of images."""
    torch.set_num_threads(machine.cores())
    machine.keep_freed_memory()  # as training does
    ways = ways_of(case, quick)
    for way in ways:
        way.warm_up(case.batch)
        way.run(way.source, len(way.source))  # whole, so that what is cached is
    bench.interleaved({way.title: way.stretch for way in ways}, 3 if quick else 5)
    return [way.row([]) for way in ways], {way.name: way.speed for way in ways}


def waiting(folder: Path, steps: int) -> dict[str, Any]:
    """The share of training that waits for data, over the first steps of the first epoch; the row of it."""
    machine.keep_freed_memory()
    options = Options.parse(str(folder), {"model": "resnet20", "init": "none", "val": 0, "steps": 10**6, "batch_size": 128})
    training = trainer(plan(options), options, World())
    progress = Progress()
    for event, row in training.fit(progress):
        if event == "step" and (progress.step == steps or progress.step == training.steps_per_epoch - 1):
            return {"name": f"training resnet20, {TINY}", "images_per_second": row["images_per_second"],
                    "waiting": row["waiting"], "steps": progress.step, "batch": 128}  # fmt: skip
    raise RuntimeError("training ended before it was measured")


def ratios_of(speeds: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The ratios, of medians, by what the images are."""
    small, large, little = (speeds[title] for title in (SMALL, LARGE, TINY))
    limit = max(speed for name, speed in small.items() if name.startswith("limit"))
    ratios = {
        "cold_vs_torchvision": small["ours, cold"] / small["torchvision"],
        "cached_vs_torchvision": small["ours, cached"] / small["torchvision"],
        "cold_vs_decode_limit": small["ours, crops"] / limit,
        "phone_vs_torchvision": large["ours, cold"] / large["torchvision"],
        "small_vs_torchvision": little["ours, cold"] / little["torchvision"],
        "threads_vs_processes": small["ours, cold"] / small["ours, in processes"],
        "small_threads_vs_processes": little["ours, first epoch"] / little["ours, in processes"],
    }
    return ratios | ({"cold_vs_timm": small["ours, cold"] / small["timm"]} if "timm" in small else {})


def main() -> None:
    parser = bench.parser(__doc__ or "")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("cifar", type=Path, nargs="?", help="a folder of class folders of 32×32 files (made)")
    parser.add_argument("--images", type=int, default=1000, help="photos of 500×375; a tenth of 4000×3000")
    options = parser.parse_args()
    count = min(options.images, 128) if options.quick else options.images
    rows: list[dict[str, Any]] = []
    speeds: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as place, contextlib.redirect_stdout(sys.stderr):
        folder = Path(place)
        os.environ["RESNETS_CACHE"] = str(folder / "cache")
        files = options.cifar or tiny(folder / "tiny", 2560 if options.quick else 10_240)
        cases = [
            Case(SMALL, photos(folder / "small", count, (500, 375), 75), 224, 32),
            Case(LARGE, photos(folder / "large", max(16, count // 10), (4000, 3000), 90), 224, 16),
            Case(TINY, files, 32, 128),
        ]
        for case in cases:
            found, speeds[case.title] = measured(case, options.quick)
            rows += found
        rows.append(waiting(files, 20 if options.quick else 60))
    bench.report(options, rows, {**ratios_of(speeds), "wait_share": rows[-1]["waiting"]})


if __name__ == "__main__":
    main()
