"""JPEG files to labels, beside the ways of others and beside what decoding and arithmetic allow: ResNet-50 and ResNet-18.

    python benchmarks/predict.py [--quick] [--images 1000] [--networks resnet50 resnet18] [--no-int8] [--json] [--out FILE]

It needs `pip install ".[dev,convert]"`. Random weights; 1,000 photos of 500×375 pixels and a tenth as many of 4000×3000.
Every way has the same files, is loaded and warmed up first, and is timed in turn with the others, three
seconds or more each time.

- plain: the script that most people write: Pillow, torchvision's transforms, a DataLoader, eager float32
- best: the same with torch.compile, channels last, and bf16 where it is native
- timm: its own loader, with its model's own preprocessing
- Keras: `image_dataset_from_directory` and `predict`, in a process of its own
- by hand: ready crops to labels in OpenVINO, the fastest of a few batches in an AsyncInferQueue. The graph is the very one
  that we run, so what differs is the code that drives it
- ours: what `resnets.predict` does, of files and of ready crops
- limit: 1 / (1 / decoding + 1 / by hand), each measured alone on every core; decoding is the faster of two ways

Precisions are float32, bf16 where the processor multiplies it, and int8; ratios "bf16" are of float32 elsewhere, and the
first row says so. `--quick` has 64 and 16 photos and leaves out best (torch.compile alone takes a minute), timm, Keras and
ResNet-18. Speeds are images a second: median, least and most of the rounds.
"""

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from models import random_model
from others import Best, Keras, Plain, Timm
from ours import CROPS, LARGE, SMALL, Material, Ours, best_by_hand, decoded, latencies, our_crop, ready, their_crop
from timed import Way

import resnets
from resnets import bench, machine
from resnets.model import Model
from resnets.prediction.exported import Exported, open_model

NETWORKS = {"resnet50": "resnet50-v1.5", "resnet18": "resnet18"}  # torchvision's name → ours of the same network
Models = Mapping[str, Model | Exported]  # by precision


def int8(model: Model, name: str, material: Material) -> Exported:
    """The model in int8, by our export, calibrated on a few of the photos."""
    photos = material.folder / "calibration"
    photos.mkdir(exist_ok=True)
    for path in material.small[: 16 if material.quick else 64]:
        shutil.copy(path, photos)
    out = material.folder / f"{name}-int8"
    resnets.export(model, out, format="openvino", precision="int8", input="crops", data=photos, max_drop=100.0)
    exported = open_model(out)
    assert isinstance(exported, Exported)
    return exported


def our_ways(models: Models, material: Material) -> Iterator[Way]:
    """By hand and ours, in each precision that there is; large photos in the native one."""
    for precision, model in models.items():
        raw = best_by_hand(model, precision, material)
        yield Way("by hand", raw.run, material.crops, CROPS, precision, {"batch": raw.batch})
        if precision == machine.precision() or not material.quick:
            yield Way("ours", Ours(ready(model), precision).run, material.crops, CROPS, precision)
        ours = Ours(model, precision)
        yield Way("ours", ours.run, material.small, SMALL, precision)
        if precision == machine.precision():
            yield Way("ours", ours.run, material.large, LARGE, precision)


def other_ways(network: str, model: Model, material: Material) -> Iterator[Way]:
    """The ways of others that are for this network."""
    made = (network, dict(model.state), model.classes, material.batch)
    plain = Plain(*made)
    yield Way("plain", plain.run, material.small, SMALL, "float32", {"batch": plain.batch})
    if network == "resnet50":
        yield Way("plain", plain.run, material.large, LARGE, "float32", {"batch": plain.batch})
    if network == "resnet50" and not material.quick:
        best = Best(*made)
        yield Way("best", best.run, material.small, SMALL, machine.precision(), {"settings": best.settings})
        yield Way("timm", Timm(*made).run, material.small, SMALL, "float32", same=False)


def decoding_ways(material: Material) -> Iterator[Way]:
    """Files to ready crops, without a network: two ways."""
    yield Way("decoding, ours", partial(decoded, our_crop), material.small, SMALL, "uint8")
    yield Way("decoding, simplejpeg and torchvision", partial(decoded, their_crop), material.small, SMALL, "uint8")


