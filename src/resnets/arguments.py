"""What the command line takes: each verb's arguments. What a verb does is in `cli`."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import resnets

Verb = Callable[[argparse.Namespace], int | None]

ECOSYSTEMS = sorted(file.stem for file in (Path(resnets.__file__).parent / "weights" / "ecosystems").glob("[!_]*.py"))
TRAIN_OPTIONS = ("model", "init", "recipe", "epochs", "batch_size", "input", "fit", "precision", "val", "seed", "exclude",
                 "workers", "out")  # fmt: skip
ENGINE_OPTIONS = ("engine", "precision", "exact", "mirror")
CONVERT_OPTIONS = ("to", "ecosystem", "architecture", "weights", "classes", "preprocessing", "keep_half", "licence")
BENCH_DATA_OPTIONS = ("recipe", "input", "workers")
LABELLED = "labelled images: a folder, a manifest, shards, Parquet, IDX files, hf:ORG/NAME, or digits"
PREDICT_OPTIONS = ("top", "above", "features", *ENGINE_OPTIONS)


def parser(verbs: Mapping[str, Verb]) -> argparse.ArgumentParser:
    """The parser of all verbs; `options.verb` is the function to call. A verb's help is its function's docstring."""
    top = argparse.ArgumentParser(
        prog="resnets", description="Residual networks: name one, train it on your images, measure it, run it anywhere."
    )
    top.add_argument("--version", action="version", version=f"resnets {resnets.__version__}")
    each = top.add_subparsers(required=True, metavar="VERB")
    for name, function in verbs.items():
        said = function.__doc__
        verb = each.add_parser(name, help=said, description=said)
        _always(verb)
        verb.set_defaults(verb=function)
        ARGUMENTS[name](verb)
    return top


def _always(verb: argparse.ArgumentParser, default: Any = False) -> None:
    verb.add_argument("--json", action="store_true", default=default, help="one JSON document on standard output")
    verb.add_argument("--debug", action="store_true", default=default, help="show a traceback where something fails")


def _table(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--all", action="store_true", help="every named network, not the paper's five alone")


def _summary(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("network", metavar="NAME|MODEL", help="a network's name, a model file or a run folder")
    verb.add_argument("--input", type=int, metavar="SIZE", help="pixels of the square input (default: the network's own)")
    verb.add_argument("--shortcut", choices=["A", "B", "C"], help="another shortcut than the name's")


def _train(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("data", metavar="DATA", nargs="?", help=LABELLED)
    verb.add_argument("--resume", metavar="RUN", help="go on with a run folder instead")
    verb.add_argument("--allow-change", action="store_true", help="resume though recipe, data or network have changed")
    verb.add_argument(
        "--model",
        metavar="NAME",
        help="the network (default: --init's own, else resnet20, above 64 pixels resnet18)",
    )
    verb.add_argument(
        "--init", metavar="auto|none|MODEL|WEIGHTS", help="weights to start from (default: pretrained above 64 px)"
    )
    verb.add_argument("--recipe", metavar="NAME|FILE", help="how to train (default: finetune from weights, else quick)")
    verb.add_argument("--set", action="append", metavar="FIELD=VALUE", help="change a field of the recipe; may be repeated")
    verb.add_argument("--epochs", type=float, metavar="N", help="in place of the recipe's")
    verb.add_argument("--batch-size", type=int, metavar="N", help="in place of the recipe's")
    verb.add_argument("--input", type=int, metavar="SIZE", help="pixels of the square that the network reads")
    verb.add_argument("--fit", choices=["crop", "pad", "squash"], help="how a picture becomes a square")
    verb.add_argument("--precision", choices=["auto", "float32", "bf16"], help="in place of the recipe's")
    verb.add_argument(
        "--val", type=float, metavar="FRACTION", help="share held out where there is no split val (default: 0.1)"
    )
    verb.add_argument("--seed", type=int, metavar="N", help="of weights, order and augmentation (default: 0)")
    verb.add_argument("--exclude", metavar="FILE", help="relative paths of images to leave out, one a line")
    verb.add_argument("--workers", type=int, metavar="N", help="threads that decode (default: one a core)")
    verb.add_argument("--out", metavar="DIR", help="the run folder (default: runs/DATA-MODEL, then -2, …)")


def _check(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("data", metavar="DATA", help=LABELLED)
    verb.add_argument("--strict", action="store_true", help="exit with 1 where there is a problem")
    verb.add_argument("--input", type=int, metavar="SIZE", help="pixels of the square that the network will read "
                      "(default: 224, and for images of up to 64 pixels their own)")  # fmt: skip
    verb.add_argument("--out", metavar="FILE.html", help="write a page that shows what was found")
    verb.add_argument("--exclude", metavar="FILE", help="write the paths that train --exclude FILE is to leave out")
    verb.add_argument("--preview", metavar="FILE.png", help="draw what the network will see while it trains")
    verb.add_argument("--recipe", metavar="NAME|FILE", help="with --preview: whose augmentation (default: as train's)")


def _evaluate(verb: argparse.ArgumentParser) -> None:
    _model(verb)
    verb.add_argument("data", metavar="DATA", help=LABELLED)
    verb.add_argument("--split", metavar="NAME", help="which images (default: test, else val, else what the model held out, "
                      "else all; held-out and all can be named too)")  # fmt: skip
    _engine(verb)
    verb.add_argument("--out", metavar="DIR", help="write metrics.json, predictions.csv and report.html there")


def _predict(verb: argparse.ArgumentParser) -> None:
    _model(verb)
    verb.add_argument(
        "paths", metavar="PATHS", nargs="+", help="images, folders, globs, manifests, tar shards; - reads paths from stdin"
    )
    verb.add_argument("--top", type=int, default=5, metavar="K", help="classes to say of each image (default: 5)")
    verb.add_argument("--above", type=float, default=0.0, metavar="SCORE", help="only classes with at least this score")
    verb.add_argument("--features", action="store_true", help="the pooled vector of each image too")
    _engine(verb)
    verb.add_argument("--preprocessing", metavar="NAME|FILE", help="how images are prepared, in place of the model's own: "
                      "imagenet, cifar10, a JSON file, or as another model says (.safetensors)")  # fmt: skip
    verb.add_argument("--out", metavar="FILE", help="write a table: .parquet, .csv or .jsonl; a killed run goes on when "
                      "the same command is given again")  # fmt: skip
    verb.add_argument("--part", metavar="I/N", help="the I-th of N parts of the images: one a machine or a job")
    verb.add_argument("--sort-into", metavar="DIR", help="link or copy the images into a folder for each class; with "
                      "--above, the less sure into _unsure")  # fmt: skip
    verb.add_argument("--cluster", metavar="auto|ADDRESS", help="run on a Ray cluster; --out is then a folder of Parquet")


def _export(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("model", metavar="MODEL", nargs="?", help="a model file or a run folder")
    verb.add_argument("--verify", metavar="DIR", help="check an exported folder instead: its hashes, then its answers")
    verb.add_argument("--format", choices=["onnx", "openvino", "torch"], help="whose file it becomes")
    verb.add_argument("--precision", choices=["float32", "bf16", "int8"], help="(default: float32)")
    verb.add_argument("--input", choices=["image", "crops", "tensor"],
                      help="what the file reads: a decoded image of any size, with the whole preprocessing inside; batches "
                      "of ready uint8 crops; or normalised float32 tensors (default: image)")  # fmt: skip
    verb.add_argument("--data", metavar="DATA", help="images to calibrate int8 and to certify on; labels are used if there")
    verb.add_argument("--max-drop", type=float, metavar="POINTS",
                      help="accuracy that int8 may cost, in points (default: 0.5)")  # fmt: skip
    verb.add_argument(
        "--require-faster", action="store_const", const=True, help="refuse int8 that isn't 1.1 times as fast here"
    )
    verb.add_argument("--out", metavar="DIR", help="the folder that is made")


def _convert(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("source", metavar="SOURCE", help="a model of resnets; a .pth, .safetensors, .h5 or .keras file; a "
                      "folder of timm or transformers; a TensorFlow checkpoint; or a name to fetch: "
                      "torchvision:resnet50.IMAGENET1K_V2, timm:resnet50.a1_in1k, hf:ORG/NAME")  # fmt: skip
    verb.add_argument("out", metavar="OUT", help="what is written; its suffix says the form, and none a folder or a prefix")
    verb.add_argument("--from", dest="ecosystem", default="auto", choices=["auto", *ECOSYSTEMS],
                      help="whose weights they are, where names and files don't say")  # fmt: skip
    verb.add_argument(
        "--to", default="resnets", choices=["resnets", *ECOSYSTEMS], help="whose they become (default: resnets)"
    )
    verb.add_argument("--arch", dest="architecture", metavar="NAME", help="the network, where several have these shapes")
    verb.add_argument("--weights", choices=["plain", "ema"], help="which, where a file has plain and averaged ones")
    verb.add_argument("--classes", metavar="FILE", help="class names, one a line; or imagenet, whose 1,000 are built in")
    verb.add_argument("--preprocessing", metavar="NAME|FILE", help="how images are prepared, where the source doesn't say")
    verb.add_argument("--keep-half", action="store_true", help="write float16 or bfloat16 where the source has it")
    verb.add_argument("--licence", "--license", metavar="NAME", help="of the weights, for the model card: apache-2.0, …")
    verb.add_argument("--no-check", action="store_true", help="prove nothing; the certificate says so")


def _bench(verb: argparse.ArgumentParser) -> None:
    each = verb.add_subparsers(dest="what", required=True, metavar="WHAT")
    for name, (said, arguments) in BENCHES.items():
        what = each.add_parser(name, help=said, description=said)
        _always(what, argparse.SUPPRESS)  # so that it takes nothing back of what was said before it
        arguments(what)


def _bench_predict(verb: argparse.ArgumentParser) -> None:
    _model(verb)
    verb.add_argument("--data", metavar="DATA", help="labelled images to measure accuracy on (default: none, time alone)")
    verb.add_argument("--sizes", type=int, nargs="+", metavar="SIZE", help="other input sizes to measure too: 176 …")
    verb.add_argument("--out", metavar="FILE.html", help="write the plot of accuracy against latency there")


def _bench_data(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("data", metavar="DATA", help=LABELLED)
    verb.add_argument("--recipe", metavar="NAME|FILE", help="as train --recipe (default: finetune from weights, else quick)")
    verb.add_argument("--input", type=int, metavar="SIZE", help="pixels of the square that the network reads")
    verb.add_argument("--workers", type=int, metavar="N", help="threads that decode (default: one a core)")


def _demo(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--out", default="resnets-demo", metavar="DIR", help="where it goes (default: resnets-demo)")


def _pack(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("data", metavar="DATA", help=LABELLED)
    verb.add_argument("out", metavar="OUT", help="the folder of shards; a killed pack goes on when it is given again")
    verb.add_argument("--size", type=int, default=256, metavar="N",
                      help="pixels of the shorter side, at most; 0 copies the files as they are (default: 256)")  # fmt: skip
    verb.add_argument("--quality", type=int, default=95, metavar="Q", help="of JPEG, from 1 to 100 (default: 95)")
    verb.add_argument("--shards", type=int, metavar="N", help="shards of each split (default: of 256 MB at most, about)")
    verb.add_argument("--workers", type=int, default=0, metavar="N", help="threads (default: one a core)")


def _model(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("model", metavar="MODEL", help="a model file, a run folder or an exported folder")


def _engine(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--engine", default="auto", choices=["auto", "openvino", "onnxruntime", "torch"],
                      help="default: PyTorch where it sees a GPU, else OpenVINO")  # fmt: skip
    verb.add_argument("--precision", default="auto", choices=["auto", "float32", "bf16", "int8"],
                      help="default: bf16 where that is faster, else float32")  # fmt: skip
    verb.add_argument("--exact", action="store_true", help="decode large JPEGs in full, not at a reduced scale")
    verb.add_argument("--mirror", action="store_true", help="average with the mirror image's answer: twice the arithmetic")


BENCHES = {
    "predict": ("A model with each engine and precision: its speed, and with --data how good it is.", _bench_predict),
    "data": ("What brings images to training: decoding, augmenting, batching, and the time that it waits.", _bench_data),
}

ARGUMENTS = {
    "table": _table,
    "summary": _summary,
    "check": _check,
    "train": _train,
    "evaluate": _evaluate,
    "predict": _predict,
    "export": _export,
    "convert": _convert,
    "bench": _bench,
    "pack": _pack,
    "demo": _demo,
}
