"""One run from its plan to its models and report."""

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from resnets import machine, metrics
from resnets.data.loader import Loader
from resnets.errors import Terminated
from resnets.model import Model
from resnets.networks import ResNet, network
from resnets.pages.training import training_page
from resnets.training import checkpoint
from resnets.training.loop import Progress, Stopped, Trainer
from resnets.training.optimizer import optimizer
from resnets.training.options import Options
from resnets.training.plan import Plan, plan
from resnets.training.progress import ProgressLine
from resnets.training.recipe import Recipe
from resnets.training.run import Run

log = logging.getLogger("resnets")

BEST, LAST, REPORT = "best.safetensors", "last.safetensors", "report.html"


def start(options: Options) -> Path:
    """Plan a run, make its folder and train; the folder."""
    made = plan(options)
    run = Run.create(options, made.data.name, made.name, decided(made))
    return train(run, made)


def decided(made: Plan) -> dict[str, Any]:
    """What a run records of its plan, and holds to when it is resumed."""
    return {
        "network": made.name,
        "start": made.start.source if made.start else "none",
        "recipe": made.recipe.to_json(),
        "preprocessing": made.how.to_json(),
        "data": made.fingerprint,
    }


def resume(folder: Path, given: Mapping[str, Any] | None = None, allow_change: bool = False) -> Path:
    """Go on with a run: from its checkpoint, or from step 0 where there is none yet; a finished one is left as it is.

    `given` are options and fields of the recipe that are to be others than the run's own. Raises ValueError, with the
    difference, where these, data or weights have changed since it began, unless `allow_change`; it is recorded then.
    """
    run = Run.open(folder)
    if run.finished:
        log.info("%s is finished", folder)
        return folder
    options = run.options.with_changes(given or {})
    made = plan(options)
    before = run.document["decided"]
    if options.settings.get("precision", "auto") == "auto":  # a rule's choice is kept
        made = replace(made, recipe=replace(made.recipe, precision=before["recipe"]["precision"]))
    after = decided(made)
    if said := differences(before, after):
        if not allow_change:
            raise ValueError(f"{folder} can't go on as it began: {said}; --allow-change goes on all the same")
        log.warning("%s goes on otherwise than it began: %s", folder, said)
        run.change(options, after, said)
    return train(run, made)


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """What was decided and would be other now, field by field, as a sentence; "" where nothing is."""
    said = []
    for name, value in after.items():
        was = before.get(name)
        if isinstance(value, Mapping) and isinstance(was, Mapping):
            fields = [key for key in {**was, **value} if was.get(key) != value.get(key)]
            said += [f"{name} {key} was {was.get(key)} and is now {value.get(key)}" for key in fields]
        elif value != was:
            said.append(f"its {name} was {was} and is now {value}")
    return "; ".join(said)


def train(run: Run, made: Plan) -> Path:
    """Train as planned; the run folder. On Ctrl-C the run is saved and Stopped says how to go on."""
    machine.keep_freed_memory()
    run.clean()
    log.info("run folder %s", run.folder)
    net = initial(made, run.options.seed)
    sgd = optimizer(net, made.recipe)
    trainer = Trainer(net, sgd, made.recipe, made.how, loaders(made, run.options))
    progress = Progress()
    if saved := checkpoint.restore(run.folder, net, sgd):
        progress = Progress(**saved)
        log.info("going on after step %d of %d", progress.step, trainer.steps)
    try:
        with ProgressLine(trainer.steps, progress.step) as line:
            pace: dict[str, Any] = {}
            clock = Clock(made.recipe, progress.step)
            for event, row in trainer.fit(progress):
                if event == "step":
                    pace = row
                    line.step(row)
                    if clock.rings(progress.step) and progress.step % trainer.steps_per_epoch:
                        checkpoint.save(run.folder, net, sgd, vars(progress))
                        clock.wind(progress.step)
                else:
                    row |= {key: pace[key] for key in ("images_per_second", "waiting")}
                    keep(run, made, net, progress, row)
                    line.epoch(row)
                    checkpoint.save(run.folder, net, sgd, vars(progress) | {"sums": Progress().sums})
                    clock.wind(progress.step)
    except (Stopped, Terminated) as stopped:
        checkpoint.save(run.folder, net, sgd, vars(progress))
        raise type(stopped)(f"{stopped}; resnets train --resume {run.folder} goes on") from None
    finally:
        for path, reason in trainer.loader.failures.items():
            run.log({"event": "unreadable", "path": path, "reason": reason})
        run.close()
    report(run, made)
    run.finish()
    checkpoint.remove(run.folder)
    return run.folder


