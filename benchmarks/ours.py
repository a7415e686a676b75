"""Our ways for `predict.py` to measure, and what they are held to: the same graph driven by hand, and decoding alone."""

import itertools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import simplejpeg
import torch
from photos import make_photos
from torchvision.transforms.v2 import functional

from resnets import machine
from resnets.data.decode import read
from resnets.data.preprocessing import Preprocessing, crop
from resnets.model import Model
from resnets.prediction import Wanted, prediction
from resnets.prediction.exported import Exported
from resnets.prediction.openvino.engine import HINTS
from resnets.prediction.openvino.graph import graph
from resnets.prediction.openvino.inputs import of_images
from resnets.prediction.predictor import Predictor, Source

SMALL, LARGE, CROPS = "500×375", "4000×3000", "ready crops"  # the images that there are
BATCHES, QUICK_BATCHES = (1, 4, 8, 16, 32), (1, 4, 8)  # that are tried by hand
MOST = 32  # images in a batch
LATENCY_ROUNDS, LATENCY_CALLS = 10, 20


@dataclass(frozen=True)
class Material:
    """What is measured on."""

    folder: Path
    quick: bool
    small: list[Path]
    large: list[Path]
    crops: np.ndarray  # of the small ones: uint8 [a multiple of MOST, 224, 224, 3]

    @classmethod
    def make(cls, folder: Path, images: int, quick: bool) -> "Material":
        """Make the photos."""
        small = make_photos(folder / "small", 64 if quick else images, (500, 375), 75)
        large = make_photos(folder / "large", 16 if quick else -(-images // 10))
        count = -(-len(small) // MOST) * MOST
        crops = [our_crop(path, Preprocessing()) for path in itertools.islice(itertools.cycle(small), count)]
        return cls(folder, quick, small, large, np.stack(crops))

    def model(self, network: str) -> Path:
        """The model file of a network."""
        return self.folder / f"{network}.safetensors"

    @property
    def batch(self) -> int:
        """Images in a batch of a DataLoader; no other way's batches are larger."""
        return 8 if self.quick else MOST


class Ours:
    """What `resnets predict` does for many images once it has settled how and compiled the network: others' are, too."""

    def __init__(self, model: Model | Exported, precision: str) -> None:
        self.classes = model.classes
        self.predictor = Predictor(model, engine="openvino", precision=precision)
        self.predictor.tune()

    def run(self, sources: Sequence[Source] | np.ndarray, count: int) -> list[str]:
        """The labels of so many images, from the first again where there are fewer."""
        outputs = self.predictor(itertools.islice(itertools.cycle(sources), count))
        return [prediction(None, output, self.classes, Wanted(top=1)).labels[0] for output in outputs]


class ByHand:
    """The graph that we run, of uint8 crops with normalisation inside, driven by hand as OpenVINO's guide says to."""

    def __init__(self, model: Model | Exported, precision: str, hint: str = "THROUGHPUT", batch: int = 1) -> None:
        how = model.preprocessing
        assert how is not None
        exported = isinstance(model, Exported)
        network = ov.Core().read_model(model.file) if exported else of_images(graph(model.architecture, model.state), how)
        network.reshape([batch, how.size, how.size, how.channels])
        settings = {"PERFORMANCE_HINT": hint, "INFERENCE_PRECISION_HINT": HINTS[precision]}
        self.classes = model.classes
        self.batch = batch
        self.compiled = ov.Core().compile_model(network, "CPU", settings)
        self.request = self.compiled.create_infer_request()
        self.queue = ov.AsyncInferQueue(self.compiled)
        self.labels: list[str] = []
        self.queue.set_callback(self._done)

    def run(self, crops: np.ndarray, count: int) -> list[str]:
        """The labels of so many crops, from the first again where there are fewer; both are multiples of the batch."""
        self.labels = [""] * count
        for first in range(0, count, self.batch):
            start = first % len(crops)
            self.queue.start_async([crops[start : start + self.batch]], first, share_inputs=True)
        self.queue.wait_all()
        return self.labels

    def one(self, square: np.ndarray) -> str:
        """The label of one crop, the request waited for."""
        logits = self.request.infer([square[None]], share_inputs=True, share_outputs=True)["logits"]
        return self.classes[int(logits.argmax())]

    def _done(self, request: Any, first: int) -> None:
        likeliest = request.get_tensor("logits").data.argmax(1)
        self.labels[first : first + self.batch] = [self.classes[index] for index in likeliest]


def best_by_hand(model: Model | Exported, precision: str, material: Material) -> ByHand:
    """The batch that is fastest by hand, of a few."""
    speeds: dict[int, float] = {}
    for batch in QUICK_BATCHES if material.quick else BATCHES:
        way = ByHand(model, precision, batch=batch)
        way.run(material.crops, batch)
        began = time.perf_counter()
        way.run(material.crops, 2 * material.batch)
        speeds[batch] = time.perf_counter() - began
    return ByHand(model, precision, batch=min(speeds, key=lambda batch: speeds[batch]))


def ready(model: Model | Exported) -> Model | Exported:
    """The model for crops that are ready: an image of the network's size passes as it is."""
    assert model.preprocessing is not None
    return replace(model, preprocessing=replace(model.preprocessing, crop=1.0))


def latencies(model: Model, precision: str, square: np.ndarray) -> dict[str, list[float]]:
    """Seconds of single calls, a crop in and a label out: our `Predictor`, and a request by hand; in turns."""
    ours, raw = Ours(ready(model), precision), ByHand(model, precision, "LATENCY")
    ways: dict[str, Callable[[], object]] = {
        "ours, one ready crop": lambda: ours.run([square], 1),
        "by hand, one ready crop": lambda: raw.one(square),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(LATENCY_ROUNDS + 1):
        for name, way in ways.items():
            for _ in range(LATENCY_CALLS if number else 3):
                began = time.perf_counter()
                way()
                if number:  # the first round warms up
                    seconds[name].append(time.perf_counter() - began)
    return seconds


def decoded(one: Callable[[Path, Preprocessing], object], paths: Sequence[Path], count: int) -> list[str]:
    """So many files decoded to ready crops and dropped, on a thread a core; no labels."""
    how = Preprocessing()
    with ThreadPoolExecutor(machine.cores(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for _ in pool.map(lambda path: one(path, how), itertools.islice(itertools.cycle(paths), count)):
            pass
    return []


def our_crop(path: Path, how: Preprocessing) -> np.ndarray:
    """A file as a crop, by our decoding and preprocessing."""
    return crop(read(path, least=how.resized), how)


def their_crop(path: Path, how: Preprocessing) -> torch.Tensor:
    """A file as a crop, by simplejpeg and torchvision's antialiased resize."""
    image = torch.from_numpy(simplejpeg.decode_jpeg(path.read_bytes(), "RGB")).permute(2, 0, 1)
    return functional.center_crop(functional.resize(image, [how.resized], antialias=True), [how.size])
