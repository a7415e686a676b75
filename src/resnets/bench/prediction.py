"""`resnets bench predict`: accuracy against latency, for each engine and precision that this machine runs a model with."""

import importlib.util
import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from resnets import machine
from resnets.bench import describe
from resnets.data.preprocessing import Preprocessing, crop, normalise
from resnets.data.synthetic import synthetic
from resnets.evaluation import evaluate
from resnets.exporting import export
from resnets.files import write_bytes
from resnets.model import Model
from resnets.pages.bench import prediction_page
from resnets.prediction.exported import Exported, open_model
from resnets.prediction.openvino.engine import capabilities
from resnets.prediction.predictor import Predictor
from resnets.prediction.timing import latency, throughput

log = logging.getLogger("resnets")

BATCHES = (1, 8, 32)


@dataclass(frozen=True)
class Way:
    """One way to run the model, and what came of it."""

    engine: str
    precision: str
    size: int  # pixels of the input
    latency_ms: float  # of one ready crop, all cores
    images_per_second: float  # at the best of a few batches, ready crops
    batch: int
    top1: float | None = None  # with --data
    images: int | None = None
    interval: tuple[float, float] | None = None

    @property
    def name(self) -> str:
        """In short: "openvino int8, 224"."""
        return f"{self.engine} {self.precision}, {self.size}"


def bench_predict(
    model: Model | Exported | str | os.PathLike[str],
    data: str | os.PathLike[str] | None = None,
    sizes: Sequence[int] = (),
    out: str | os.PathLike[str] | None = None,
) -> dict[str, Any]:
    """Measure a model with each engine and precision here, at its own input size and at `sizes`.

    With labelled `data`, accuracy too, and int8, which is calibrated on it. `out` is a page of the plot. Gives {"machine",
    "rows"}, a row a `Way`. Speeds are of ready crops: decoding is the same for all.
    """
    if out is not None and not Path(out).absolute().parent.is_dir():
        raise ValueError(f"there is no folder {Path(out).parent} to write {Path(out).name} in")
    loaded = model if isinstance(model, Model | Exported) else open_model(model)
    if isinstance(loaded, Exported) and sizes:
        raise ValueError("an export has one input size; --sizes needs the model itself")
    with tempfile.TemporaryDirectory() as place:
        ways = [_measured(*candidate, data) for candidate in _candidates(loaded, data, sizes, Path(place))]
    document = {"machine": describe(), "rows": [{"name": way.name, **asdict(way)} for way in ways]}
    if out is not None:
        write_bytes(Path(out), prediction_page(document).encode())
    return document


def _candidates(
    model: Model | Exported, data: str | os.PathLike[str] | None, sizes: Sequence[int], folder: Path
) -> Iterator[tuple[Model | Exported, str, str]]:
    """(model, engine, precision) of each way that this machine offers; what it doesn't is said."""
    if isinstance(model, Exported):
        yield model, "auto", "auto"
        return
    if model.preprocessing is None:
        raise ValueError("this model doesn't say how its images are prepared")
    for size in dict.fromkeys((model.preprocessing.size, *sizes)):
        sized = replace(model, preprocessing=replace(model.preprocessing, size=size))
        for engine, precision in _offered():
            yield sized, engine, precision
        if data is None:
            log.info("no int8 without --data, on which it is calibrated")
        elif importlib.util.find_spec("nncf") is None:
            log.info('no int8: pip install "resnets[export]"')
        else:
            target = folder / f"int8-{size}"
            export(sized, target, format="openvino", precision="int8", input="crops", data=data, max_drop=100)
            yield open_model(target), "auto", "auto"


def _offered() -> Iterator[tuple[str, str]]:
    """The engines that are installed, with the precisions that are native here."""
    bf16 = "BF16" in capabilities()
    for engine, module in (("openvino", "openvino"), ("onnxruntime", "onnxruntime"), ("torch", "torch")):
        if importlib.util.find_spec(module) is None:
            log.info("%s isn't installed", module)
            continue
        yield engine, "float32"
        if bf16 and engine != "onnxruntime":
            yield engine, "bf16"


def _measured(model: Model | Exported, engine: str, precision: str, data: str | os.PathLike[str] | None) -> Way:
    predictor = Predictor(model, engine=engine, precision=precision)
    how = predictor.how
    single = _ready(how, predictor.reads)
    alone = latency(predictor.compiled(1), single)
    many = predictor.compiled(machine.cores())
    batches = (1,) if predictor.reads == "image" else BATCHES
    rates = {n: throughput(many, np.repeat(single, n, 0) if n > 1 else single, n, 1.0) for n in batches}
    best = max(rates, key=lambda n: rates[n])
    known: dict[str, Any] = {}
    if data is not None:
        figures = evaluate(model, data, engine=engine, precision=precision)
        known = {"top1": figures["top1"], "images": figures["images"], "interval": tuple(figures["interval"])}
    way = Way(predictor.engine, predictor.precision, how.size, round(alone * 1000, 3), round(rates[best], 1), best, **known)
    log.info("%s: %.2f ms, %.1f images/s%s", way.name, way.latency_ms, way.images_per_second,
             "" if way.top1 is None else f", top-1 {way.top1:.2%}")  # fmt: skip
    return way


def _ready(how: Preprocessing, reads: str) -> np.ndarray:
    """One input of a batch of one, as the engine reads it."""
    image = synthetic(how)[1]
    if reads == "image":
        return np.ascontiguousarray(image)
    square = crop(image, how)[None]
    return square if reads == "images" else normalise(square, how)
