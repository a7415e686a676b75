"""Photos of 12 megapixels: predicting with JPEGs decoded at a reduced scale, against `--exact`, and what it does to scores.

    python benchmarks/phone.py [--images 20] [--model MODEL --photos DATA] [--quick] [--json] [--out FILE]

Without a model the time alone is measured, on networks with random weights: a ResNet-18 at
224 pixels, and a ResNet-20 at 32, whose arithmetic is next to nothing. With one, and labelled photos, the photos
are enlarged to 12 megapixels and measured both ways.
"""

import statistics
import tempfile
from functools import partial
from pathlib import Path

from models import random_model
from photos import make_photos
from PIL import Image

import resnets
from resnets import bench


def enlarge(data: resnets.data.Dataset, folder: Path) -> None:
    """The photos of a labelled set, enlarged so that the shorter side is 3000 pixels, in class folders."""
    for index, key in enumerate(data.images.keys):
        photo = Image.fromarray(data.images.read(index))
        scale = 3000 / min(photo.size)
        target = folder / data.classes[data.labels[index]] / f"{Path(key).stem}-{index}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        photo.resize((round(photo.width * scale), round(photo.height * scale)), Image.Resampling.BICUBIC).save(
            target, quality=90
        )


def main() -> None:
    parser = bench.parser(__doc__ or "")
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--model", type=Path, help="a trained model, to measure what a reduced scale does to accuracy")
    parser.add_argument("--photos", type=Path, help="labelled photos for it")
    options = parser.parse_args()
    rows, ratios = [], {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        paths = make_photos(folder, options.images)
        for network, size in (("resnet18", 224), ("resnet20", 32)):
            model = resnets.load(random_model(network, folder / f"{network}.safetensors", size))
            ways = {
                name: partial(lambda exact, model: list(resnets.predict(model, paths, exact=exact)), exact, model)
                for name, exact in (("reduced scale", False), ("exact", True))
            }
            seconds = bench.interleaved(ways, 3 if options.quick else 5)
            rows += [bench.median_row(f"{network}, {name}", found, images=len(paths)) for name, found in seconds.items()]
            medians = {name: statistics.median(found) for name, found in seconds.items()}
            ratios[f"reduced_vs_exact_{network}"] = medians["exact"] / medians["reduced scale"]
        if options.model and options.photos:
            data = resnets.open_dataset(options.photos)
            enlarge(data, folder / "large")
            for name, exact in (("reduced scale", False), ("exact", True)):
                figures = resnets.evaluate(options.model, folder / "large", split="all", exact=exact)
                rows.append(
                    {"name": f"top-1, {name}", "top1": figures["top1"], "loss": figures["loss"], "images": figures["images"]}
                )
    bench.report(options, rows, ratios)


if __name__ == "__main__":
    main()
