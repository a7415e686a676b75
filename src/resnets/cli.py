"""The command line: one function a verb, each thin over the Python function of the same name.

Answers go to standard output (with --json one JSON document and nothing else), progress and logs to standard error. Exit
status: 0 done, 1 the work failed, 2 the request was wrong.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from resnets.arguments import ENGINE_OPTIONS, TRAIN_OPTIONS, parser

log = logging.getLogger("resnets")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its status."""
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
    from resnets import evaluation, terminal
    from resnets.prediction.exported import open_model

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


VERBS = {verb.__name__: verb for verb in (table, summary, train, evaluate, predict, demo)}
