"""Plans: how the cores are used follows the number of images and a remembered measurement, and changes no score."""

import json

import numpy as np
import pytest
from test_prediction import pictures, tiny

from resnets import machine
from resnets.data.preprocessing import Preprocessing
from resnets.prediction import timing
from resnets.prediction.predictor import Predictor
from resnets.prediction.timing import BATCH, Plan, latency, measured_plan, next_call, plan_for, throughput, usual_plan

HOW = Preprocessing(size=32, crop=1.0)


class Sleepy:
    """An engine that counts its calls; `fast` is the batch it likes."""

    name, precision = "openvino", "float32"

    def __init__(self, lanes, fast=16):
        self.lanes, self.fast, self.calls = lanes, fast, 0

    def __call__(self, batch):
        self.calls += 1
        timing.time.sleep(0.001 if len(batch) == self.fast else 0.001 * len(batch))
        return batch, batch


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RESNETS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize(("images", "plan"), [
    (0, Plan(1, 1)), (1, Plan(1, 1)), (7, Plan(1, 1)), (8, Plan(4, 1)), (20, Plan(4, 3)), (64, Plan(4, 8)),
    (9999, Plan(4, 8)),
])  # fmt: skip
def test_few_images_have_all_cores_and_many_are_shared_out(images, plan):
    assert plan_for(images, Plan(4, 8)) == plan


@pytest.mark.parametrize(("images", "plan", "calls"), [
    (0, Plan(2, 8), []), (3, Plan(1, 1), [1, 1, 1]), (20, Plan(2, 3), [3] * 6 + [1, 1]),
    (72, Plan(2, 8), [8] * 8 + [4, 2, 1, 1]),
])  # fmt: skip
def test_calls_are_whole_batches_that_end_in_ever_smaller_ones(images, plan, calls):
    found = []
    while images:
        found.append(next_call(sum(found), images, plan))
        images -= found[-1]
    assert found == calls


@pytest.mark.parametrize("batch", [1, 8, 12, 20, 27])
@pytest.mark.parametrize("lanes", [1, 2, 32])
def test_calls_are_the_same_wherever_a_run_began(lanes, batch):
    plan = Plan(lanes, batch)

    def ends(first, images):
        position = first
        while position < images:
            position += next_call(position - first, min(images - position, lanes * batch), plan)
            yield position

    for images in range(batch * lanes * 3, batch * lanes * 3 + 2 * batch):
        whole = list(ends(0, images))
        for first in range(batch, images, batch):
            assert [end for end in whole if end > first] == list(ends(first, images))


def test_latency_and_throughput_of_an_engine():
    engine = Sleepy(2)
    assert 0.0005 < latency(engine, np.zeros(1), seconds=0.05) < 0.1
    assert engine.calls > 5
    assert throughput(engine, np.zeros(16), 16, seconds=0.05) > 16


def test_the_fastest_plan_is_measured_once_and_remembered(monkeypatch, own_cache):
    engines = {}

    def compiled(lanes):
        return engines.setdefault(lanes, Sleepy(lanes))

    def speed(engine, batch, images, seconds):
        return engine.lanes * (100.0 if images == 16 else images)

    monkeypatch.setattr(timing, "throughput", speed)
    assert usual_plan("model") == Plan(machine.cores(), BATCH)
    best = measured_plan("model", compiled, np.zeros((32, 32, 3), np.uint8))
    assert best == Plan(machine.cores(), 16)
    monkeypatch.setattr(timing, "throughput", None)
    assert measured_plan("model", compiled, np.zeros(1)) == usual_plan("model") == best
    (file,) = (own_cache / "plans").iterdir()
    file.write_text("{damaged")
    assert usual_plan("model") == Plan(machine.cores(), BATCH)


def test_a_remembered_plan_is_used_for_many_images_and_changes_no_score(own_cache):
    photos = list(pictures())
    expected = [output.logits for output in Predictor(tiny(HOW), precision="float32")(photos)]
    predictor = Predictor(tiny(HOW), precision="float32")
    place = own_cache / "plans" / f"{predictor.identity}.json"
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps({"lanes": 1, "batch": 5}))
    found = [output.logits for output in predictor(photos)]
    assert predictor.usual == Plan(1, 5)
    assert np.allclose(found, expected, atol=1e-4)


def test_what_the_user_fixes_stays():
    predictor = Predictor(tiny(HOW), batch=3)
    assert predictor.tune() == Plan(machine.cores(), 3)
    list(predictor(list(pictures())))
    assert predictor.usual == Plan(machine.cores(), 3)
    with pytest.raises(ValueError, match="at least 1"):
        Predictor(tiny(HOW), batch=0)
