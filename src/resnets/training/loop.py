"""The training loop: every step of it in sight. Fabric stands for devices and communication alone."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from itertools import chain, islice
from operator import itemgetter
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnets.data.loader import Batch
from resnets.data.order import part_of
from resnets.data.preprocessing import Preprocessing
from resnets.errors import WorkFailed
from resnets.training.agreement import Agreed, Agreement
from resnets.training.freezing import Freezer
from resnets.training.interruptions import interruptions, stop
from resnets.training.losses import Targets, distilled, loss
from resnets.training.measuring import Measured, measure
from resnets.training.mixing import mix_of, mixed
from resnets.training.normalised import Normalised
from resnets.training.optimizers.schedule import learning_rate, set_rate
from resnets.training.pace import Pace
from resnets.training.parts import Parts, Progress
from resnets.training.paths import Paths
from resnets.training.processes import norms
from resnets.training.processes.world import World
from resnets.training.recipe import Recipe

AGREE_EVERY = 20  # steps of a GPU between looks at its sums, which wait for it; and where there are several, at signals
GAP_BATCHES = 20  # on which training and evaluation mode are compared
SHOWN = 32  # images of the first batch that are kept for the report
RECOMPUTED = 100  # batches over which the statistics of norms are computed anew


class Trainer:
    """The parts of a run, put to work."""

    def __init__(self, parts: Parts, recipe: Recipe, how: Preprocessing, world: World, seed: int = 0) -> None:
        self.parts, self.recipe, self.world, self.seed = parts, recipe, world, seed
        learner: Any = torch.compile(parts.learner) if recipe.compile == "on" else parts.learner
        self.model, self.optimizer = world.fabric.setup(learner, parts.optimizer)
        self.loader = parts.loader
        self.steps_per_epoch = self.loader.steps
        self.steps = recipe.total_steps(self.steps_per_epoch)
        whole = parts.learner is parts.network
        kind = recipe.freeze if whole else "none"
        self.freezer = Freezer(parts.network, kind, world.size > 1, recipe.freeze_statistics)
        self.paths = Paths(parts.network, recipe.drop_path, seed)
        self.normalised = Normalised(how, world.device)
        self.sums = torch.zeros(3, dtype=torch.float64, device=world.device)  # loss, right, images since the last settling
        self.measured: Measured | None = None  # the last time
        self.agreement = Agreement(world, parts.loader)
        self.failures: dict[str, str] = {}  # of all processes: relative path → why it can't be read
        self.losses: list[tuple[int, np.ndarray, Tensor]] = []  # step, samples and their losses, since the last settling
        self.first: tuple[Tensor, Targets] | None = None  # images that the first step saw, normalised, and their labels
        self.agree_every = AGREE_EVERY if world.device.type == "cuda" else 1

    def fit(self, progress: Progress, due: Callable[[], bool] = lambda: False) -> Iterator[tuple[str, dict[str, Any]]]:
        """Train from `progress` to the end, and say what happens: ("step", …), ("save", {}) where `due` said so or the run
        is to stop, and after each epoch ("epoch", …).

        Raises WorkFailed where the loss is no number, Stopped on Ctrl-C and Terminated on SIGTERM, all between two steps.
        """
        with interruptions() as asked:
            while not self.over(progress) or progress.sums["images"]:  # an epoch in hand is measured and kept
                epoch, start = divmod(progress.step, self.steps_per_epoch)
                self.train_mode()
                pace, agreed = (
                    Pace(self.loader, progress.step, progress.seconds),
                    Agreed(False, False, False, progress.seconds),
                )
                for number, batch in enumerate(self.loader.batches(epoch, start), start):
                    if self.over(progress):
                        break
                    if number == start or self.world.size == 1 or progress.step % self.agree_every == 0:
                        agreed = self.agreement.reached(asked, due(), pace.seconds)
                        if agreed.stop or agreed.terminate or agreed.save:
                            self.settle(progress, agreed.seconds)
                            yield "save", {}
                        if agreed.stop or agreed.terminate:
                            self.world.wait()  # a process that leaves before all is saved would have the others ended
                            stop(agreed.terminate, progress.step, self.steps)
                    clock = self.clock(progress.step, agreed.seconds)
                    rate = learning_rate(self.recipe, clock, self.steps)
                    self.freezer.apply(clock / self.steps)
                    self.agreement.saw(batch)
                    if self.teaches(batch):
                        self.step(batch, epoch, number, self.world.in_all(len(batch.labels)), rate)
                    progress.step += 1
                    if progress.step % self.agree_every == 0 or progress.step == self.steps:
                        yield "step", self.row(progress, pace, rate)
                    if self.clock(progress.step, agreed.seconds) >= self.steps:
                        break
                pace.end()
                self.settle(progress, self.agreement.reached(asked, False, pace.seconds).seconds)
                row = self.epoch(progress, epoch, pace)
                if self.parts.learned is not None:
                    self.parts.learned.next_epoch()
                yield "epoch", row
                progress.sums = Progress().sums

    def teaches(self, batch: Batch) -> bool:
        """Whether a step is made of a batch, by all processes or by none: of what can't be read too little may be left.

        Norms need two images, unless their statistics are frozen.
        """
        return self.world.size > 1 or len(batch.labels) > (0 if self.recipe.freeze_statistics else 1)

    def over(self, progress: Progress) -> bool:
        """Whether the run has come to its end."""
        return progress.ended or self.clock(progress.step, progress.seconds) >= self.steps

    def clock(self, step: int, seconds: float) -> float:
        """Where the run is, in steps; by its time where that is further on than its steps."""
        return max(step, min(1.0, seconds / self.recipe.budget) * self.steps)

    def train_mode(self) -> None:
        """Training mode; norms whose statistics are frozen stay in evaluation mode."""
        self.model.train()
        if self.recipe.freeze_statistics:
            for norm in norms.norms(self.parts.network):
                norm.eval()

    def step(self, batch: Batch, epoch: int, number: int, images_in_all: float | Tensor, rate: float) -> None:
        """One step of the optimizer: the gradient of the mean loss over the images of all processes."""
        set_rate(self.optimizer.optimizer, rate)
        images, labels = self.normalised(batch), self.normalised.here(batch.labels)
        images, targets = mixed(images, labels, mix_of(self.seed, epoch, number, self.recipe))
        if self.first is None and images.ndim == 4 and len(images):
            shown = slice(0, SHOWN)
            self.first = images[shown].float().cpu(), targets.part(shown)
        weights = None if batch.weights is None else self.normalised.here(batch.weights)
        for part in (parts := self.divided()):
            self.paths.choose(epoch, batch.samples[part])
            with self.world.fabric.no_backward_sync(self.model, enabled=part is not parts[-1] and self.world.size > 1):
                logits = self.logits(self.model, images[part])
                each = self.loss(logits, images[part], targets.part(part), batch.samples[part])
                weighted = each if weights is None else each * weights[part]
                self.world.fabric.backward(weighted.sum() * (self.world.size / images_in_all))
            with torch.no_grad():
                right = (logits.argmax(1) == labels[part]).double()
                right = right if weights is None else right * weights[part]
                self.sums += torch.stack([weighted.double().sum(), right.sum(), right.new_full((), len(each))])
            if self.parts.learned is not None:  # smoothed, the loss of the surest would be high
                own = F.cross_entropy(logits.detach(), labels[part], reduction="none")
                self.losses.append((epoch * self.steps_per_epoch + number, batch.samples[part], own))
        self.freezer.drop_gradients()
        if self.recipe.clip_gradient:
            torch.nn.utils.clip_grad_norm_(self.parts.learner.parameters(), self.recipe.clip_gradient)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.parts.average is not None:
            self.parts.average.update(self.parts.network, epoch * self.steps_per_epoch + number)

    def divided(self) -> list[slice]:
        """The parts in which this process's images of a batch go through the network; all processes have as many.

        Part k has every n-th image of the whole batch from place k on, so that norms see the same images together whatever
        the number of processes.
        """
        count = max(1, min(self.recipe.accumulate, self.recipe.batch_size // 2))
        first = part_of(self.recipe.batch_size, *self.world.part).start
        return [slice((number - first) % count, None, count) for number in range(count)]

    def autocast(self) -> torch.autocast:
        """Within the block the recipe's precision holds."""
        return torch.autocast(self.world.device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16")

    def logits(self, model: nn.Module, images: Tensor) -> Tensor:
        """[batch, classes] in float32, computed in the recipe's precision."""
        with self.autocast():
            return model(images).float()

    def loss(self, logits: Tensor, images: Tensor, targets: Targets, samples: np.ndarray) -> Tensor:
        """[batch]: that of the labels, and of the teacher's answers."""
        own = loss(logits, targets, self.recipe, self.parts.class_weights)
        if self.parts.teacher is None:
            return own
        share = self.recipe.teacher_weight
        return (1 - share) * own + share * distilled(logits, self.parts.teacher.logits(images, samples), self.recipe)

    def seen(self, progress: Progress) -> dict[str, float]:
        """The epoch's sums so far, as this process knows them. Raises WorkFailed where the loss is no number."""
        mine = dict(zip(progress.sums, self.sums.tolist(), strict=True))
        if not math.isfinite(mine["loss"]):
            rate = self.recipe.learning_rate
            raise WorkFailed(
                f"the loss is {mine['loss']} at step {progress.step} of {self.steps}: the learning rate ({rate:g}) is "
                f"likely too high; try --set learning_rate={rate / 10:g}. What the run has saved before is kept"
            )
        return {name: progress.sums[name] + value for name, value in mine.items()}

    def settle(self, progress: Progress, seconds: float) -> None:
        """Bring the sums of all processes together, on each, and note the time."""
        progress.seconds = seconds
        self.seen(progress)
        everyone = self.world.total(self.sums.tolist())
        for name, value in zip(progress.sums, everyone, strict=True):
            progress.sums[name] += value
        self.sums.zero_()
        if self.parts.learned is not None:
            mine = [(step, samples, losses.cpu().numpy()) for step, samples, losses in self.losses]
            self.losses.clear()
            for _, samples, losses in sorted(chain(*self.world.gathered(mine)), key=itemgetter(0)):
                self.parts.learned.saw(samples, losses)
        self.world.same_buffers(self.parts.network)

    def row(self, progress: Progress, pace: Pace, rate: float) -> dict[str, Any]:
        """What the progress line shows."""
        sums = self.seen(progress)
        images = max(sums["images"], 1)
        return {
            "step": progress.step,
            "steps": self.steps,
            "loss": sums["loss"] / images,
            "top1": sums["right"] / images,
            "learning_rate": rate,
            **pace.row(progress.step, self.recipe.batch_size),
        }

    def epoch(self, progress: Progress, epoch: int, pace: Pace) -> dict[str, Any]:
        """The figures of an epoch that has ended, measured ones among them where images are held out."""
        images = max(progress.sums["images"], 1)
        row = {
            "epoch": epoch + 1,
            "step": progress.step,
            "learning_rate": learning_rate(self.recipe, self.clock(progress.step - 1, progress.seconds), self.steps),
            "train_loss": progress.sums["loss"] / images,
            "train_top1": progress.sums["right"] / images,
            **pace.row(progress.step, self.recipe.batch_size),
            "seconds": progress.seconds,
        }
        with self.weights():
            if self.over(progress) and self.recipe.recompute_statistics and self.parts.learner is self.parts.network:
                self.recompute(epoch + 1)
            self.world.same_buffers(self.parts.network)
            figures = {f"val_{name}": value for name, value in self.measure().items()}
        for failures in self.world.gathered(self.loader.failures | self.parts.val_loader.failures):
            self.failures |= failures
        return {**row, "unreadable": len(self.failures), **figures}

    def weights(self) -> AbstractContextManager[None]:
        """Within the block the network has the weights that are measured and kept: their average, where there is one."""
        return nullcontext() if self.parts.average is None else self.parts.average.applied(self.parts.network)

    def recompute(self, epoch: int) -> None:
        """Compute the statistics of the norms anew, over batches of an epoch that hasn't been."""
        self.paths.all()
        with closing(self.loader.batches(epoch)) as batches, self.autocast():
            some = (self.normalised(batch) for batch in islice(batches, RECOMPUTED) if self.teaches(batch))
            norms.recompute(self.parts.network, (images[part] for images in some for part in self.divided()))

    def measure(self) -> dict[str, float]:
        """top1, top5, loss, ece and images on the validation images; nothing where there are none."""
        self.measured = self._measure(self.parts.val_loader.batches(0))
        return {} if self.measured is None else self.measured.figures

    def gap(self) -> tuple[float, float] | None:
        """Top-1 by the norms' averages and by each batch's own statistics, of some validation images in a shuffled order.

        None where norms aren't trained, or too few images are held out.
        """
        loader = self.parts.gap_loader
        if loader is None or not loader.steps or self.recipe.freeze_statistics:
            return None
        tops = []
        for by_batch in (False, True):
            with closing(loader.batches(0)) as batches, self.weights():
                found = self._measure(islice(batches, GAP_BATCHES), by_batch)
            tops.append(found.figures["top1"] if found else 0.0)
        return tops[0], tops[1]

    def _measure(self, batches: Iterable[Batch], by_batch: bool = False) -> Measured | None:
        self.paths.all()
        self.parts.network.eval()
        learner = self.parts.learner

        def logits(batch: Batch) -> Tensor:
            return self.logits(learner, self.normalised(batch))

        return measure(learner, batches, logits, self.world, by_batch)
