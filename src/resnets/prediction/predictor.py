"""Images in, logits out, in order: decoding on threads ahead of the engine, in bounded memory."""

import itertools
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from resnets import machine
from resnets.data.decode import UnreadableImage, decode, from_pillow, read
from resnets.data.preprocessing import Preprocessing, crop
from resnets.model import Model
from resnets.prediction import engines

log = logging.getLogger("resnets")

BATCH = 16
Reader = Callable[[bool, int], np.ndarray]  # (grey, least) → uint8 [height, width, channels], as `decode`
Source = str | os.PathLike[str] | bytes | np.ndarray | Image.Image | Reader


@dataclass(frozen=True)
class Output:
    """What came of one image: logits and features, or the sentence that says why not."""

    logits: np.ndarray | None = None  # float32 [classes]
    features: np.ndarray | None = None  # float32 [features]
    error: str | None = None


class Predictor:
    """One model, ready to predict: the engine compiled, the preprocessing known."""

    def __init__(
        self,
        model: Model,
        *,
        engine: str = "auto",
        precision: str = "auto",
        exact: bool = False,
        batch: int = BATCH,
    ) -> None:
        """`exact` decodes large JPEGs in full; `batch` images go through the network at a time.

        Raises ValueError where the model says no preprocessing, or for an unknown engine or precision.
        """
        if model.preprocessing is None:
            raise ValueError("this model doesn't say how its images are prepared; give --preprocessing")
        if batch < 1:
            raise ValueError(f"batch is at least 1, not {batch}")
        self.how: Preprocessing = model.preprocessing
        self.exact = exact
        self.batch = batch
        self.engine = engines.engine(model, self.how, engine, precision)
        log.info("engine %s, %s%s", self.engine.name, self.engine.precision, "" if not exact else ", JPEGs decoded in full")

    def __call__(self, sources: Iterable[Source]) -> Iterator[Output]:
        """One `Output` a source, in the order of the sources; at most a few batches are in memory at a time."""
        with ThreadPoolExecutor(machine.cores()) as pool:
            ahead: deque[Future[np.ndarray | str]] = deque()
            remaining = iter(sources)
            try:
                while True:
                    room = 3 * self.batch - len(ahead)
                    ahead.extend(pool.submit(self._crop, source) for source in itertools.islice(remaining, room))
                    if not ahead:
                        return
                    yield from self._run([ahead.popleft().result() for _ in range(min(self.batch, len(ahead)))])
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _run(self, crops: list[np.ndarray | str]) -> Iterator[Output]:
        """The outputs of one batch of crops, of which some may be errors."""
        good = [item for item in crops if isinstance(item, np.ndarray)]
        logits, features = self.engine(np.stack(good)) if good else (np.empty(0), np.empty(0))
        place = itertools.count()
        for item in crops:
            if isinstance(item, str):
                yield Output(error=item)
            else:
                index = next(place)
                yield Output(logits[index], features[index])

    def _crop(self, source: Source) -> np.ndarray | str:
        try:
            return crop(self._image(source), self.how)
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
        return read(Path(source), grey, least)
