"""JPEG files to labels, beside the ways of others and beside what decoding and arithmetic allow. ResNet-50 and ResNet-18.

    python benchmarks/predict.py [--quick] [--no-int8] [--json] [--out FILE]

Random weights; 1,000 photos of 500×375 pixels and 100 of 4000×3000. Every way gets the same files, is loaded and
warmed up first, and is timed in turn with the others, at least three seconds at a time. The ways:

- plain: the script that most people write: Pillow, torchvision's transforms, a DataLoader, eager float32
- best: the same with torch.compile, channels last, and bf16 where it is native
- timm: its own inference, with its model's own preprocessing
- Keras: `image_dataset_from_directory` and `predict`, in a process of its own; its ResNet-50 strides in the first 1×1
- OpenVINO by hand: ready crops to labels, by the fastest of five batches in an AsyncInferQueue. The graph is the very one
  that we run, so what differs is the code that drives it
- ours: `resnets.predict`, on files and on ready crops
- the limit: 1 / (1 / decoding + 1 / arithmetic), either alone on every core: decoding by the faster of two ways, arithmetic
  by OpenVINO by hand

Networks are torchvision's, "v1.5". "native" precision is bf16 where the processor multiplies it, else float32. `--quick`
leaves out best, timm, Keras, ResNet-18 and much of the images.
"""

import argparse
import contextlib
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from models import random_model
from others import BATCH, Best, Keras, Plain, Timm
from ours import Ours, best_openvino, decoded, latencies, our_crop, ready, their_crop
from photos import make_photos

import resnets
from resnets import bench, machine
from resnets.model import Model
from resnets.prediction.exported import Exported, open_model

LEAST = 3.0  # seconds of each timed stretch
CALIBRATION = 64  # photos for int8's scales
SMALL, LARGE, CROPS = "500×375", "4000×3000", "ready crops"


@dataclass
class Way:
    """A way to label images, and the speeds that it had."""

    name: str
    run: Callable[[int], list[str]]  # so many images → their labels
    about: dict[str, Any]  # network, precision and what the images are, for the row
    least: int  # images of a stretch
    count: int = 0
    labels: list[str] = field(default_factory=list)  # of the first images
    rates: list[float] = field(default_factory=list)  # images a second

    def warm_up(self) -> None:
        """Run it, and settle how many images take long enough to be timed."""
        self.labels = self.run(BATCH)
        count, seconds = BATCH, 0.0
        while seconds < LEAST / 4:
            count = count if seconds == 0 else 4 * count
            began = time.perf_counter()
            self.run(count)
            seconds = time.perf_counter() - began
        self.count = max(whole(self.least), whole(1.15 * LEAST * count / seconds))

    def stretch(self) -> None:
        """One timed stretch."""
        began, done = time.perf_counter(), 0
        while done == 0 or time.perf_counter() - began < LEAST:
            self.run(self.count)
            done += self.count
        self.rates.append(done / (time.perf_counter() - began))

    @property
    def speed(self) -> float:
        """The median of its images a second."""
        return statistics.median(self.rates)

    def row(self, plain: list[str]) -> dict[str, Any]:
        """The results, with the share of labels that are as plain's."""
        same = {"labels_as_plain": float(np.mean([a == b for a, b in zip(self.labels, plain, strict=True)]))}
        return {
            "name": self.name, "images_per_second": self.speed, "least": min(self.rates), "most": max(self.rates),
            "n": len(self.rates), "images": self.count, **self.about, **(same if self.about.get("same weights") else {}),
        }  # fmt: skip


@dataclass(frozen=True)
class Material:
    """What is measured on."""

    folder: Path
    small: list[Path]
    large: list[Path]
    crops: np.ndarray  # of the small ones: uint8 [images, 224, 224, 3], a multiple of BATCH

    @classmethod
    def make(cls, folder: Path, quick: bool) -> "Material":
        """Make the photos."""
        small = make_photos(folder / "small", 64 if quick else 1000, (500, 375), 75)
        large = make_photos(folder / "large", 16 if quick else 100)
        how = resnets.Preprocessing()
        crops = [our_crop(path, how) for path in small]
        return cls(folder, small, large, np.stack([crops[index % len(crops)] for index in range(whole(len(crops)))]))


