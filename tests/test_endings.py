"""What ends a run, and that every kind of run goes on byte for byte where it was killed."""

import itertools
import json
import time

import numpy as np
import pytest
import torch
from halves import SETTINGS, begun, broken, same_bytes, small, whole

from resnets.model import load
from resnets.training import building, loop, train_run
from resnets.training.folder import checkpoint, keeping
from resnets.training.loop import Progress
from resnets.training.options import Options
from resnets.training.plan import plan
from resnets.training.processes.world import World

__all__ = ["small"]
KINDS = {
    "average": {"ema_decay": 0.9},
    "lamb": {"optimizer": "lamb", "learning_rate": 0.01},
    "muon": {"optimizer": "muon", "learning_rate": 0.02},
    "adamw": {"optimizer": "adamw", "learning_rate": 0.002},
    "mixed": {"mixup": 0.3, "cutmix": 1.0, "mixing": 0.8},
    "paths": {"drop_path": 0.3},
    "clipped": {"clip_gradient": 0.5, "accumulate": 3, "schedule": "linear"},
    "views": {"repeats": 2, "balance": "sample", "policy": "trivialaugment", "erasing": 0.5, "train_input": [0.75, 1.5]},
    "recomputed": {"recompute_statistics": True, "loss": "binary", "balance": "weight"},
}


def trainer(**options):
    chosen = Options.parse("digits", {**SETTINGS, **options})
    return building.trainer(plan(chosen), chosen, World())


def rows(run, event):
    return [row for row in map(json.loads, (run / "log.jsonl").read_text().splitlines()) if row["event"] == event]


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_of_any_kind_that_is_killed_ends_with_the_same_bytes(kind, tmp_path):
    assert same_bytes(whole(tmp_path / "whole", **KINDS[kind]), broken(tmp_path / "broken", 8, **KINDS[kind]))


def test_each_kind_of_run_is_another_one(tmp_path):
    found = {
        kind: trainer(**KINDS[kind], steps=2, epochs=None) for kind in ("average", "mixed", "paths", "clipped", "views")
    }
    losses = {}
    for kind, made in found.items():
        progress = Progress()
        for event, row in made.fit(progress):
            if event == "epoch":
                losses[kind] = row["train_loss"]
    assert len(set(losses.values())) == len(losses)


# Patience


def test_a_run_ends_where_nothing_got_better(tmp_path, monkeypatch):
    measured = iter([0.5, 0.7, 0.6, 0.7, 0.1, 0.9])
    real = loop.Trainer.measure

    def measure(self):
        figures = real(self)
        return {**figures, "top1": next(measured), "loss": 1.0}

    monkeypatch.setattr(loop.Trainer, "measure", measure)
    run = whole(tmp_path / "run", epochs=6, patience=2)
    assert [row["epoch"] for row in rows(run, "epoch")] == [1, 2, 3, 4]
    assert [row["said"] for row in rows(run, "early stop")] == ["no epoch of the last 2 was better than epoch 2"]
    assert load(run).accuracy["top1"] == 0.7
    assert json.loads((run / "run.json").read_text())["finished"]
    assert not checkpoint.there(run)


def test_a_run_that_was_killed_after_its_early_end_stays_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(keeping, "better", lambda measured, before: before is None)
    monkeypatch.setattr(keeping.Keeper, "finish", lambda self: None)
    run = whole(tmp_path / "run", epochs=6, patience=2)
    assert len(rows(run, "epoch")) == 3
    train_run(resume=run)
    assert len(rows(run, "epoch")) == 3


# Time


class Watch:
    """A clock that a step moves on by a second."""

    def __init__(self):
        self.now = 100.0

    def perf_counter(self):
        return self.now

    def __getattr__(self, name):
        return getattr(time, name)


@pytest.fixture
def watch(monkeypatch):
    made = Watch()
    monkeypatch.setattr("resnets.training.pace.time", made)
    real = loop.Trainer.step

    def step(self, *given):
        made.now += 1
        made.rates.append(given[-1])
        real(self, *given)

    made.rates = []
    monkeypatch.setattr(loop.Trainer, "step", step)
    return made


