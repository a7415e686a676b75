"""`resnets demo`: the whole road once, on the built-in digits: train, evaluate, predict, a report and a picture."""

import logging
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from resnets.data import open_dataset
from resnets.errors import WorkFailed
from resnets.evaluation import choose, examine, write_report
from resnets.metrics import softmax
from resnets.model import load
from resnets.pages.gallery import Tile, gallery
from resnets.training import train_run

log = logging.getLogger("resnets")

GOOD = 0.97  # top-1 on held-out digits: below it, something is broken
TRAINING = {"model": "resnet20", "input": 16, "epochs": 14, "batch_size": 64, "learning_rate": 0.1, "val": 0.2}
SHOWN = 32  # digits in the picture


def demo(out: str | os.PathLike[str] = "resnets-demo") -> dict[str, Any]:
    """Train a ResNet-20 on the built-in digits and measure it: {"top1", "model", "report", "picture", "seconds"}.

    Raises ValueError where `out` isn't empty, WorkFailed where the held-out digits come out under 97%.
    """
    began = time.perf_counter()
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} isn't empty; name another --out, or remove it")
    folder.mkdir(parents=True, exist_ok=True)
    run = train_run("digits", out=folder / "run", **TRAINING)
    model = load(run)
    saved = model.save(folder / "digits.safetensors")
    data = open_dataset("digits")
    evaluation = examine(model, data)
    write_report(folder / "evaluation", model, evaluation)
    indices = choose(model, data, None).indices
    scores = softmax(evaluation.logits)
    # the mistakes first, then the rest as they come
    order = np.argsort(scores.argmax(1) == evaluation.labels, kind="stable")[:SHOWN]
    tiles = [
        Tile(data.images.read(int(indices[i])), model.classes[scores[i].argmax()], float(scores[i].max()),
             model.classes[evaluation.labels[i]]) for i in order
    ]  # fmt: skip
    gallery(tiles, folder / "predictions.png")
    top1 = evaluation.figures["top1"]
    if top1 < GOOD:
        raise WorkFailed(
            f"the demo's digits came out at {top1:.1%}, under {GOOD:.0%}: something is wrong with this installation"
        )
    return {
        "top1": top1,
        "images": evaluation.figures["images"],
        "model": str(saved),
        "report": str(run / "report.html"),
        "evaluation": str(folder / "evaluation" / "report.html"),
        "picture": str(folder / "predictions.png"),
        "seconds": round(time.perf_counter() - began, 1),
    }