def whole(images: float) -> int:
    """So many images or a few more: whole batches."""
    return BATCH * math.ceil(images / BATCH)


def int8(model: Model, name: str, material: Material) -> Exported:
    """The model in int8, by our export, calibrated on a few of the photos."""
    photos = material.folder / "calibration"
    photos.mkdir(exist_ok=True)
    for path in material.small[:CALIBRATION]:
        shutil.copy(path, photos)
    out = material.folder / f"{name}-int8"
    resnets.export(model, out, format="openvino", precision="int8", input="crops", data=photos, max_drop=100.0)
    exported = open_model(out)
    assert isinstance(exported, Exported)
    return exported


def our_ways(models: dict[str, Model | Exported], material: Material, about: dict[str, Any]) -> Iterator[Way]:
    """OpenVINO by hand and ours, in each precision that there is; large photos in the native one."""
    for precision, model in models.items():
        said = {**about, "precision": precision}
        files, crops = Ours(model, precision), Ours(ready(model), precision)
        raw = best_openvino(model, precision, material.crops)
        yield Way(f"OpenVINO by hand, {precision}", partial(raw.run, material.crops),
                  {**said, "of": CROPS, "batch": raw.batch}, len(material.crops))  # fmt: skip
        yield Way(f"ours, {precision}, {CROPS}", partial(crops.run, list(material.crops)), {**said, "of": CROPS}, 0)
        yield Way(f"ours, {precision}, {SMALL}", partial(files.run, material.small),
                  {**said, "of": SMALL}, len(material.small))  # fmt: skip
        if precision == machine.precision():
            yield Way(f"ours, {precision}, {LARGE}", partial(files.run, material.large),
                      {**said, "of": LARGE}, len(material.large))  # fmt: skip


def other_ways(network: str, model: Model, material: Material, quick: bool, about: dict[str, Any]) -> Iterator[Way]:
    """The ways of others; a DataLoader's images are at least a batch for each worker, that none is idle."""
    made = (network, dict(model.state), model.classes)
    floats = {**about, "precision": "float32"}
    workers = BATCH * machine.cores()
    plain = Plain(*made)
    small = {**floats, "of": SMALL}
    yield Way("plain, " + SMALL, partial(plain.run, material.small), small, max(workers, len(material.small)))
    if network == "resnet18":
        return
    yield Way("plain, " + LARGE, partial(plain.run, material.large), {**floats, "of": LARGE},
              max(workers, len(material.large)))  # fmt: skip
    if quick:
        return
    best = Best(*made)
    settings = {**small, "precision": machine.precision(), "settings": "torch.compile, channels last"}
    yield Way("best, " + SMALL, partial(best.run, material.small), settings, max(workers, len(material.small)))
    other = {**small, "same weights": False}
    yield Way("timm, " + SMALL, partial(Timm(*made).run, material.small), other, max(workers, len(material.small)))


def decoding_ways(material: Material) -> Iterator[Way]:
    """Files to ready crops, no network: two ways."""
    for name, one in (("simplejpeg and torchvision", their_crop), ("ours", our_crop)):
        about = {"of": SMALL, "precision": "uint8", "network": "none"}
        yield Way(f"decoding, {name}", partial(decoded, one, material.small), about, len(material.small))


