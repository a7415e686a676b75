"""What bulk prediction writes, reads and holds beside its arithmetic: bytes a row, bytes a photo, listing, memory.

    python benchmarks/table_size.py [--quick] [--json] [--out FILE]

The tables are 10,000 rows of the likeliest five of 1,024 classes; the classes are drawn at random, which repeats less than
what photos show, so that real tables are smaller. Features are 2,048 random numbers, which don't compress, as real ones
hardly do. The photos are those of `predict.py`. Listing is of empty files on the local disk, in the cache of the system.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from models import random_model
from photos import make_photos

from resnets import bench
from resnets.metrics import softmax
from resnets.prediction.answers import Wanted
from resnets.prediction.node import LIST, Rows, write_list, write_rows
from resnets.prediction.paths import expand
from resnets.prediction.tables import Layout, join, table_row, write_chunk

ROWS = 10_000
CHUNK = 1024  # rows that `--out` writes at a time
WORDS = [
    "great", "white", "shark", "tabby", "cat", "tiger", "electric", "ray", "stingray", "cock", "hen", "ostrich", "finch",
    "robin", "jay", "magpie", "kite", "bald eagle", "vulture", "owl", "newt", "axolotl", "bullfrog", "tree frog",
    "leatherback", "terrapin", "box turtle", "gecko", "iguana", "chameleon", "agama", "cobra",
]  # fmt: skip
CODE = """
import os, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import numpy as np
from resnets.model import load
from resnets.prediction.predictor import Predictor
photo = np.random.default_rng(0).integers(0, 256, (375, 500, 3), np.uint8)
list(Predictor(load(sys.argv[1]), precision="float32", batch=8, lanes=1)([photo] * 64))
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))  # kB, of this process alone
"""


def paths_of(count: int) -> Iterator[str]:
    """Paths as in ImageNet's folders, in order."""
    return (f"photos/train/n{1440764 + 1000 * (number // 1300):08}/n01440764_{number}.JPEG" for number in range(count))


def rows_of(features: bool) -> Rows:
    """Rows of a table, always the same."""
    generator = np.random.default_rng(0)
    classes = [f"{first} {second}" for first in WORDS for second in WORDS]
    for position, path in enumerate(paths_of(ROWS)):
        scores = np.sort(softmax(generator.normal(0, 3, len(classes)).astype(np.float32)))[:-6:-1]
        labels = [classes[index] for index in generator.choice(len(classes), 5, replace=False)]
        vector = np.abs(generator.normal(0, 0.5, 2048)).astype(np.float32) if features else None
        rounded = [round(float(score), 6) for score in scores]
        yield {**table_row(path, labels, rounded, None, vector), "position": position}


def tables(folder: Path) -> Iterator[dict[str, Any]]:
    """The bytes of each row of a table, with and without features, as `--out` writes it and as a cluster does."""
    for features, said in ((False, "top 5"), (True, "top 5 and 2,048 features")):
        layout, rows = Layout(".parquet", 5, features), rows_of(features)
        chunks = []
        for number, first in enumerate(range(0, ROWS, CHUNK)):
            chunks.append(folder / f"{number}")
            write_chunk(chunks[-1], [next(rows) for _ in range(first, min(first + CHUNK, ROWS))], layout)
        with (folder / "joined").open("wb") as file:
            join(file, chunks, layout, {})
        write_rows(folder / "part.parquet", rows_of(features), Wanted(5, 0.0, features))
        for name, path in (("--out FILE.parquet", "joined"), ("--cluster", "part.parquet")):
            yield {"name": f"{name}, {said}", "bytes_per_row": (folder / path).stat().st_size / ROWS, "rows": ROWS}


def listing(folder: Path, count: int) -> Iterator[dict[str, Any]]:
    """Paths a second that a folder of folders of 1,000 files is listed at, and the bytes of the list of a cluster's run."""
    for number in range(count):
        path = folder / "photos" / f"{number // 1000:05}" / f"{number:08}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        assert sum(1 for _ in expand([folder / "photos"])) == count
        seconds.append(time.perf_counter() - began)
    yield bench.median_row("listing", seconds, paths=count, paths_per_second=count / sorted(seconds)[2])
    paths = list(paths_of(count))
    write_list(folder, iter(paths))
    size = (folder / LIST).stat().st_size
    mean = sum(map(len, paths)) / count
    yield {"name": "list of a cluster's run", "bytes_per_path": size / count, "characters_per_path": mean, "paths": count}


def photos(folder: Path, count: int) -> dict[str, Any]:
    """The mean bytes of a photo."""
    sizes = [path.stat().st_size for path in make_photos(folder / "jpeg", count, (500, 375), 75)]
    return {"name": "photo, 500×375, quality 75", "bytes": float(np.mean(sizes)), "photos": count}


def memory(folder: Path) -> dict[str, Any]:
    """The most memory that one predictor of a cluster has had, in a process of its own on one core."""
    model = random_model("resnet50-v1.5", folder / "resnet50.safetensors")
    command = [sys.executable, "-c", CODE, str(model)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {"name": "one predictor, resnet50, float32", "most_bytes": int(said) * 1024, "images": 64}


def main() -> None:
    options = bench.parser(__doc__ or "").parse_args()
    count = 10_000 if options.quick else 100_000
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        rows = [*tables(folder), *listing(folder, count), photos(folder, 100 if options.quick else 1000), memory(folder)]
    sizes = {row["name"]: row["bytes_per_row"] for row in rows if "bytes_per_row" in row}
    plain = sizes["--out FILE.parquet, top 5"]
    bench.report(options, rows, {"features_vs_plain": sizes["--out FILE.parquet, top 5 and 2,048 features"] / plain})


if __name__ == "__main__":
    main()
