"""ResNet-20 on Fashion-MNIST with a recipe, no image held out: test top-1 and how long it took.

    python studies/fashion_mnist.py DATA [--recipe quick] [--epochs N] [--seeds 1] [--run FOLDER …] [--out FILE]

DATA is the folder of the four IDX files. `--run` measures runs that are already trained, of one recipe: their last weights.
`top1_mirror` is of answers averaged with the mirror image's (`evaluate --mirror`).

The published points are Zhong et al. 2017 (Random Erasing, table 2): ResNet-20, 300 epochs, 95.61% top-1 without erasing and
95.98% with it. By their published program that is the best of the 300 epochs on the test images, of a network with shortcuts
of option B; ours is the last epoch's, with option A.
"""

import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import resnets
from resnets import bench
from resnets.training import train_run
from resnets.training.shipped import recipe as shipped_recipe


def main() -> None:
    parser = bench.parser(__doc__ or "")
    parser.add_argument("data", type=Path)
    parser.add_argument("--recipe", default="quick")
    parser.add_argument("--epochs", type=float)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--run", type=Path, nargs="+")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as place:
        for seed in range(len(options.run) if options.run else options.seeds):
            how = {"recipe": options.recipe, **({"epochs": options.epochs} if options.epochs else {})}
            run = options.run[seed] if options.run else train_run(
                options.data, model="resnet20", val=0, seed=seed, out=Path(place) / str(seed), **how
            )  # fmt: skip
            seconds = trained_for(run)
            model = resnets.load(run)
            figures = resnets.evaluate(model, options.data, split="test")
            said = {key: figures[key] for key in ("top1", "top5", "loss", "ece", "images")}
            said["top1_mirror"] = resnets.evaluate(model, options.data, split="test", mirror=True)["top1"]
            recipe = {key: model.recipe[key] for key in ("name", "epochs", "batch_size", "precision", "seed")}
            recipe |= {"input": model.preprocessing and model.preprocessing.size, "changed": changed(model.recipe)}
            rows.append({**recipe, **said, "interval": figures["interval"], "seconds": seconds})
    tops = [row["top1"] for row in rows]
    ratios = {
        "top1": statistics.mean(tops),
        "top1_mirror": statistics.mean(row["top1_mirror"] for row in rows),
        **({"deviation": statistics.stdev(tops)} if len(tops) > 1 else {}),
    }
    bench.report(options, rows, ratios)


def changed(recipe: dict[str, Any]) -> dict[str, Any]:
    """The fields in which a model's recipe differs from the shipped one of its name, but for those that a row has anyway.

    Of a teacher the path's last name alone.
    """
    shipped = shipped_recipe(recipe["name"]).to_json()
    said = {"epochs", "batch_size", "precision", "seed", "compile"}
    found = {key: recipe[key] for key in shipped if key not in said and recipe[key] != shipped[key]}
    return {key: Path(value).name if key == "teacher" else value for key, value in found.items()}


def trained_for(run: Path) -> float:
    """Seconds of training, as the run's log has them."""
    lines = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [row["seconds"] for row in map(json.loads, lines) if row["event"] == "epoch"][-1]


if __name__ == "__main__":
    main()
