"""What decoding large JPEGs at a reduced scale does to accuracy: photos enlarged to 12 megapixels, measured both ways.

    python studies/decode_scale.py DATA (--model MODEL … | --init WEIGHTS [--network resnet20] [--input 112 224]) [--out F]

Without models the fully connected layer of a network is trained at each size on the photos as they are, from WEIGHTS, any
that `resnets train --init` takes. Measured is each split, and all images together.
"""

import argparse
import math
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import resnets
from resnets import bench
from resnets.architecture import name_of
from resnets.data.decode import reduction
from resnets.evaluation import examine
from resnets.training import train_run

PIXELS = 12_000_000


def enlarge(data: resnets.data.Dataset, folder: Path) -> list[tuple[int, int]]:
    """The photos enlarged to `PIXELS`, in folders of their splits and classes; the height and width of each."""
    shapes = []
    for split, indices in (data.splits or {"all": data.indices()}).items():
        for index in indices:
            photo = Image.fromarray(data.images.read(int(index)))
            scale = math.sqrt(PIXELS / (photo.width * photo.height))
            size = round(photo.width * scale), round(photo.height * scale)
            target = folder / split / data.classes[data.labels[index]] / f"{index}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            photo.resize(size, Image.Resampling.BICUBIC).save(target, quality=90)
            shapes.append(size[::-1])
    return shapes


def trained(options: argparse.Namespace, folder: Path) -> list[Path]:
    """Run folders of a head trained at each size."""
    runs = [folder / f"run{size}" for size in options.input]
    for run, size in zip(runs, options.input, strict=True):
        train_run(options.data, model=options.network, init=options.init, freeze="backbone", views=1, input=size, out=run)
    return runs


def measure(model: resnets.Model, folder: Path) -> list[dict[str, Any]]:
    """A row a split, and one of all: accuracy at the reduced scale and in full, and how far the answers are the same."""
    found = {exact: [] for exact in (False, True)}
    names = sorted(path.name for path in folder.iterdir())
    for name in names:
        for exact, examined in found.items():
            examined.append(examine(model, folder / name, split="all", exact=exact))
    rows = []
    for name, chosen in [*((name, slice(place, place + 1)) for place, name in enumerate(names)), ("all", slice(None))]:
        labels = np.concatenate([one.labels for one in found[True][chosen]])
        reduced, full = (np.concatenate([one.logits for one in found[exact][chosen]]) for exact in (False, True))
        right = [int((logits.argmax(1) == labels).sum()) for logits in (reduced, full)]
        same = float((reduced.argmax(1) == full.argmax(1)).mean())
        rows.append({
            "part": name, "images": len(labels), "top1": right[0] / len(labels), "top1_exact": right[1] / len(labels),
            "difference": (right[0] - right[1]) / len(labels), "same_label": same,
            "largest_change_of_a_logit": float(np.abs(reduced - full).max()), "deviation_of_logits": float(full.std()),
        })  # fmt: skip
    return rows


def main() -> None:
    parser = bench.parser(__doc__ or "")
    parser.add_argument("data", type=Path, metavar="DATA")
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--model", type=Path, nargs="+", help="trained models")
    given.add_argument("--init", help="weights to train a fully connected layer on")
    parser.add_argument("--network", default="resnet20")
    parser.add_argument("--input", type=int, nargs="+", default=[112, 224])
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        models = [resnets.load(path) for path in options.model or trained(options, folder)]
        shapes = enlarge(resnets.open_dataset(options.data), folder / "large")
        for model in models:
            if (how := model.preprocessing) is None:
                parser.error("a model doesn't say how its images are prepared")
            scales = Counter(f"1/{reduction(*shape, how.resized)}" for shape in shapes)
            about = {"network": name_of(model.architecture), "size": how.size, "scales": dict(sorted(scales.items()))}
            rows += [about | row for row in measure(model, folder / "large")]
    ratios = {f"difference at {row['size']}, {row['part']}": row["difference"] for row in rows}
    bench.report(options, rows, ratios)


if __name__ == "__main__":
    main()