def measured(network: str, material: Material, with_int8: bool) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Rows and ratios of one network."""
    model = resnets.load(random_model(NETWORKS[network], material.model(network)))
    models: dict[str, Model | Exported] = {"float32": model, machine.precision(): model}
    if with_int8:
        models["int8"] = int8(model, network, material)
    with contextlib.ExitStack() as stack, contextlib.redirect_stdout(sys.stderr):
        ways = [*other_ways(network, model, material), *our_ways(models, material), *decoding_ways(material)]
        if network == "resnet50" and not material.quick:
            keras = Keras(material.small[0].parent)
            stack.callback(keras.close)
            about = {"settings": "Keras's ResNet-50, which strides in the first 1×1"}
            ways.append(Way("Keras", keras.run, material.small, SMALL, "float32", about, same=False))
        for way in ways:
            way.warm_up(material.batch)
        bench.interleaved({way.title: way.stretch for way in ways}, 3 if material.quick else 5)
    speeds = {way.title: way.speed for way in ways}
    rows = [{**way.row(next(other.labels for other in ways if other.images == way.images or way.images == CROPS)),
             "network": network} for way in ways]  # fmt: skip
    limits = {precision: limit(speeds, precision) for precision in models}
    rows += [{"name": f"limit, {precision}", "images_per_second": speed, "precision": precision, "network": network}
             for precision, speed in limits.items()]  # fmt: skip
    return rows, ratios_of(speeds, limits)


def limit(speeds: Mapping[str, float], precision: str) -> float:
    """Images a second if decoding and arithmetic cost what they cost alone, and nothing else cost anything."""
    decoding = max(speed for name, speed in speeds.items() if name.startswith("decoding"))
    return 1 / (1 / decoding + 1 / speeds[f"by hand, {CROPS}, {precision}"])


def ratios_of(speeds: Mapping[str, float], limits: Mapping[str, float]) -> dict[str, float]:
    """The ratios, of medians."""
    native = machine.precision()
    files, plain = speeds[f"ours, {SMALL}, {native}"], speeds[f"plain, {SMALL}, float32"]
    ratios = {
        "ready_vs_openvino": speeds[f"ours, {CROPS}, {native}"] / speeds[f"by hand, {CROPS}, {native}"],
        "files_vs_limit": files / limits[native],
        "bf16_vs_plain": files / plain,
    }
    if f"plain, {LARGE}, float32" in speeds:
        ratios["phone_vs_plain"] = speeds[f"ours, {LARGE}, {native}"] / speeds[f"plain, {LARGE}, float32"]
    if "int8" in limits:
        ratios["files_vs_limit_int8"] = speeds[f"ours, {SMALL}, int8"] / limits["int8"]
        ratios["int8_vs_plain"] = speeds[f"ours, {SMALL}, int8"] / plain
    return ratios


def single(material: Material) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Rows and ratios of one image: a ready crop in this process, and a file in a fresh one."""
    file = random_model(NETWORKS["resnet50"], material.model("resnet50"))
    seconds = latencies(resnets.load(file), machine.precision(), material.crops[0])
    command = [sys.executable, "-m", "resnets", "predict", str(file), str(material.small[0])]
    run = partial(subprocess.run, command, check=True, capture_output=True)
    start = bench.interleaved({"ours, one file in a fresh process": run}, 5 if material.quick else 11)
    about = {"images": 1, "precision": machine.precision(), "network": "resnet50"}
    rows = [bench.median_row(name, found, **about) for name, found in {**seconds, **start}.items()]
    ours, raw = (statistics.median(found) for found in seconds.values())
    return rows, {"latency_vs_openvino": ours / raw, "start_seconds": rows[-1]["seconds"]}


def main() -> None:
    parser = bench.parser(__doc__ or "")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--images", type=int, default=1000, help="photos of 500×375; the whole takes hours with 1000")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="the ratios are resnet50's")
    parser.add_argument("--no-int8", action="store_true", help="leave int8 out")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = [{"name": "the native precision of this processor", "precision": machine.precision()}]
    with tempfile.TemporaryDirectory() as place, contextlib.redirect_stdout(sys.stderr):
        os.environ["RESNETS_CACHE"] = str(Path(place) / "cache")  # nothing of an earlier run, nothing left for a later one
        material = Material.make(Path(place), options.images, options.quick)
        found, ratios = single(material)  # while this process is small
        rows += found
        for network in options.networks[:1] if options.quick else options.networks:
            with ProcessPoolExecutor(1, get_context("spawn")) as alone:  # what one network's ways leave behind is gone
                found, more = alone.submit(measured, network, material, not options.no_int8).result()
            rows += found
            ratios |= more if network == "resnet50" else {}
    bench.report(options, rows, ratios)


if __name__ == "__main__":
    main()
