"""What bf16 is worth on this processor: images a second of training and of predicting, in bf16 and in float32, in turns.

    python benchmarks/precision.py [--quick] [--out FILE]

Training is a bare step (forward, loss, backward, SGD) of PyTorch on a ready batch of 128, predicting is OpenVINO on ready
crops, each on every core. The ratios are medians of the rounds' own; `machine.fast_bf16`, by which `precision="auto"` goes,
is held to them.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from models import random_model
from our_training import Bare, Case

import resnets
from resnets import bench, machine
from resnets.prediction.engines import engine

TRAINED = {"resnet20": (28, 1), "resnet18": (64, 3)}  # network → size, channels
PREDICTED, BATCH = "resnet50", 8
PRECISIONS = ("float32", "bf16")
LEAST = 2.0  # seconds of a timed stretch of predicting


def main() -> None:
    options = bench.parser(__doc__ or "").parse_args()
    torch.set_num_threads(machine.cores())
    machine.keep_freed_memory()
    rounds = 3 if options.quick else 7
    rows: list[dict[str, Any]] = []
    ratios: dict[str, float] = {}
    for network, (size, channels) in TRAINED.items():
        case = Case(network, size, channels, 128, "quick", {})
        ways = {p: Bare(case._replace(settings={"precision": p})).stretch for p in PRECISIONS}
        add(rows, ratios, f"training {case.title}", f"training_{network}", rates(ways, rounds))
    with tempfile.TemporaryDirectory() as place:
        path = random_model(PREDICTED, Path(place) / f"{PREDICTED}.safetensors")
        ways = {p: predicting(path, p) for p in PRECISIONS}
        title = f"predicting {PREDICTED}, 224×224×3, batch {BATCH}"
        add(rows, ratios, title, f"predicting_{PREDICTED}", rates(ways, rounds))
    bench.report(options, rows, ratios)


def rates(ways: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Images a second of each way, one after the other in each round."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            found[name].append(way())
    return found


def predicting(path: Path, precision: str) -> Callable[[], float]:
    """Images a second of a stretch of a model's predictions."""
    model = resnets.load(path)
    assert model.preprocessing is not None
    compiled = engine(model, model.preprocessing, "openvino", precision)
    crops = np.random.default_rng(0).integers(0, 256, (BATCH, 224, 224, 3), np.uint8)
    compiled(crops)

    def stretch() -> float:
        began, done = time.perf_counter(), 0
        while time.perf_counter() - began < LEAST:
            compiled(crops)
            done += BATCH
        return done / (time.perf_counter() - began)

    return stretch


def add(rows: list[dict[str, Any]], ratios: dict[str, float], title: str, ratio: str, found: dict[str, list[float]]) -> None:
    """The rows of one comparison and its ratio, bf16's images a second to float32's."""
    for precision, each in found.items():
        rows.append({
            "name": title, "precision": precision, "images_per_second": statistics.median(each), "least": min(each),
            "most": max(each), "n": len(each),
        })  # fmt: skip
    pairs = zip(found["bf16"], found["float32"], strict=True)
    ratios[f"bf16_vs_float32_{ratio}"] = statistics.median(bf16 / full for bf16, full in pairs)


if __name__ == "__main__":
    main()
