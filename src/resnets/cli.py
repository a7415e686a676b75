"""The command line: one function a verb, each thin over the Python function of the same name.

Answers go to standard output (with --json one JSON document and nothing else), progress and logs to standard error. Exit
status: 0 done, 1 the work failed, 2 the request was wrong.
"""

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import resnets

log = logging.getLogger("resnets")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its status."""
    options = _parser().parse_args(arguments)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        sys.exit(_run(options))
    finally:
        log.removeHandler(handler)


def _run(options: argparse.Namespace) -> int:
    from resnets.errors import MissingExtra, WorkFailed

    try:
        return options.verb(options) or 0
    except (ValueError, FileNotFoundError, NotADirectoryError) as error:
        return _refuse(error, 2, options.debug)
    except (WorkFailed, MissingExtra, OSError) as error:
        return _refuse(error, 1, options.debug)
    except KeyboardInterrupt:
        print("resnets: stopped", file=sys.stderr)
        return 1
    except Exception as error:
        message = f"{type(error).__name__}: {error}. This is a fault of resnets; --debug shows where"
        return _refuse(WorkFailed(message) if not options.debug else error, 1, options.debug)


def _refuse(error: Exception, status: int, debug: bool) -> int:
    if debug:
        raise error
    said = str(error)
    if isinstance(error, OSError) and error.strerror:
        said = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    print(f"resnets: {said}", file=sys.stderr)
    return status


def table(options: argparse.Namespace) -> None:
    """Table 1 of the paper, with exact counts."""
    from resnets import complexity, terminal

    rows = complexity.table(options.all)
    if options.json:
        terminal.print_json(rows)
    else:
        terminal.show_table(rows, options.all)


def summary(options: argparse.Namespace) -> None:
    """Every layer of a network, or of a model and what belongs to it."""
    from resnets import terminal
    from resnets.summary import summarise

    found = summarise(options.network, options.input, options.shortcut)
    if options.json:
        terminal.print_json(found.to_json())
    else:
        terminal.show_layers(found.title, found.layers, found.net.channels, found.size, found.facts)


def train(options: argparse.Namespace) -> None:
    """Train a network on labelled images."""
    from resnets import terminal
    from resnets.model import load
    from resnets.training import train_run

    given = {name: getattr(options, name) for name in TRAIN_OPTIONS if getattr(options, name) is not None}
    if options.set:
        from resnets.training.recipe import parse_setting

        given["settings"] = dict(map(parse_setting, options.set))
    run = train_run(options.data, resume=options.resume, **given)
    model = load(run)
    document = {
        "run": str(run),
        "model": str(run / "best.safetensors"),
        "report": str(run / "report.html"),
        **model.accuracy,
    }
    if options.json:
        terminal.print_json(document)
        return
    measured = (
        f"top-1 {model.accuracy['top1']:.2%} on {model.accuracy['split']}" if model.accuracy else "nothing was held out"
    )
    print(f"{document['model']}: {measured}\n{document['report']}: curves")


def evaluate(options: argparse.Namespace) -> None:
    """Measure a model on labelled images."""
    from resnets import evaluation, model, terminal

    loaded = model.load(options.model)
    how = {"engine": options.engine, "precision": options.precision, "exact": options.exact}
    result = evaluation.examine(loaded, options.data, split=options.split, **how)
    if options.out is not None:
        evaluation.write_report(Path(options.out), loaded, result)
    if options.json:
        terminal.print_json(result.figures)
    else:
        terminal.show_evaluation(result.figures)
        if options.out is not None:
            print(f"{Path(options.out) / 'report.html'}: calibration, confusions, mistakes")


def predict(options: argparse.Namespace) -> int:
    """Say what images show."""
    from resnets import prediction
    from resnets.prediction.tables import check_table, table_row, write_table

    out = None if options.out is None else Path(options.out)
    if out is not None:
        check_table(out)
    how = {name: getattr(options, name) for name in ("top", "above", "engine", "precision", "exact")}
    answers = prediction.Counted(prediction.predict(options.model, list(options.paths), **how))
    if out is not None:
        rows = (table_row(answer.path or "", answer.labels, answer.scores, answer.error) for answer in answers)
        write_table(out, rows, options.top)
        log.info("%s: %d rows", out, answers.predicted + answers.failed)
    if options.json:
        from resnets import terminal

        written = {"out": str(out), "predicted": answers.predicted, "failed": answers.failed}
        terminal.print_json([answer.to_json() for answer in answers] if out is None else written)
    elif out is None:
        for answer in answers:
            said = "  ".join(f"{label} {score:.1%}" for label, score in answer.top(options.top))
            print(f"{answer.path}: {said or answer.error or 'nothing above the score'}")
    return answers.status()


def demo(options: argparse.Namespace) -> None:
    """The whole road once, on the built-in digits."""
    from resnets import demonstration, terminal

    found = demonstration.demo(options.out)
    if options.json:
        terminal.print_json(found)
        return
    print(f"top-1 {found['top1']:.2%} on {found['images']} digits that didn't train, in {found['seconds']} s")
    for name, said in (("model", "the model, one file"), ("report", "how training went"), ("evaluation", "how good it is"),
                       ("picture", "what it says of some digits, mistakes first")):  # fmt: skip
        print(f"{found[name]}: {said}")


TRAIN_OPTIONS = ("model", "init", "recipe", "epochs", "batch_size", "input", "fit", "precision", "val", "seed", "exclude",
                 "workers", "out")  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="resnets", description="Residual networks: name one, train it on your images, measure it, run it anywhere."
    )
    parser.add_argument("--version", action="version", version=f"resnets {resnets.__version__}")
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    verb = _verb(verbs, "table", table)
    verb.add_argument("--all", action="store_true", help="every named network, not the paper's five alone")

    verb = _verb(verbs, "summary", summary)
    verb.add_argument("network", metavar="NAME|MODEL", help="a network's name, a model file or a run folder")
    verb.add_argument("--input", type=int, metavar="SIZE", help="pixels of the square input (default: the network's own)")
    verb.add_argument("--shortcut", choices=["A", "B", "C"], help="another shortcut than the name's")

    _train_options(_verb(verbs, "train", train))

    verb = _verb(verbs, "evaluate", evaluate)
    verb.add_argument("model", metavar="MODEL", help="a model file or a run folder")
    verb.add_argument("data", metavar="DATA", help="labelled images: a folder, a manifest, IDX files, or digits")
    verb.add_argument("--split", metavar="NAME", help="which images (default: test, else val, else what the model held out, "
                      "else all; held-out and all can be named too)")  # fmt: skip
    _engine_options(verb)
    verb.add_argument("--out", metavar="DIR", help="write metrics.json, predictions.csv and report.html there")

    verb = _verb(verbs, "predict", predict)
    verb.add_argument("model", metavar="MODEL", help="a model file or a run folder")
    verb.add_argument(
        "paths", metavar="PATHS", nargs="+", help="images, folders, globs, manifests; - reads paths from stdin"
    )
    verb.add_argument("--top", type=int, default=5, metavar="K", help="classes to say of each image (default: 5)")
    verb.add_argument("--above", type=float, default=0.0, metavar="SCORE", help="only classes with at least this score")
    _engine_options(verb)
    verb.add_argument("--out", metavar="FILE", help="write a table: .parquet, .csv or .jsonl")

    verb = _verb(verbs, "demo", demo)
    verb.add_argument("--out", default="resnets-demo", metavar="DIR", help="where it goes (default: resnets-demo)")
    return parser


def _verb(verbs: Any, name: str, function: Callable[[argparse.Namespace], int | None]) -> argparse.ArgumentParser:
    said = function.__doc__
    verb = verbs.add_parser(name, help=said, description=said)
    verb.add_argument("--json", action="store_true", help="one JSON document on standard output")
    verb.add_argument("--debug", action="store_true", help="show a traceback where something fails")
    verb.set_defaults(verb=function)
    return verb


def _train_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("data", metavar="DATA", nargs="?", help="labelled images: a folder, a manifest, IDX files, or digits")
    verb.add_argument("--resume", metavar="RUN", help="go on with a run folder instead")
    verb.add_argument("--model", metavar="NAME", help="the network (default: resnet20 up to 64 pixels, resnet18 above)")
    verb.add_argument(
        "--init", metavar="auto|none|MODEL|WEIGHTS", help="weights to start from (default: pretrained above 64 px)"
    )
    verb.add_argument("--recipe", metavar="NAME|FILE", help="how to train (default: finetune from weights, else quick)")
    verb.add_argument("--set", action="append", metavar="FIELD=VALUE", help="change a field of the recipe; may be repeated")
    verb.add_argument("--epochs", type=float, metavar="N")
    verb.add_argument("--batch-size", type=int, metavar="N")
    verb.add_argument("--input", type=int, metavar="SIZE", help="pixels of the square that the network reads")
    verb.add_argument("--fit", choices=["crop", "pad", "squash"], help="how a picture becomes a square")
    verb.add_argument("--precision", choices=["auto", "float32", "bf16"])
    verb.add_argument(
        "--val", type=float, metavar="FRACTION", help="share held out where there is no split val (default: 0.1)"
    )
    verb.add_argument("--seed", type=int, metavar="N")
    verb.add_argument("--exclude", metavar="FILE", help="relative paths of images to leave out, one a line")
    verb.add_argument("--workers", type=int, metavar="N", help="threads that decode (default: one a core)")
    verb.add_argument("--out", metavar="DIR", help="the run folder (default: runs/DATA-MODEL, then -2, …)")


def _engine_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--engine", default="auto", choices=["auto", "openvino", "torch"])
    verb.add_argument("--precision", default="auto", choices=["auto", "float32", "bf16", "int8"])
    verb.add_argument("--exact", action="store_true", help="decode large JPEGs in full, not at a reduced scale")
