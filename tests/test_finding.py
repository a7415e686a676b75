"""The learning rate range test, and that it leaves a run as it would be without."""

import json

import pytest
import torch
from halves import SETTINGS, begun, same_bytes, small, whole

from resnets.model import load
from resnets.training import building, finding, train_run
from resnets.training.options import Options
from resnets.training.plan import plan
from resnets.training.processes.world import World
from resnets.training.session import RANGE

__all__ = ["small"]


@pytest.fixture(scope="module")
def found(tmp_path_factory, small):
    """A run whose rate was found."""
    return whole(tmp_path_factory.mktemp("found") / "run", learning_rate="find", ema_decay=0.9, mixup=0.2)


def rate_of(run):
    return json.loads((run / "run.json").read_text())["decided"]["recipe"]["learning_rate"]


def test_a_run_whose_rate_was_found_is_the_run_with_that_rate(found, tmp_path):
    rate = rate_of(found)
    assert 1e-4 < rate < 10
    assert load(found).recipe["learning_rate"] == rate
    assert same_bytes(found, whole(tmp_path / "given", learning_rate=rate, ema_decay=0.9, mixup=0.2))


def test_the_test_is_kept_as_a_page_and_in_the_log(found):
    page = (found / RANGE).read_text()
    assert "<svg" in page and f"{rate_of(found):g}" in page
    row = next(
        row for row in map(json.loads, (found / "log.jsonl").read_text().splitlines()) if row["event"] == "range test"
    )
    assert row["said"] == f"learning rate {rate_of(found):g}"
    rates = [rate for rate, _ in row["curve"]]
    assert rates == sorted(rates) and rates[0] == pytest.approx(finding.LOWEST)
    lowest = min(row["curve"], key=lambda point: point[1])[0]
    assert rate_of(found) == pytest.approx(lowest / finding.BELOW, rel=0.05)


def test_a_resume_keeps_the_rate_and_tests_nothing(found, tmp_path, monkeypatch):
    out = begun(tmp_path / "run", 5, learning_rate="find", ema_decay=0.9, mixup=0.2)
    monkeypatch.setattr("resnets.training.session.find", lambda trainer: pytest.fail("tested again"))
    train_run(resume=out)
    assert rate_of(out) == rate_of(found)
    assert same_bytes(out, found)


def trainer(**options):
    chosen = Options.parse("digits", {**SETTINGS, **options})
    return building.trainer(plan(chosen), chosen, World())


@pytest.mark.parametrize(("optimizer", "factor"), [("sgd", 1.0), ("adamw", 0.02), ("lamb", 0.1), ("muon", 1.0)])
def test_the_range_is_the_optimizers(optimizer, factor, monkeypatch):
    made = trainer(optimizer=optimizer)
    rates = []
    monkeypatch.setattr(made, "step", lambda batch, epoch, number, images, rate: (rates.append(rate), fall(made, rates))[0])
    result = finding.find(made)
    assert rates[0] == pytest.approx(1e-4 * factor) and rates[-1] == pytest.approx(10 * factor)
    assert len(rates) == len(result.curve) == finding.STEPS
    assert result.rate == float(f"{rates[-1] / 5:.2g}")


def fall(made, rates):
    """What a step adds to the sums where the loss falls throughout."""
    made.sums += torch.tensor([100.0 - len(rates), 0.0, 10.0])


def test_where_no_rate_lowers_the_loss_it_says_so(monkeypatch):
    made = trainer()
    count = []

    def step(*given):
        count.append(1)
        made.sums += torch.tensor([10.0 + len(count), 0.0, 10.0])

    monkeypatch.setattr(made, "step", step)
    with pytest.raises(ValueError, match=r"no learning rate lowered the loss in 100 steps; give one: --set learning_rate="):
        finding.find(made)


def test_it_ends_early_where_the_loss_is_no_number(monkeypatch):
    made = trainer()
    count = []

    def step(*given):
        count.append(1)
        made.sums += torch.tensor([float("nan") if len(count) == 40 else 100.0 - len(count), 0.0, 10.0])

    monkeypatch.setattr(made, "step", step)
    assert len(finding.find(made).curve) == 39