def test_a_budget_of_time_ends_the_run_with_the_rate_annealed(tmp_path, watch):
    run = whole(tmp_path / "run", epochs=100, time_budget="20s", warmup=0, schedule="linear", learning_rate=0.1)
    assert len(watch.rates) == pytest.approx(20, abs=1)
    np.testing.assert_allclose(watch.rates[:20], [0.1 * (1 - second / 20) for second in range(20)], atol=1e-9)
    ends = rows(run, "epoch")
    assert [row["step"] for row in ends] == [11, len(watch.rates)]
    assert ends[-1]["val_top1"] == load(run).accuracy["top1"] or len(ends) == 2
    assert json.loads((run / "run.json").read_text())["finished"]


def test_a_slow_budget_changes_nothing(tmp_path, watch):
    run = whole(tmp_path / "run", time_budget="1h")
    assert len(watch.rates) == 22
    assert rows(run, "epoch")[-1]["step"] == 22


def test_a_run_with_a_budget_goes_on_with_the_time_that_is_left(tmp_path, watch):
    run = broken(tmp_path / "run", 6, epochs=100, time_budget="20s", warmup=0, schedule="linear")
    assert len(watch.rates) == pytest.approx(20, abs=1)
    assert watch.rates[6] == pytest.approx(watch.rates[0] * (1 - 6 / 20))
    assert rows(run, "epoch")[-1]["seconds"] == pytest.approx(20, abs=1)


def test_a_run_whose_time_is_over_when_it_is_resumed_measures_and_keeps_what_it_learned(tmp_path, watch):
    out = begun(tmp_path / "run", 6, epochs=100, time_budget="20s")
    before = len(watch.rates)
    path = checkpoint.there(out)[0]
    real, state = checkpoint.restore, {"seconds": 21.0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "restore", lambda *given: real(*given) | state)
        train_run(resume=out)
    assert path.name == checkpoint.NAME.format(6)
    assert len(watch.rates) == before
    assert [row["step"] for row in rows(out, "epoch")] == [6]
    assert load(out).accuracy["images"] == 374


# Steps


def test_a_gradients_norm_is_clipped():
    made = trainer(clip_gradient=0.01, momentum=0.0, nesterov=False, weight_decay=0.0, warmup=0, learning_rate=1.0)
    before = [parameter.detach().clone() for parameter in made.parts.network.parameters()]
    next(event for event, _ in made.fit(Progress()) if event == "step")
    moved = [now.detach() - was for now, was in zip(made.parts.network.parameters(), before, strict=True)]
    assert float(torch.stack([change.norm() for change in moved]).norm()) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("parts", [2, 3, 7])
def test_a_batch_in_parts_is_the_same_step(parts):
    found = []
    for accumulate in (1, parts):
        made = trainer(accumulate=accumulate, freeze_statistics=True, batch_size=25, mixup=0.3, drop_path=0.2)
        made.parts.network.double()
        made.normalised.__class__ = type("Doubled", (type(made.normalised),), {
            "__call__": lambda self, batch: super(type(self), self).__call__(batch).double()})  # fmt: skip
        progress, calls = Progress(), []
        made.parts.network.register_forward_hook(lambda net, given, out, calls=calls: calls.append(len(given[0])))
        for event, row in made.fit(progress):
            if event == "step" and row["step"] == 3:
                break
        assert len(calls) == 3 * accumulate and sum(calls) == 75 and max(calls) - min(calls) <= 1
        found.append((row["loss"], [parameter.detach() for parameter in made.parts.network.parameters()]))
    (one, weights), (other, others) = found
    assert one == pytest.approx(other, rel=1e-9)
    for own, same in itertools.zip_longest(weights, others):
        torch.testing.assert_close(own, same, rtol=1e-9, atol=1e-10)
