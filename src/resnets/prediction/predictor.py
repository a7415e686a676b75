"""Images in, logits out, in order, in bounded memory.

Each core takes a few images, decodes them and runs them through the network, then takes the next few: decoding and
arithmetic share the cores with nothing idle and nothing to balance. A single image has every core of the machine instead.
"""

import itertools
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image

from resnets import machine
from resnets.data.decode import UnreadableImage, decode, from_pillow
from resnets.data.preprocessing import Preprocessing, crop, normalise
from resnets.data.shards import read
from resnets.metrics import averaged
from resnets.model import Model
from resnets.prediction.engines import Engine
from resnets.prediction.exported import Exported, compiled, settled
from resnets.prediction.timing import BATCH, Plan, identity, measured_plan, next_call, plan_for, usual_plan

log = logging.getLogger("resnets")

Reader = Callable[[bool, int], np.ndarray]  # (grey, least) → uint8 [height, width, channels], as `decode`
Source = str | os.PathLike[str] | bytes | np.ndarray | Image.Image | Reader


@dataclass(frozen=True)
class Output:
    """What came of one image: logits and features, or the sentence that says why not."""

    logits: np.ndarray | None = None  # float32 [classes]
    features: np.ndarray | None = None  # float32 [features]
    error: str | None = None


class Predictor:
    """One model, ready to predict: engine and precision settled, the preprocessing known."""

    def __init__(
        self,
        model: Model | Exported,
        *,
        engine: str = "auto",
        precision: str = "auto",
        exact: bool = False,
        mirror: bool = False,
        batch: int | None = None,
        lanes: int | None = None,
    ) -> None:
        """`exact` decodes large JPEGs in full; `mirror` averages an image's probabilities, and features, with those of its
        mirror image, for twice the arithmetic; `batch` images go through the network in a call, `lanes` calls at a time: if
        not given, as the number of images makes best.

        Raises ValueError where the model says no preprocessing, or for an unknown engine or precision.
        """
        if model.preprocessing is None:
            raise ValueError("this model doesn't say how its images are prepared; give --preprocessing")
        if min(1 if number is None else number for number in (batch, lanes)) < 1:
            raise ValueError(f"batch and lanes are at least 1, not {batch} and {lanes}")
        self.model = model
        self.how: Preprocessing = model.preprocessing
        self.exact, self.mirror = exact, mirror
        self.usual = Plan(lanes or machine.cores(), batch or BATCH)
        self.fixed = batch is not None or lanes is not None
        self.engine, self.precision, self.reads = settled(model, engine, precision)
        self.decoding = self.computing = 0.0  # seconds that cores have spent so far
        self._engines: dict[int, Engine] = {}

    def announce(self) -> None:
        """Say once what was settled by rule: engine, precision and decode scale."""
        scale = "in full" if self.exact else "at a reduced scale"
        mirror = ", averaged with mirror images" if self.mirror else ""
        log.info("engine %s, %s, large JPEGs decoded %s%s", self.engine, self.precision, scale, mirror)

    def __call__(self, sources: Iterable[Source]) -> Generator[Output]:
        """One `Output` a source, in the order of the sources; at most a few batches are in memory at a time."""
        remaining = iter(sources)
        waiting: deque[Source] = deque()
        position = 0

        def wait_for(images: int) -> None:
            waiting.extend(itertools.islice(remaining, max(images - len(waiting), 0)))

        wait_for(self.usual.enough)
        if not self.fixed and len(waiting) == self.usual.enough:
            self.usual = usual_plan(self.identity)  # many: as they were measured to be fastest, if they were
            wait_for(self.usual.enough)
        plan = self.usual if self.fixed else plan_for(len(waiting), self.usual)
        workers = max(plan.lanes, machine.cores())
        with ThreadPoolExecutor(workers) as pool:
            engine = pool.submit(self.compiled, plan.lanes)  # the other cores decode meanwhile
            ahead: deque[Future[tuple[list[Output], float, float]]] = deque()
            try:
                while True:
                    while len(ahead) < 2 * workers:
                        wait_for(plan.lanes * plan.batch)
                        if not waiting:
                            break
                        job = [waiting.popleft() for _ in range(next_call(position, len(waiting), plan))]
                        position += len(job)
                        ahead.append(pool.submit(self._run, engine, job))
                    if not ahead:
                        return
                    outputs, decoding, computing = ahead.popleft().result()
                    self.decoding += decoding
                    self.computing += computing
                    yield from outputs
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def tune(self) -> Plan:
        """Measure, in some seconds, what is fastest here for many images, and remember it for model and machine."""
        if not self.fixed and self.reads != "image":
            square = np.zeros((self.how.size, self.how.size, self.how.channels), np.uint8)
            example = square if self.reads == "images" else normalise(square[None], self.how)[0]
            self.usual = measured_plan(self.identity, self.compiled, example)
        return self.usual

    def fix(self, plan: Plan) -> None:
        """Hold to a plan, however many images come; what goes through the network together depends on position alone."""
        self.usual, self.fixed = plan, True

    @property
    def identity(self) -> str:
        """What a plan is remembered for."""
        return identity(self.model.sha256, self.engine, self.precision, str(self.how.size))

    def compiled(self, lanes: int) -> Engine:
        """The engine for that many calls at a time; compiled once."""
        if lanes not in self._engines:
            self._engines[lanes] = compiled(self.model, self.how, self.engine, self.precision, lanes)
        return self._engines[lanes]

    def _run(self, engine: Future[Engine], sources: list[Source]) -> tuple[list[Output], float, float]:
        """Some images from file to logits on this thread, and the seconds of decoding and of arithmetic."""
        if self.reads == "image" and len(sources) > 1:  # whole images: one in memory at a time
            each = [self._run(engine, [source]) for source in sources]
            return [output for outputs, _, _ in each for output in outputs], sum(x[1] for x in each), sum(x[2] for x in each)
        began = time.perf_counter()
        inputs = [self._input(source) for source in sources]
        decoded = time.perf_counter()
        good = [item for item in inputs if isinstance(item, np.ndarray)]
        batch = np.stack(good) if good and self.reads != "image" else good[0] if good else None
        network = engine.result()
        compiled = time.perf_counter()
        rows = iter(zip(*self._answers(network, batch), strict=True) if batch is not None else ())
        outputs = [Output(error=item) if isinstance(item, str) else Output(*next(rows)) for item in inputs]
        return outputs, decoded - began, time.perf_counter() - compiled

    def _answers(self, network: Engine, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logits and features of what the engine reads."""
        logits, features = network(batch)
        if not self.mirror:
            return logits, features
        across = -1 if self.reads == "tensor" else -2  # [channels, height, width]; [height, width, channels]
        others, their_features = network(np.ascontiguousarray(np.flip(batch, across)))
        return averaged(logits, others), (features + their_features) / 2

    def _input(self, source: Source) -> np.ndarray | str:
        """What the engine reads of one image, or why it can't be read."""
        try:
            image = self._image(source)
            if self.reads == "image":
                return np.ascontiguousarray(image)
            square = crop(image, self.how)
            return normalise(square[None], self.how)[0] if self.reads == "tensor" else square
        except UnreadableImage as error:
            return str(error)

    def _image(self, source: Source) -> np.ndarray:
        grey, least = self.how.channels == 1, 0 if self.exact else self.how.resized
        if isinstance(source, np.ndarray):
            if source.dtype != np.uint8 or source.ndim not in (2, 3) or 0 in source.shape:
                raise ValueError(f"an image is uint8 [height, width, channels], not {source.dtype} {list(source.shape)}")
            return source if source.ndim == 3 else source[:, :, None]
        if isinstance(source, Image.Image):
            return from_pillow(source, grey)
        if isinstance(source, bytes):
            return decode(source, grey, least)
        if callable(source):
            return source(grey, least)
        return read(source, grey, least)
