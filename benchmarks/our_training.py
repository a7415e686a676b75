"""Ours for `time_to_accuracy.py`: `train_run`, measured on the test images after each epoch; and its loop beside a bare one.

Both run the library's own session and look into it at three places: `session.plan`, so that the test images are measured on,
`Trainer.measure`, whose time doesn't count, and `Trainer.fit`, which says when a step is done.
"""

import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
import torch.nn.functional as F
from plain_training import DEVICE, Curve, Point
from training_data import Stopwatch

import resnets
from resnets import machine
from resnets.data.loader import AHEAD
from resnets.training import session, train_run
from resnets.training.loop import Trainer
from resnets.training.plan import Plan
from resnets.training.recipe import Recipe
from resnets.training.shipped import recipe

LEAST = 3.0  # seconds of each timed stretch
PREPARED = AHEAD + 2  # steps before a stretch is timed: as many batches may lie ready after a pause
# what an endless run of one size is: no view of it, nor the network, changes in the course of the run
ENDLESS = {"steps": 10**6, "train_input": [1.0], "save_every": "24h"}


def ours(data: Path, settings: dict[str, Any], seed: int, threads: int, most: int | None, out: Path) -> Curve:
    """A run of ResNet-20 by a recipe and changes of it (`recipe`, `epochs`, …), on the first `most` images of each split.

    The time begins once images are read and all is decided; building the network, compiling it, checkpoints and model files
    count.
    """
    torch.set_num_threads(threads)
    watch, points, plans = Stopwatch(), [], []
    real_plan, real_measure = session.plan, Trainer.measure

    def planned(*given: Any, **named: Any) -> Plan:
        made = on_test_images(real_plan(*given, **named), most)
        plans.append(made)
        watch.reset()
        return made

    def measure(trainer: Trainer, *given: Any, **named: Any) -> dict[str, float]:
        with watch.stopped() as seconds:
            figures = real_measure(trainer, *given, **named)
        if figures:
            points.append(Point(seconds, figures["top1"]))
        return figures

    with patch.object(session, "plan", planned), patch.object(Trainer, "measure", measure):
        train_run(data, model="resnet20", val=0, seed=seed, workers=threads, out=out, **settings)
    if not points:
        raise RuntimeError("training measured nothing on the test images, by Trainer.measure: this benchmark looks in there")
    made = plans[-1]
    per_epoch = len(made.division.train) // made.recipe.batch_size
    images = made.recipe.total_steps(per_epoch) * made.recipe.batch_size
    return Curve(points, f"recipe {made.recipe.name}", made.recipe.precision, images)


def on_test_images(made: Plan, most: int | None) -> Plan:
    """The plan that measures on the split `test`, and has the first `most` images of each split."""
    test = made.data.splits["test"][:most]
    division = made.division._replace(
        train=made.division.train[:most], val=test, val_name="test", rule={"rule": "split", "split": "test"}
    )
    return replace(made, division=division)


class Case(NamedTuple):
    """What one comparison of loops is of."""

    network: str
    size: int
    channels: int
    batch: int
    recipe: str
    settings: dict[str, Any]

    @property
    def title(self) -> str:
        """In short: "resnet20, 28×28×1, batch 128"."""
        return f"{self.network}, {self.size}×{self.size}×{self.channels}, batch {self.batch}"


class Enough(BaseException):
    """All rounds are measured; no error, so that nothing catches it."""


def loops(data: Path, case: Case, rounds: int, threads: int, out: Path) -> dict[str, Any]:
    """Images a second of our loop (loader, augmentation, step, progress) and of a bare one, in turns, in this process.

    The ratio is the median of the rounds' own. A bare step has a batch that is ready in memory; the network, its precision,
    layout, compilation and the memory's settings (`machine.keep_freed_memory`) are the same; its optimizer is PyTorch's SGD.
    """
    torch.set_num_threads(threads)
    rates: dict[str, list[float]] = {"ours": [], "bare": []}
    real_fit = Trainer.fit

    def fit(trainer: Trainer, *given: Any, **named: Any) -> Iterator[Any]:
        bare = Bare(case)
        began, done = 0.0, -2 * PREPARED
        for event in real_fit(trainer, *given, **named):
            yield event
            done += event[0] == "step"
            if done == 0 and event[0] == "step":
                wait()
                began = time.perf_counter()
            if done > 0 and time.perf_counter() - began >= LEAST:
                wait()
                passed = time.perf_counter() - began
                rates["ours"].append(done * case.batch / passed)
                rates["bare"].append(bare.stretch())
                done = -PREPARED
                if len(rates["bare"]) == rounds:
                    raise Enough

    changes = {**case.settings, **ENDLESS, "batch_size": case.batch}
    try:
        with patch.object(Trainer, "fit", fit):
            train_run(data, model=case.network, init="none", input=case.size, recipe=case.recipe, settings=changes,
                      val=0, workers=threads, out=out)  # fmt: skip
    except Enough:
        ratios = [one / other for one, other in zip(rates["ours"], rates["bare"], strict=True)]
        return {"rates": rates, "ratio": statistics.median(ratios), "precision": settled(case).precision}
    raise RuntimeError("the run came to its end before all rounds were measured")


def settled(case: Case) -> Recipe:
    """The recipe of a case, its precision and compilation decided as training does."""
    chosen = recipe(case.recipe, {**case.settings, **ENDLESS})
    compiled = chosen.compile == "on" or (chosen.compile == "auto" and DEVICE.type == "cuda")
    precision: Any = machine.training_precision(chosen.precision)
    return replace(chosen, precision=precision, compile="on" if compiled else "off")


class Bare:
    """A loop of steps on one ready batch and nothing else: forward, loss, backward, SGD."""

    def __init__(self, case: Case) -> None:
        chosen = settled(case)
        self.batch = case.batch
        self.bf16 = chosen.precision == "bf16"
        net = resnets.network(case.network, channels=case.channels, classes=10)
        self.net = net.to(memory_format=torch.channels_last).to(DEVICE).train()
        self.forward = torch.compile(self.net) if chosen.compile == "on" else self.net
        self.sgd = torch.optim.SGD(self.net.parameters(), lr=1e-3, momentum=0.9, nesterov=True, weight_decay=5e-4)
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(case.batch, case.channels, case.size, case.size, generator=generator)
        self.x = x.to(DEVICE, memory_format=torch.channels_last)
        self.y = torch.arange(case.batch, device=DEVICE) % 10

    def step(self) -> None:
        """One step."""
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=self.bf16):
            loss = F.cross_entropy(self.forward(self.x), self.y)
        loss.backward()
        self.sgd.step()
        self.sgd.zero_grad()

    def stretch(self) -> float:
        """Images a second of a stretch, after steps in which our loader has prepared what it prepares, and rests."""
        for _ in range(PREPARED):
            self.step()
        wait()
        began, done = time.perf_counter(), 0
        while time.perf_counter() - began < LEAST:
            self.step()
            done += 1
        wait()
        return done * self.batch / (time.perf_counter() - began)


def wait() -> None:
    """Until the device has done all that it was given."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
