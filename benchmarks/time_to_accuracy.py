"""Training: seconds to an accuracy beside two scripts of others, and our loop beside a bare one.

    python benchmarks/time_to_accuracy.py [DATA] [--quick] [--keep DIR] [--seeds 3] [--recipe fast] [--json] [--out FILE]

It needs `pip install ".[dev]"`. DATA is the folder of Fashion-MNIST's four IDX files; without it, and with `--quick`, there
is `step_vs_bare_loop` alone, on images without sense. ResNet-20, the same module in all:

- plain: the script that most people write: float32, DataLoader, torchvision's transforms, the rate dropped twice
- good: the same with the settings that are known to be faster; see `plain_training.py`
- ours: `resnets.train` with a recipe

Each measures the 10,000 test images after each epoch; its seconds count from when the images are in memory to the end of the
first epoch that reaches 92, 94 or 95%, evaluation not counted. `seconds_to_94_vs_plain` is plain's seconds over ours, of the
medians of the seeds; a script that ends without having been there counts with all its seconds, and the ratio is a least.
Every run has a process of its own and as many threads. `--keep` holds the result of each, and a benchmark that was cut goes
on with those that are missing.

`step_vs_bare_loop`: images a second of our whole loop over those of forward, loss, backward and SGD on a ready batch, in
turns of three seconds or more in one process, the median of the rounds. Ours goes by SGD there too;
`recipe_vs_bare_loop` is of the recipe's own optimizer.
"""

import argparse
import contextlib
import ctypes
import json
import math
import os
import shutil
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import training_data
from our_training import Case, loops, ours
from plain_training import Curve, good, plain

from resnets import bench, machine
from resnets.files import write_json
from resnets.training.shipped import parse_setting

TARGETS = (0.92, 0.94, 0.95)
SGD = {"optimizer": "sgd"}
LOOPS = {  # ratio → network, size, channels, images, our settings beside the recipe's
    "step_vs_bare_loop": ("resnet20", 28, 1, 60_000, SGD),
    "step_vs_bare_loop_resnet18": ("resnet18", 64, 3, 12_288, SGD),
    "recipe_vs_bare_loop": ("resnet20", 28, 1, 60_000, {}),
    "recipe_vs_bare_loop_resnet18": ("resnet18", 64, 3, 12_288, {}),
}
WAYS = ("plain", "good", "ours")
Result = dict[str, Any]


@dataclass(frozen=True)
class Kept:
    """Results by name, in a folder that outlives this process."""

    folder: Path

    def get(self, name: str, asked: Mapping[str, Any], make: Callable[[], Result]) -> Result:
        """What is there, else what `make` gives. ValueError where that which is there was asked for otherwise."""
        file = self.folder / f"{name}.json"
        asked = json.loads(json.dumps(asked))
        if file.exists():
            document = json.loads(file.read_text(encoding="utf-8"))
            if document["asked"] != asked:
                raise ValueError(f"{file} is of {document['asked']}, not of {asked}; name another --keep, or delete it")
            print(f"{name}: kept", file=sys.stderr)
            return document["result"]
        result = make()
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(file, {"asked": asked, "result": result, "machine": bench.describe()})
        return result


def alone(task: Callable[..., Any], *given: Any) -> Any:
    """What a function gives in a process of its own, which says on standard error whatever it says."""
    with ProcessPoolExecutor(1, get_context("spawn"), die_with, (os.getpid(),)) as pool:
        return pool.submit(quietly, task, *given).result()


def die_with(parent: int) -> None:
    """Have Linux kill this process when the one that started it ends: a run left over would slow the next benchmark."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:  # it has ended already
            os._exit(1)


def quietly(task: Callable[..., Any], *given: Any) -> Any:
    """What a function gives, its standard output on standard error."""
    with contextlib.redirect_stdout(sys.stderr):
        return task(*given)


def run(way: str, seed: int, options: argparse.Namespace) -> Curve:
    """One training run, in this process."""
    if way == "ours":
        with tempfile.TemporaryDirectory() as place:
            settings = our_settings(options)
            return ours(options.data, settings, seed, options.threads, options.images, Path(place) / "run")
    images = training_data.read(options.data, options.images)
    if way == "plain":
        return plain(images, options.plain_epochs, options.until, seed, options.threads)
    return good(images, options.good_epochs, options.until, seed, options.threads, compiles(options))


def our_settings(options: argparse.Namespace) -> dict[str, Any]:
    """The recipe and the changes of it."""
    epochs = {} if options.epochs is None else {"epochs": options.epochs}
    return {"recipe": options.recipe, **dict(parse_setting(text) for text in options.set), **epochs}


def compiles(options: argparse.Namespace) -> bool:
    """Whether `good` compiles: as asked, or where there is a compiler."""
    return options.compile == "on" or (options.compile == "auto" and shutil.which("c++") is not None)


def asked(way: str, options: argparse.Namespace) -> dict[str, Any]:
    """All that a run of a way depends on, beside the seed."""
    own: dict[str, Any] = {
        "plain": {"epochs": options.plain_epochs, "until": options.until},
        "good": {"epochs": options.good_epochs, "until": options.until, "compile": compiles(options)},
        "ours": our_settings(options),
    }[way]
    return {**own, "threads": options.threads, "images": options.images, "processor": machine.processor()[0]}


def seconds_to(points: Sequence[Sequence[float]], target: float) -> float | None:
    """Seconds of training until the first epoch that reaches a top-1; None where none does."""
    return next((seconds for seconds, top1 in points if top1 >= target), None)


def row(way: str, seed: int, curve: Result) -> Result:
    """A run's row of the results."""
    seconds, top1 = curve["points"][-1]
    return {
        "name": way, "seed": seed, "top1": top1, "epochs": len(curve["points"]), "seconds": seconds,
        **{f"seconds_to_{target * 100:.0f}": seconds_to(curve["points"], target) for target in TARGETS},
        "images_per_second": curve["images"] / seconds, "precision": curve["precision"], "settings": curve["settings"],
        "curve": curve["points"],
    }  # fmt: skip


