"""The recipe `finetune` on a small set of photos: the head alone, all weights, or one stage after the other.

    python studies/finetuning.py DATA WEIGHTS [--model resnet20] [--seeds 3] [--out FILE]

DATA is a folder with `train` and `val`, WEIGHTS any that `--init` takes. Measured are the last weights, on `val`, so that it
chose nothing.
"""

import json
import statistics
import tempfile
import time
from pathlib import Path

import resnets
from resnets import bench
from resnets.training import train_run

WAYS = ("backbone", "none", "staged")  # what is frozen


def main() -> None:
    parser = bench.parser(__doc__ or "")
    parser.add_argument("data", type=Path)
    parser.add_argument("weights")
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as place:
        for seed in range(options.seeds):
            for freeze in WAYS:
                out, began = Path(place) / f"{freeze}-{seed}", time.perf_counter()
                train_run(
                    options.data,
                    model=options.model,
                    init=options.weights,
                    recipe="finetune",
                    freeze=freeze,
                    seed=seed,
                    out=out,
                )
                seconds = time.perf_counter() - began
                recipe = json.loads((out / "run.json").read_text(encoding="utf-8"))["decided"]["recipe"]
                figures = resnets.evaluate(out / "last.safetensors", options.data, split="val")
                rows.append({"freeze": freeze, "seed": seed, "epochs": recipe["epochs"], "top1": figures["top1"],
                             "images": figures["images"], "seconds": seconds})  # fmt: skip
    ratios = {}
    for freeze in WAYS:
        tops = [row["top1"] for row in rows if row["freeze"] == freeze]
        ratios[f"top1_{freeze}"] = statistics.mean(tops)
        if len(tops) > 1:
            ratios[f"deviation_{freeze}"] = statistics.stdev(tops)
    bench.report(options, rows, ratios)


if __name__ == "__main__":
    main()