def measured(network: str, material: Material, options: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Rows and ratios of one network."""
    file = random_model(f"{network}-v1.5" if network == "resnet50" else network, material.folder / f"{network}.safetensors")
    model = resnets.load(file)
    precisions = dict.fromkeys(("float32", machine.precision()))
    models: dict[str, Model | Exported] = dict.fromkeys(precisions, model)
    if options.int8:
        models["int8"] = int8(model, network, material)
    about = {"network": network, "same weights": True}
    with contextlib.ExitStack() as stack:
        ways = [*other_ways(network, model, material, options.quick, about), *our_ways(models, material, about),
                *decoding_ways(material)]  # fmt: skip
        if network == "resnet50" and not options.quick:
            keras = Keras(material.small[0].parent)
            stack.callback(keras.close)
            said = {"network": "resnet50, stride in 1×1", "precision": "float32", "of": SMALL}
            ways.append(Way("Keras, " + SMALL, partial(keras.run, material.small), said, len(material.small)))
        for way in ways:
            way.warm_up()
        bench.interleaved({way.name: way.stretch for way in ways}, 3 if options.quick else 5)
    speeds = {way.name: way.speed for way in ways}
    limits = {precision: limit(speeds, precision) for precision in models}
    rows = [way.row(ways[0].labels) for way in ways]
    rows += [
        {"name": f"limit, {precision}", "images_per_second": speed, "of": SMALL, "network": network, "precision": precision}
        for precision, speed in limits.items()
    ]
    return rows, compared(speeds, limits)


def limit(speeds: dict[str, float], precision: str) -> float:
    """Images a second if decoding and arithmetic cost what they cost alone, and nothing else cost anything."""
    decoding = max(speed for name, speed in speeds.items() if name.startswith("decoding"))
    return 1 / (1 / decoding + 1 / speeds[f"OpenVINO by hand, {precision}"])


def compared(speeds: dict[str, float], limits: dict[str, float]) -> dict[str, float]:
    """The ratios, of medians."""
    native = machine.precision()
    ours, plain = speeds[f"ours, {native}, {SMALL}"], speeds[f"plain, {SMALL}"]
    ratios = {
        "ready_vs_openvino": speeds[f"ours, {native}, {CROPS}"] / speeds[f"OpenVINO by hand, {native}"],
        "files_vs_limit": ours / limits[native],
        "bf16_vs_plain": ours / plain,
    }
    if f"plain, {LARGE}" in speeds:
        ratios["phone_vs_plain"] = speeds[f"ours, {native}, {LARGE}"] / speeds[f"plain, {LARGE}"]
    if "int8" in limits:
        ratios["files_vs_limit_int8"] = speeds[f"ours, int8, {SMALL}"] / limits["int8"]
        ratios["int8_vs_plain"] = speeds[f"ours, int8, {SMALL}"] / plain
    return ratios


def single(material: Material, quick: bool) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Rows and ratios of one image: a ready crop in this process, and a file in a fresh one."""
    file = material.folder / "resnet50.safetensors"
    model = resnets.load(file)
    about = {"network": "resnet50", "precision": machine.precision()}
    seconds = latencies(model, machine.precision(), material.crops[0])
    command = [sys.executable, "-m", "resnets", "predict", str(file), str(material.small[0])]
    start = bench.interleaved(
        {"start": partial(subprocess.run, command, check=True, capture_output=True)}, 5 if quick else 11
    )  # fmt: skip
    rows = [bench.median_row(name, found, images=1, **about) for name, found in {**seconds, **start}.items()]
    ours, raw = (statistics.median(found) for found in seconds.values())
    return rows, {"latency_vs_openvino": ours / raw, "start_seconds": statistics.median(start["start"])}


def main() -> None:
    parser = bench.parser(__doc__ or "")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--no-int8", dest="int8", action="store_false", help="leave int8 out")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = [{"name": "the native precision of this processor", "precision": machine.precision()}]
    ratios: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as place, contextlib.redirect_stdout(sys.stderr):
        os.environ["RESNETS_CACHE"] = str(Path(place) / "cache")  # nothing of an earlier run
        material = Material.make(Path(place), options.quick)
        for network in ("resnet50",) if options.quick else ("resnet50", "resnet18"):
            found, compared_to = measured(network, material, options)
            rows += found
            ratios = {**compared_to, **ratios}  # of the first network
        found, more = single(material, options.quick)
        rows += found
    bench.report(options, rows, {**ratios, **more})


if __name__ == "__main__":
    main()