def ratios_of(rows: Sequence[Result]) -> dict[str, float]:
    """Seconds of others over ours to each top-1, of the medians of the seeds.

    Others that end before they reach it count with all their seconds, so that the ratio is a least; where the median of ours
    doesn't reach it there is no ratio.
    """
    ratios = {}
    for target in (f"seconds_to_{target * 100:.0f}" for target in TARGETS):
        seconds: dict[str, list[float]] = {}
        for row in rows:
            never = math.inf if row["name"] == "ours" else row["seconds"]
            seconds.setdefault(row["name"], []).append(never if row[target] is None else row[target])
        medians = {way: statistics.median(each) for way, each in seconds.items()}
        for way in ("plain", "good"):
            if way in medians and math.isfinite(medians.get("ours", math.inf)):
                ratios[f"{target}_vs_{way}"] = medians[way] / medians["ours"]
    return ratios


def training(options: argparse.Namespace, kept: Kept) -> tuple[list[Result], dict[str, float]]:
    """Rows and ratios of the runs, seed by seed, so that one of every way is there early."""
    rows = []
    seeds = {"ours": options.seeds, **dict.fromkeys(("plain", "good"), min(options.seeds, options.other_seeds))}
    for seed in range(options.seeds):
        for way in (way for way in options.ways if seed < seeds[way]):
            task = partial(alone, run, way, seed, options)
            result = kept.get(f"{way}-{seed}", asked(way, options), lambda task=task: task()._asdict())
            rows.append(row(way, seed, result))
            print({key: value for key, value in rows[-1].items() if key != "curve"}, file=sys.stderr)
    return rows, ratios_of(rows)


def looping(options: argparse.Namespace, kept: Kept) -> tuple[list[Result], dict[str, float]]:
    """Rows and ratios of our loop and a bare one."""
    rows, ratios = [], {}
    asked = {key: value for key, value in our_settings(options).items() if key not in ("recipe", "epochs", "steps")}
    for name, (network, size, channels, count, settings) in LOOPS.items():
        case = Case(network, size, channels, 128, options.recipe, {**asked, **settings})
        rounds = 5 if options.quick else 11

        def measure(case: Case = case, count: int = count, rounds: int = rounds) -> Result:
            with tempfile.TemporaryDirectory() as place:
                data = training_data.write(Path(place) / "data", count, case.size, case.channels)
                return alone(loops, data, case, rounds, options.threads, Path(place) / "run")

        what = {**case._asdict(), "rounds": rounds, "threads": options.threads, "processor": machine.processor()[0]}
        result = kept.get(name, what, measure)
        for way, rates in result["rates"].items():
            rows.append({
                "name": f"{way}, {case.title}", "ratio": name, "images_per_second": statistics.median(rates),
                "least": min(rates), "most": max(rates), "n": len(rates), "precision": result["precision"],
            })  # fmt: skip
        ratios[name] = result["ratio"]
    return rows, ratios


def options_of(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line's."""
    parser = bench.parser(__doc__ or "")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("data", type=Path, nargs="?", help="the folder of Fashion-MNIST's four IDX files")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="results of finished runs, which aren't run again")
    parser.add_argument("--seeds", type=int, default=1, help="runs of ours (1)")
    parser.add_argument("--other-seeds", type=int, default=1, help="runs of plain and good, which take an hour each (1)")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="which to run")
    parser.add_argument("--recipe", default="fast", help="ours: a recipe's name or TOML file (fast)")
    parser.add_argument("--epochs", type=float, help="ours: in place of the recipe's own")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="ours: a field of the recipe")
    parser.add_argument("--plain-epochs", type=int, default=20, help="plain's length (20)")
    parser.add_argument("--good-epochs", type=int, default=16, help="good's length (16)")
    parser.add_argument(
        "--until", type=float, default=max(TARGETS), metavar="TOP1", help="plain and good end once there (0.95)"
    )
    parser.add_argument("--compile", choices=("auto", "on", "off"), default="auto", help="good: auto, where there is a c++")
    parser.add_argument("--threads", type=int, default=machine.cores(), help="of arithmetic, and that load (one a core)")
    parser.add_argument("--images", type=int, help="the first so many of each split alone, to try the benchmark")
    parser.add_argument("--no-loops", action="store_true", help="leave step_vs_bare_loop out")
    return parser.parse_args(arguments)


def main() -> None:
    options = options_of()
    rows: list[Result] = []
    ratios: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as place:
        kept = Kept(options.keep or Path(place))
        if not options.no_loops:
            rows, ratios = looping(options, kept)
        if options.data is not None and not options.quick:
            more, others = training(options, kept)
            rows, ratios = rows + more, ratios | others
    bench.report(options, rows, ratios)


if __name__ == "__main__":
    main()
