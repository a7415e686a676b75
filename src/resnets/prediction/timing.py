"""How fast an engine is here, by short measurements; and the plan that uses it best, remembered for model and machine."""

import hashlib
import json
import logging
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from resnets import machine
from resnets.files import cache_folder, write_json
from resnets.prediction.engines import Engine

log = logging.getLogger("resnets")

BATCH = 8
BATCHES = (1, 4, 8, 16, 32)  # that are tried


class Plan(NamedTuple):
    """How the cores are used; changes no number but for the engine's rounding."""

    lanes: int  # calls of the engine at the same time
    batch: int  # images in a call

    @property
    def enough(self) -> int:
        """Images that are many: two calls a lane."""
        return 2 * self.lanes * self.batch


def latency(engine: Engine, batch: np.ndarray, seconds: float = 1.0) -> float:
    """Seconds of one call alone: the median of as many as fit into `seconds`, five at least."""
    engine(batch)
    taken: list[float] = []
    began = time.perf_counter()
    while len(taken) < 5 or time.perf_counter() - began < seconds:
        start = time.perf_counter()
        engine(batch)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def throughput(engine: Engine, batch: np.ndarray, images: int, seconds: float = 0.5) -> float:
    """Images a second with every lane of the engine busy for `seconds`; `batch` holds `images` of them."""
    engine(batch)
    calls = [0] * engine.lanes
    until = time.perf_counter() + seconds

    def drive(lane: int) -> None:
        while time.perf_counter() < until:
            engine(batch)
            calls[lane] += 1

    began = time.perf_counter()
    threads = [threading.Thread(target=drive, args=(lane,)) for lane in range(engine.lanes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(calls) * images / (time.perf_counter() - began)


def plan_for(images: int, usual: Plan) -> Plan:
    """The plan for that many images: few have all cores one by one, some are shared out evenly, many have the usual."""
    if images < 2 * usual.lanes:
        return Plan(1, 1)
    return Plan(usual.lanes, min(usual.batch, -(-images // (2 * usual.lanes))))


def next_call(position: int, remaining: int, plan: Plan) -> int:
    """Images of the next call: a whole batch; towards the end fewer and fewer, so that no lane is long done before the last.

    Powers of two, since an engine prepares itself for each size, and none goes beyond a multiple of the batch: from any such
    `position` on, calls are the same wherever a run began.
    """
    fair = -(-remaining // plan.lanes)
    wished = plan.batch if fair >= plan.batch else 1 << (fair.bit_length() - 1)
    return min(wished, plan.batch - position % plan.batch)


def usual_plan(identity: str) -> Plan:
    """The plan for many images: the measured one where `measured_plan` was here before, else a lane a core."""
    try:
        found = json.loads(_remembered(identity).read_text())
        return Plan(int(found["lanes"]), int(found["batch"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Plan(machine.cores(), BATCH)


def measured_plan(identity: str, compiled: Callable[[int], Engine], example: np.ndarray) -> Plan:
    """The fastest of a few plans for many images, measured in some seconds and remembered; `example` is one input."""
    place = _remembered(identity)
    if place.is_file():
        return usual_plan(identity)
    speeds: dict[Plan, list[float]] = {}
    for _ in range(3):  # interleaved, so that a neighbour on this machine disturbs all
        for lanes in sorted({1, machine.cores()}):
            engine = compiled(lanes)
            for batch in BATCHES:
                speed = throughput(engine, np.repeat(example[None], batch, 0), batch, 0.3)
                speeds.setdefault(Plan(min(lanes, engine.lanes), batch), []).append(speed)
    best = max(speeds, key=lambda plan: statistics.median(speeds[plan]))
    log.info("measured: fastest with %d images in a call, %d calls at a time", best.batch, best.lanes)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_json(place, best._asdict())
    except OSError as error:
        log.warning("the measured plan isn't remembered: %s", error)
    return best


def identity(model: str, *settings: str) -> str:
    """What a plan is remembered for: the model's hash, the settings, the machine and the versions."""
    from importlib.metadata import version  # dear, and needed for many images alone

    known = [model, *settings, *machine.processor()[:1], str(machine.cores()), version("openvino"), version("resnets")]
    return hashlib.sha256("\n".join(known).encode()).hexdigest()[:32]


def _remembered(identity: str) -> Path:
    return cache_folder() / "plans" / f"{identity}.json"
