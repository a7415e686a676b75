"""The training loop: every step of it in sight. Fabric replaces device, precision and communication calls alone."""

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn

from resnets import metrics
from resnets.data.loader import Batch, Loader
from resnets.data.preprocessing import Preprocessing
from resnets.errors import Terminated, WorkFailed
from resnets.networks import ResNet
from resnets.training.optimizer import learning_rate, set_rate
from resnets.training.recipe import Recipe


@dataclass
class Progress:
    """Where a run is."""

    step: int = 0
    best: dict[str, Any] | None = None  # the figures of the best epoch so far
    sums: dict[str, float] = field(default_factory=lambda: {"loss": 0.0, "right": 0.0, "images": 0.0})  # of this epoch


class Stopped(WorkFailed):
    """Ctrl-C: the step in hand was finished and saved."""


class Interruptions:
    """What was asked of a run from outside: to stop (Ctrl-C) or to end (SIGTERM, as before a machine is taken away)."""

    def __init__(self) -> None:
        self.number: int | None = None  # of the signal

    def raise_after(self, step: int, steps: int) -> None:
        """Stopped or Terminated, where one was asked for and there are steps left."""
        if self.number is not None and step < steps:
            kind = Terminated if self.number == signal.SIGTERM else Stopped
            raise kind(f"stopped after step {step} of {steps}")


class Trainer:
    """A network, an optimizer and the images they learn from."""

    def __init__(
        self, network: ResNet, sgd: torch.optim.Optimizer, recipe: Recipe, how: Preprocessing, loaders: tuple[Loader, Loader]
    ) -> None:
        precision = {"float32": "32-true", "bf16": "bf16-mixed"}[recipe.precision]
        self.fabric = Fabric(accelerator="cuda" if torch.cuda.is_available() else "cpu", devices=1, precision=precision)  # type: ignore[arg-type]
        self.network = network
        self.model, self.sgd = self.fabric.setup(network.to(memory_format=torch.channels_last), sgd)
        self.recipe, self.how = recipe, how
        self.loader, self.val_loader = loaders
        self.steps_per_epoch = self.loader.steps
        self.steps = recipe.total_steps(self.steps_per_epoch)
        shape = (1, -1, 1, 1)
        self.mean = torch.tensor(how.mean, device=self.fabric.device).view(shape)
        self.deviation = torch.tensor(how.deviation, device=self.fabric.device).view(shape)

    def fit(self, progress: Progress) -> Iterator[tuple[str, dict[str, Any]]]:
        """Train from `progress` to the end, and say what happens: ("step", …) and, after each epoch, ("epoch", …).

        Raises WorkFailed where the loss is no number, Stopped on Ctrl-C and Terminated on SIGTERM, all between two steps.
        """
        with interruptions() as interrupted:
            while progress.step < self.steps:
                epoch, start = divmod(progress.step, self.steps_per_epoch)
                self.train_mode()
                began, waited, first = time.perf_counter(), self.loader.waited, progress.step
                for batch in self.loader.batches(epoch, start):
                    rate = learning_rate(self.recipe, progress.step, self.steps)
                    set_rate(self.sgd.optimizer, rate)
                    images, labels = self.to_device(batch)
                    if len(images) > 1:  # what is left of a batch of unreadable files teaches nothing
                        logits = self.model(images)
                        loss = F.cross_entropy(logits, labels, label_smoothing=self.recipe.label_smoothing)
                        self.fabric.backward(loss)
                        self.sgd.step()
                        self.sgd.zero_grad()
                        self.count(progress, loss, logits, labels)
                    progress.step += 1
                    if progress.step % self.steps_per_epoch:
                        interrupted.raise_after(progress.step, self.steps)
                    seconds, steps = time.perf_counter() - began, progress.step - first
                    yield "step", self.pace(progress, rate, seconds, steps, self.loader.waited - waited)
                    if progress.step >= self.steps:
                        break
                yield "epoch", self.epoch(progress, epoch)
                progress.sums = Progress().sums
                interrupted.raise_after(progress.step, self.steps)

    def train_mode(self) -> None:
        """Training mode; norms whose statistics are frozen stay in evaluation mode."""
        self.model.train()
        if self.recipe.freeze_statistics:
            for module in self.network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()

    def to_device(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """A batch as the network reads it: float32 [batch, channels, height, width], channels last, and labels."""
        x = torch.from_numpy(batch.images).to(self.fabric.device).permute(0, 3, 1, 2)
        x = (x.flip(1) if self.how.colour == "BGR" else x).float()
        if batch.lighting is not None and x.shape[1] == 3:
            shift = batch.lighting[:, ::-1] if self.how.colour == "BGR" else batch.lighting
            x = x + torch.from_numpy(shift.copy()).to(x.device)[:, :, None, None] * 255
        return (x * self.how.scale - self.mean) / self.deviation, torch.from_numpy(batch.labels).to(self.fabric.device)

    def count(self, progress: Progress, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add a step to the epoch's sums. Raises WorkFailed where the loss is no number."""
        value, images = loss.item(), len(labels)
        if not math.isfinite(value):
            rate = self.recipe.learning_rate
            raise WorkFailed(
                f"the loss is {value} at step {progress.step} of {self.steps}: the learning rate ({rate:g}) is likely too "
                f"high; try --set learning_rate={rate / 10:g}. What the run has saved before is kept"
            )
        progress.sums["loss"] += value * images
        progress.sums["right"] += (logits.argmax(1) == labels).sum().item()
        progress.sums["images"] += images

    def pace(self, progress: Progress, rate: float, seconds: float, steps: int, waited: float) -> dict[str, Any]:
        """What the progress line shows."""
        images = max(progress.sums["images"], 1)
        return {
            "step": progress.step,
            "steps": self.steps,
            "loss": progress.sums["loss"] / images,
            "top1": progress.sums["right"] / images,
            "learning_rate": rate,
            "images_per_second": steps * self.recipe.batch_size / seconds,
            "waiting": waited / seconds,
        }

    def epoch(self, progress: Progress, epoch: int) -> dict[str, Any]:
        """The figures of an epoch that has ended, measured ones among them where images are held out."""
        images = max(progress.sums["images"], 1)
        row = {
            "epoch": epoch + 1,
            "step": progress.step,
            "learning_rate": learning_rate(self.recipe, progress.step - 1, self.steps),
            "train_loss": progress.sums["loss"] / images,
            "train_top1": progress.sums["right"] / images,
            "unreadable": len(self.loader.failures),
        }
        return {**row, **{f"val_{name}": value for name, value in self.measure().items()}}

    @torch.inference_mode()
    def measure(self) -> dict[str, float]:
        """top1, top5, loss, ece and images on the validation images; nothing where there are none."""
        self.model.eval()
        logits, labels = [], []
        for batch in self.val_loader.batches(0):
            if len(batch.labels):
                images, right = self.to_device(batch)
                logits.append(self.model(images).float().cpu().numpy())
                labels.append(right.cpu().numpy())
        if not labels:
            return {}
        every = np.concatenate(labels)
        return {**metrics.summarise(np.concatenate(logits), every), "images": len(every)}


@contextmanager
def interruptions() -> Iterator[Interruptions]:
    """Within the block the first Ctrl-C or SIGTERM is noted, and the second does what it ever does."""
    asked = Interruptions()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: Any) -> None:
        asked.number = number
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, note)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
