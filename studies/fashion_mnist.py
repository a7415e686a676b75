"""ResNet-20 on Fashion-MNIST with the recipe `quick`, no image held out: test top-1 and how long it took.

    python studies/fashion_mnist.py DATA [--epochs 16] [--seeds 1] [--run FOLDER] [--out FILE]

DATA is the folder of the four IDX files. `--run` measures a run that is already trained.
"""

import statistics
import tempfile
import time
from pathlib import Path

import resnets
from resnets import bench
from resnets.training import train_run


def main() -> None:
    parser = bench.parser(__doc__ or "")
    parser.add_argument("data", type=Path)
    parser.add_argument("--epochs", type=float, default=16)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--run", type=Path)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as place:
        for seed in range(1 if options.run else options.seeds):
            began = time.perf_counter()
            run = options.run or train_run(
                options.data,
                model="resnet20",
                recipe="quick",
                epochs=options.epochs,
                val=0,
                seed=seed,
                out=Path(place) / str(seed),
            )
            seconds = None if options.run else time.perf_counter() - began
            model = resnets.load(run)
            figures = resnets.evaluate(model, options.data, split="test")
            said = {key: figures[key] for key in ("top1", "top5", "loss", "ece", "images")}
            recipe = {key: model.recipe[key] for key in ("name", "epochs", "batch_size", "precision", "seed")}
            rows.append({**recipe, **said, "interval": figures["interval"], "seconds": seconds})
    bench.report(options, rows, {"top1": statistics.mean(row["top1"] for row in rows)})


if __name__ == "__main__":
    main()
