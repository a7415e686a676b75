"""The command line: one function a verb, each thin over the Python function of the same name.

Answers go to standard output (with --json one JSON document and nothing else), progress and logs to standard error. Exit
status: 0 done, 1 the work failed, 2 the request was wrong.
"""

import argparse
import io
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from resnets.arguments import BENCH_DATA_OPTIONS, CONVERT_OPTIONS, ENGINE_OPTIONS, TRAIN_OPTIONS, parser
from resnets.cli.predicting import predict

log = logging.getLogger("resnets")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its status."""
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "backslashreplace")):  # names that are no UTF-8
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)
    options = parser(VERBS).parse_args(arguments)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        sys.exit(_run(options))
    finally:
        log.removeHandler(handler)


def _run(options: argparse.Namespace) -> int:
    from resnets.errors import MissingExtra, Terminated, WorkFailed

    try:
        return options.verb(options) or 0
    except (ValueError, FileNotFoundError, NotADirectoryError) as error:
        return _refuse(error, 2, options.debug)
    except Terminated as ended:
        print(f"resnets: {ended}", file=sys.stderr)
        return 0
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
    if said:  # one of several processes leaves the word to the others
        print(f"resnets: {said}", file=sys.stderr)
    return status


def table(options: argparse.Namespace) -> None:
    """Table 1 of the paper, with exact counts."""
    from resnets import summary as summaries
    from resnets import terminal

    rows = summaries.table(options.all)
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


def check(options: argparse.Namespace) -> int:
    """Say what is wrong with labelled images: broken files, duplicates, leaks between splits, unequal classes."""
    from resnets import terminal
    from resnets.pages.health import check_and_show

    if options.preview is not None:
        from resnets.training import need_training

        need_training("a preview")
        from resnets.training.preview import preview

        preview(options.data, options.preview, options.recipe, options.input)
    elif options.recipe is not None:
        raise ValueError("check shows a recipe's images with --preview FILE.png; without it --recipe has nothing to do")
    found = check_and_show(options.data, out=options.out, exclude=options.exclude, size=options.input)
    if options.json:
        terminal.print_json(found.to_json())
    else:
        terminal.show_health(found, options.exclude, options.out)
        if options.preview is not None:
            print(f"{options.preview}: what the network will see")
    return int(options.strict and bool(found.problems))


def train(options: argparse.Namespace) -> None:
    """Train a network on labelled images."""
    from resnets import terminal
    from resnets.model import load
    from resnets.training import train_run

    given = {name: getattr(options, name) for name in TRAIN_OPTIONS if getattr(options, name) is not None}
    if options.set:
        from resnets.training.shipped import parse_setting

        given["settings"] = dict(map(parse_setting, options.set))
    from resnets.training.processes.elastic import quiet_unless_first

    quiet_unless_first()
    run = train_run(options.data, resume=options.resume, allow_change=options.allow_change, **given)
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
    from resnets import evaluation, terminal
    from resnets.prediction.exported import open_model

    if options.out is not None and Path(options.out).exists() and not Path(options.out).is_dir():
        raise ValueError(f"{options.out} is a file; --out is a folder, for a report")
    loaded = open_model(options.model)
    how = {name: getattr(options, name) for name in ENGINE_OPTIONS}
    result = evaluation.examine(loaded, options.data, split=options.split, **how)
    if options.out is not None:
        evaluation.write_report(Path(options.out), loaded, result)
    if options.json:
        terminal.print_json(result.figures)
    else:
        terminal.show_evaluation(result.figures)
        if options.out is not None:
            print(f"{Path(options.out) / 'report.html'}: calibration, confusions, mistakes")


def export(options: argparse.Namespace) -> None:
    """Write a model as another runtime's file, with proof that it predicts the same; or check such a folder."""
    from resnets import exporting, terminal

    names = ("format", "precision", "input", "max_drop", "require_faster")
    how = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if options.verify is not None:
        if beside := [name for name in ("model", *how, "out") if getattr(options, name) is not None]:
            said = "MODEL" if beside[0] == "model" else f"--{beside[0].replace('_', '-')}"
            raise ValueError(f"--verify checks a folder as it is, with --data at most; leave {said} out")
        found = exporting.verify(options.verify, options.data)
        if options.json:
            terminal.print_json(found)
        else:
            terminal.show_verified(options.verify, found)
        return
    for name in ("model", "format", "out"):
        if getattr(options, name) is None:
            raise ValueError(f"export needs {'MODEL' if name == 'model' else f'--{name}'}; or --verify DIR")
    folder = exporting.export(options.model, options.out, data=options.data, **how)
    certificate = exporting.read_certificate(folder)
    if options.json:
        terminal.print_json({"out": str(folder), **certificate})
    else:
        terminal.show_certificate(folder, certificate)


def convert(options: argparse.Namespace) -> None:
    """Move weights between torchvision, timm, transformers, Keras, TensorFlow and resnets, with proof."""
    from resnets import conversion, terminal

    given = {name: getattr(options, name) for name in CONVERT_OPTIONS}
    document = conversion.convert(options.source, options.out, check=not options.no_check, **given)
    if options.json:
        terminal.print_json(document)
    else:
        terminal.show_conversion(options.out, document)


def pack(options: argparse.Namespace) -> None:
    """Write labelled images as tar shards, resized once, which training reads faster than many small files."""
    from resnets import terminal
    from resnets.data.packing import pack as pack_shards

    packed = pack_shards(options.data, options.out, options.size, options.quality, options.shards, options.workers)
    if options.json:
        terminal.print_json(packed.to_json())
    else:
        terminal.show_packed(packed.to_json())


def bench(options: argparse.Namespace) -> None:
    """Measure this machine: how fast a model runs here and how good it then is, or how fast images come to training."""
    from resnets import terminal

    if options.what == "predict":
        from resnets.bench.prediction import bench_predict

        document, show = bench_predict(options.model, options.data, options.sizes or (), options.out), terminal.show_bench
    else:
        from resnets.bench.data import bench_data

        given = {name: getattr(options, name) for name in BENCH_DATA_OPTIONS if getattr(options, name) is not None}
        document, show = bench_data(options.data, **given), terminal.show_bench_data
    if options.json:
        terminal.print_json(document)
    else:
        show(document)


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


VERBS = {
    verb.__name__: verb for verb in (table, summary, check, train, evaluate, predict, export, convert, pack, bench, demo)
}