class Clock:
    """Says when a checkpoint is due within an epoch: after so many steps, or so long."""

    def __init__(self, recipe: Recipe, step: int) -> None:
        self.steps, self.seconds = recipe.saving
        self.wind(step)

    def wind(self, step: int) -> None:
        """From now on, until the next."""
        self.step, self.time = step, time.monotonic()

    def rings(self, step: int) -> bool:
        """Whether it is due."""
        return step - self.step >= self.steps or time.monotonic() - self.time >= self.seconds


def initial(made: Plan, seed: int) -> ResNet:
    """The network before the first step: fresh from the seed, then the weights to start from, all but an unfit head."""
    net = network(made.net, seed=seed, zero_gamma=made.recipe.zero_gamma)
    if made.start is None:
        return net
    own = net.state_dict()
    given = {name: torch.from_numpy(np.asarray(array)) for name, array in made.start.state.items() if name in own}
    if made.start.classes is None:
        given = {name: tensor for name, tensor in given.items() if not name.startswith("fc.")}
    else:  # the same classes, perhaps in another order
        place = [made.start.classes.index(name) for name in made.classes]
        given |= {name: given[name][place] for name in ("fc.weight", "fc.bias")}
    net.load_state_dict({**own, **given})
    return net


def loaders(made: Plan, options: Options) -> tuple[Loader, Loader]:
    """Those of training and validation images."""
    size, recipe = made.how.size, made.recipe
    what = recipe.augmentation(size, made.data.mirrors)
    training, measuring = made.samples(made.division.train), made.samples(made.division.val)
    return (
        Loader(training, made.how, recipe.batch_size, augmentation=what, seed=options.seed, workers=options.workers),
        Loader(measuring, made.how, max(recipe.batch_size, 32), workers=options.workers),
    )


def keep(run: Run, made: Plan, net: ResNet, progress: Progress, row: dict[str, Any]) -> None:
    """Log an epoch and save `last`, and `best` where it is the best so far: the highest top-1, then the lowest loss."""
    run.log({"event": "epoch", **row})
    measured = {name.removeprefix("val_"): value for name, value in row.items() if name.startswith("val_")}
    model = snapshot(made, net, run.options, measured)
    model.save(run.folder / LAST)
    before = progress.best
    if not measured or before is None or (measured["top1"], -measured["loss"]) > (before["top1"], -before["loss"]):
        model.save(run.folder / BEST)
        progress.best = {**measured, "epoch": row["epoch"]}


def snapshot(made: Plan, net: ResNet, options: Options, measured: dict[str, Any]) -> Model:
    """The network as it stands, with all that belongs to it."""
    accuracy = {}
    if measured:
        accuracy = {**measured, "split": made.division.val_name, "data": made.data.name}
        accuracy["interval"] = list(metrics.interval(measured["top1"], measured["images"]))
    every = np.concatenate([made.division.train, made.division.val])
    return Model(
        architecture=made.net,
        classes=made.classes,
        preprocessing=made.how,
        state={
            name: tensor.detach().float().cpu().numpy() if tensor.is_floating_point() else tensor.cpu().numpy()
            for name, tensor in net.state_dict().items()
        },
        recipe={**made.recipe.to_json(), "seed": options.seed, "init": made.start.source if made.start else "none"},
        data={
            "name": made.data.name,
            "fingerprint": made.fingerprint,
            "images": len(made.division.train),
            "held_out": made.division.rule,
            "measured": len(every) - len(made.division.train),
        },
        accuracy=accuracy,
        versions={name: version(name) for name in ("resnets", "torch", "numpy")},
    )


def report(run: Run, made: Plan) -> None:
    """report.html: the curves and what the run was."""
    rows = run.rows("epoch")
    page = training_page(made.data.name, made.name, rows, run.document["decided"], run.rows("unreadable"))
    (run.folder / REPORT).write_text(page, encoding="utf-8")
