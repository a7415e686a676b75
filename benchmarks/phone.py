"""Photos of 12 megapixels: the time of predicting with JPEGs decoded at a reduced scale, against `--exact`.

    python benchmarks/phone.py [--images 20] [--quick] [--json] [--out FILE]

On networks with random weights: a ResNet-18 at 224 pixels, and a ResNet-20 at 32, whose arithmetic is next to nothing. What
it does to accuracy is measured by `studies/decode_scale.py`.
"""

import statistics
import tempfile
from functools import partial
from pathlib import Path

from models import random_model
from photos import make_photos

import resnets
from resnets import bench


def main() -> None:
    parser = bench.parser(__doc__ or "")
    parser.add_argument("--images", type=int, default=20)
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
    bench.report(options, rows, ratios)


if __name__ == "__main__":
    main()
