"""The verb that labels images: to the screen, to a table, into folders, on a cluster."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from resnets.arguments import PREDICT_OPTIONS

if TYPE_CHECKING:
    from resnets.model import Model
    from resnets.prediction.exported import Exported
    from resnets.prediction.paths import Part
    from resnets.prediction.sorting import Sorter


def predict(options: argparse.Namespace) -> int:
    """Say what images show."""
    from resnets import prediction
    from resnets.prediction.exported import open_model
    from resnets.prediction.paths import Part, listed
    from resnets.prediction.preparing import prepared
    from resnets.prediction.sorting import Sorter

    if options.cluster is not None:
        return _predict_on_cluster(options)
    if options.features and options.out is None and not options.json:
        raise ValueError("features are numbers by the hundred: write them with --out FILE, or --json")
    share = None if options.part is None else Part.parse(options.part)
    model = prepared(open_model(options.model), options.preprocessing)
    sorter = None if options.sort_into is None else Sorter(options.sort_into, model.classes)
    if options.out is not None:
        return _predict_to(options, model, sorter, share)
    images: Sequence[str] = options.paths
    if sorter is not None or share is not None:
        images = listed(options.paths, sort_into=options.sort_into)
        images = images if share is None else share.of_images(images)
    how = {name: getattr(options, name) for name in PREDICT_OPTIONS}
    answers = prediction.predict(model, images, **how)
    counted = prediction.Counted(answers if sorter is None else sorter.passing(answers))
    if options.json:
        from resnets import terminal

        terminal.print_json([answer.to_json() for answer in counted])
    else:
        for answer in counted:
            said = "  ".join(f"{label} {score:.1%}" for label, score in answer.top(options.top))
            print(f"{answer.path}: {said or answer.error or 'nothing above the score'}")
    if sorter is not None:
        sorter.say()
    return counted.status()


def _predict_to(
    options: argparse.Namespace, model: "Model | Exported", sorter: "Sorter | None", share: "Part | None"
) -> int:
    """`predict` with --out."""
    from resnets import prediction, terminal
    from resnets.prediction.paths import listed
    from resnets.prediction.sorting import sort_table
    from resnets.prediction.tables import Layout, check_table

    check_table(Path(options.out), options.features)
    images = listed(options.paths, out=options.out, part=share, sort_into=options.sort_into)
    how = {name: getattr(options, name) for name in PREDICT_OPTIONS}
    written = prediction.predict_to(model, images, options.out, part=options.part, **how)
    if sorter is not None:
        layout = Layout(written.out.suffix, options.top, options.features)
        sort_table(written.out, layout, images if share is None else share.of_images(images), sorter)
        sorter.say()
    if options.json:
        terminal.print_json({**written.to_json(), **({} if sorter is None else {"sorted": sorter.to_json()})})
    return written.status()


def _predict_on_cluster(options: argparse.Namespace) -> int:
    """`predict` with --cluster."""
    from resnets import terminal
    from resnets.prediction.cluster import predict_on_cluster
    from resnets.prediction.exported import open_model
    from resnets.prediction.preparing import prepared

    if options.sort_into is not None:
        raise ValueError("--sort-into links and copies files on this machine; with --cluster, leave it out")
    model = options.model
    if options.preprocessing is not None:
        model = prepared(open_model(model), options.preprocessing)
    how = {name: getattr(options, name) for name in (*PREDICT_OPTIONS, "part")}
    written = predict_on_cluster(model, options.paths, options.out, cluster=options.cluster, **how)
    if options.json:
        terminal.print_json(written.to_json())
    return written.status()
