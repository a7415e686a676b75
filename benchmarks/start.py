"""From nothing to an answer: `resnets predict MODEL one.jpg` in a fresh process, for a ResNet-50; and `--help`, `table`.

python benchmarks/start.py [--quick] [--json] [--out FILE]
"""

import functools
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from models import random_model
from PIL import Image

from resnets import bench


def main() -> None:
    options = bench.parser(__doc__ or "").parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        models = {name: random_model(name, folder / f"{name}.safetensors") for name in ("resnet18", "resnet50")}
        pixels = np.random.default_rng(1).integers(0, 256, (375 // 5, 500 // 5, 3), np.uint8)
        Image.fromarray(pixels).resize((500, 375), Image.Resampling.BICUBIC).save(folder / "one.jpg", quality=75)
        command = [sys.executable, "-m", "resnets"]
        commands = {
            "help": [*command, "--help"],
            "table": [*command, "table"],
            "predict resnet18": [*command, "predict", str(models["resnet18"]), str(folder / "one.jpg")],
            "predict resnet50": [*command, "predict", str(models["resnet50"]), str(folder / "one.jpg")],
        }
        run = functools.partial(subprocess.run, check=True, capture_output=True)
        seconds = bench.interleaved(
            {name: functools.partial(run, line) for name, line in commands.items()}, 5 if options.quick else 11
        )
    rows = [bench.median_row(name, found) for name, found in seconds.items()]
    bench.report(options, rows, {"start_seconds": statistics.median(seconds["predict resnet50"])})


if __name__ == "__main__":
    main()
