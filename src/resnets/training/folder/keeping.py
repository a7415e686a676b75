"""What a run keeps in its folder: checkpoints, the model of an epoch and of the best one, log, report."""

import logging
import time
from importlib.metadata import version
from typing import Any

import numpy as np

from resnets import metrics
from resnets.model import Model
from resnets.networks import ResNet
from resnets.training.folder import checkpoint, watching
from resnets.training.folder.run import About, Run
from resnets.training.loop import Trainer
from resnets.training.options import Options
from resnets.training.parts import Progress
from resnets.training.plan import Plan
from resnets.training.recipe import Recipe

log = logging.getLogger("resnets")

BEST, LAST = "best.safetensors", "last.safetensors"
WORTH_SAYING = 0.01  # of top-1 between the norms' averages and each batch's own statistics


class Keeper:
    """Keeps what a run leaves; all processes have one, and the first writes."""

    def __init__(self, run: Run, made: Plan, trainer: Trainer, progress: Progress) -> None:
        self.run, self.made, self.trainer, self.progress = run, made, trainer, progress
        self.writes = trainer.world.first
        self.clock = Clock(made.recipe, progress.step)
        self.about = About(made.data.name, made.name, trainer.steps / max(trainer.steps_per_epoch, 1))
        self.shown = False  # the first batch

    def begin(self) -> None:
        """The report, before the first step; of a run that goes on, that it does."""
        if self.writes:
            if self.run.rows("epoch") or self.progress.step:
                self.run.going_on(self.progress.step, self.trainer.steps)
            self.run.report(self.about)

    def due(self) -> bool:
        """Whether a checkpoint is, within an epoch."""
        return self.clock.rings(self.progress.step)

    def note(self, event: str, said: str) -> None:
        """Log something that happened."""
        if self.writes:
            self.run.note(event, said)

    def save(self, **changes: Any) -> None:
        """A checkpoint of now."""
        if self.writes:
            parts = self.trainer.parts
            now = vars(self.progress) | changes
            checkpoint.save(self.run.folder, parts.network, parts.optimizer, now, parts.average, parts.learned)
        self.clock.wind(self.progress.step)

    def epoch(self, row: dict[str, Any]) -> bool:
        """Log an epoch; save `last`, `best` where it is the best so far, and a checkpoint. Whether it is the best so far."""
        measured = {name.removeprefix("val_"): value for name, value in row.items() if name.startswith("val_")}
        before, patience = self.progress.best, self.made.recipe.patience
        best = better(measured, before)
        if best:
            self.progress.best = {**measured, "epoch": row["epoch"]}
        elif patience and before is not None and row["epoch"] - before["epoch"] >= patience:
            self.progress.ended = True
        if self.writes:
            self.write(row, measured, best)
            if self.progress.ended:
                self.run.note("early stop", f"no epoch of the last {patience} was better than epoch {before['epoch']}")  # type: ignore[index]
        self.save(sums=Progress().sums)
        if self.writes:
            self.run.report(self.about)
        return best

    def write(self, row: dict[str, Any], measured: dict[str, Any], best: bool) -> None:
        """The models, the pictures and the log line of an epoch."""
        self.show_batch()
        self.run.log({"event": "epoch", **row, "memory": watching.memory()})
        with self.trainer.weights():
            model = snapshot(self.made, self.trainer.parts.network, self.run.options, measured)
        model.save(self.run.folder / LAST)
        if best:
            model.save(self.run.folder / BEST)
            if (seen := self.trainer.measured) is not None:
                counts = watching.confusion(seen.predicted, seen.labels, len(self.made.classes))
                self.run.show_confusion(counts, self.made.classes, row["epoch"], row["step"])

    def show_batch(self) -> None:
        """The first images that the network learned from, once."""
        if self.shown or self.trainer.first is None:
            return
        self.shown = True
        images, targets = self.trainer.first
        names = targets.in_words(self.made.classes)
        self.run.show_batch(watching.as_seen(images.numpy(), self.made.how), names, self.progress.step)

    def close(self) -> None:
        """Log what couldn't be read, also of a run that failed."""
        if self.writes:
            known = {row["path"] for row in self.run.rows("unreadable")}
            for path, reason in (self.trainer.failures | self.trainer.loader.failures).items():
                if path not in known:
                    self.run.log({"event": "unreadable", "path": path, "reason": reason})
            self.run.report(self.about)

    def finish(self) -> None:
        """Say how training and evaluation mode differ, write the report, and delete what only a resume would need."""
        if (gap := self.trainer.gap()) is not None:
            averages, batches = gap
            said = f"top-1 {averages:.1%} by the norms' averages, {batches:.1%} by each batch's own statistics"
            self.note("statistics", said)
            if batches - averages > WORTH_SAYING:
                log.warning("%s: the averages lag behind; --set recompute_statistics=true computes them anew", said)
        if self.writes:
            self.run.report(self.about, finished=True)
            self.run.finish()
            self.run.close()
            checkpoint.remove(self.run.folder)


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


def better(measured: dict[str, Any], before: dict[str, Any] | None) -> bool:
    """Whether an epoch's figures are the best so far: the highest top-1, then the lowest loss; unmeasured, the last is.

    One that nothing could be measured of is no better than one that was.
    """
    if before is None or "top1" not in before:
        return True
    return bool(measured) and (measured["top1"], -measured["loss"]) > (before["top1"], -before["loss"])


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
