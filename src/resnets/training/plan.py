"""Everything that is decided before the first step, by rule and said: network, weights, preprocessing, recipe, images."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from resnets.architecture import Architecture, name_of, named
from resnets.data import Dataset, Division, columns, divide, open_dataset
from resnets.data.decode import UnreadableImage
from resnets.data.loader import Samples
from resnets.data.preprocessing import Preprocessing, crop
from resnets.errors import WorkFailed
from resnets.graph import weight_shapes
from resnets.model import NOT_OURS, Model, hash_of, load
from resnets.training.options import Options
from resnets.training.recipe import Recipe
from resnets.training.settling import settled, tolerates
from resnets.weights import hub, read_weights, reading
from resnets.weights.foreign import PYTORCH
from resnets.weights.pretrained import PREPROCESSING, pretrained_for, pretrained_state

log = logging.getLogger("resnets")

SMALL = 64  # pixels: images up to this size are CIFAR's kind
REMEMBERED = 1024  # images of classes, at most, that mean and deviation are of
LOOKED_AT = 256  # images from which size, colour, mean and deviation are taken


@dataclass(frozen=True)
class Start:
    """The weights that training starts from."""

    state: dict[str, np.ndarray]
    source: str  # for the record: "torchvision resnet18-f37072fd.pth"
    preprocessing: Preprocessing | None = None
    classes: tuple[str, ...] | None = None  # those of its head, where known

    def __str__(self) -> str:
        """Where they come from, and the beginning of their hash."""
        return f"{self.source}, {hash_of(self.state)[:12]}"


@dataclass(frozen=True)
class Plan:
    """A run, decided."""

    data: Dataset
    division: Division
    classes: tuple[str, ...]
    net: Architecture
    start: Start | None
    how: Preprocessing
    recipe: Recipe

    @property
    def name(self) -> str:
        """The network's name."""
        return name_of(self.net).split(", epsilon")[0].replace(", shortcut ", "-")

    @cached_property
    def fingerprint(self) -> str:
        """The hash of the images that train."""
        return self.data.fingerprint(self.division.train)

    def samples(self, indices: np.ndarray) -> Samples:
        """Some of the images, labelled as indices into `classes`."""
        return Samples(self.data.images, indices, self.data.labels_as(self.classes)[indices])


@dataclass(frozen=True)
class Look:
    """What a look at some images finds."""

    side: int  # pixels: the median of the longer sides
    grey: bool  # every one of them
    images: list[np.ndarray]  # uint8 RGB, some of them


def plan(options: Options) -> Plan:
    """Decide everything, reading some of the images. Raises ValueError where the request can't be, WorkFailed where no
    image of a class can be read."""
    data = open_dataset(options.data, tolerates(options))
    division = _excluded(data, divide(data, options.val, options.seed), options.exclude)
    classes = _classes(data, division)
    look = _look(data, division.train, classes)
    net, start = _network(options, look, classes)
    chosen = settled(options, start is not None, len(division.train))
    how = _preprocessing(options, net, start, look)
    net.check_input(how.channels, how.size, how.size)
    if (smallest := min(chosen.train_sizes(how.size))) < net.smallest_input:
        raise ValueError(
            f"by train_input images have {smallest} pixels, and this network takes them from {net.smallest_input} up; "
            "--set train_input=[1] trains at the input's own size"
        )
    if len(division.train) < 2:
        raise ValueError(f"{data.name} has {len(division.train)} image to train on; at least 2 are needed")
    if not division.val_name:
        log.info("no image is held out: nothing is measured while training, and best is the last")
    else:
        log.info("%d images train, %d measure (%s)", len(division.train), len(division.val), division.val_name)
    return Plan(data, _known(data, division, classes), classes, net, start, how, chosen)


def _excluded(data: Dataset, division: Division, file: str | None) -> Division:
    """The division without the images that a file names."""
    if file is None:
        return division
    if not Path(file).is_file():
        raise ValueError(f"there is no file {file} of images to exclude")
    unwanted = columns.lines(Path(file))
    places = columns.places(data.images.keys, unwanted)
    met = np.zeros(len(unwanted), bool)
    met[places[places >= 0]] = True
    if not met.all():
        first = unwanted[int(met.argmin())].as_py().decode("utf-8", "replace")
        count = len(unwanted) - int(met.sum())
        log.warning("%d of the %d paths in %s are no images of %s; the first: %s", count, len(met), file, data.name, first)
    keep = places < 0
    return division._replace(train=division.train[keep[division.train]], val=division.val[keep[division.val]])


def _classes(data: Dataset, division: Division) -> tuple[str, ...]:
    """The classes that train, in natural order. ValueError where there is one alone, or one without images."""
    split = "train" if data.splits else ""
    if lacking := data.empty.get(split):
        raise ValueError(f"{data.name}: no image in the folder of the class {lacking[0]!r}; add some, or remove the folder")
    here = data.counts(division.train)
    classes = tuple(name for name, count in here.items() if count)
    if len(classes) < 2:
        one = f"one class only, {classes[0]!r}" if classes else "no image to train on"
        raise ValueError(f"{data.name} has {one}; to tell images apart takes at least two classes")
    if extra := [name for name, count in data.counts(division.val).items() if count and name not in classes]:
        log.warning("classes that %s has and train lacks, left out: %s", division.val_name, ", ".join(extra[:5]))
    if missing := [name for name in classes if len(division.val) and not data.counts(division.val)[name]]:
        log.warning(
            "no image of %s measures the class%s %s", division.val_name, "es" * (len(missing) > 1), ", ".join(missing[:5])
        )
    return classes


def _known(data: Dataset, division: Division, classes: tuple[str, ...]) -> Division:
    """The division without images to measure on whose class doesn't train."""
    return division._replace(val=division.val[data.labels_as(classes)[division.val] >= 0])


def _look(data: Dataset, indices: np.ndarray, classes: tuple[str, ...]) -> Look:
    """Read one image of every class, and some more evenly from all. WorkFailed where a class has none that can be read."""
    labels = data.labels_as(classes)[indices]
    by_class = np.argsort(labels.astype(np.int16 if len(classes) < 2**15 else np.int64), kind="stable")
    of_class = np.split(by_class, np.cumsum(np.bincount(labels, minlength=len(classes)))[:-1])
    sides, greys, kept = [], [], []
    every = -(-len(classes) // REMEMBERED)  # a class's image of so many is remembered
    for number, image in enumerate(_some(data, indices, of_class, classes)):
        sides.append(max(image.shape[:2]))
        greys.append((image[..., 0] == image[..., 1]).all() and (image[..., 1] == image[..., 2]).all())
        if number >= len(classes) or not number % every:
            kept.append(image)
    return Look(int(np.median(sides)), all(greys), kept)


def _some(data: Dataset, indices: np.ndarray, of_class: list[np.ndarray], classes: tuple[str, ...]) -> Iterator[np.ndarray]:
    """One image of every class, and some more evenly from all."""
    for places, name in zip(of_class, classes, strict=True):
        yield _first_readable(data, indices, places, name)
    for index in indices[np.linspace(0, len(indices) - 1, min(LOOKED_AT, len(indices))).astype(int)]:
        try:
            yield data.images.read(int(index), least=LOOKED_AT)
        except UnreadableImage:
            continue  # training meets it, and says so


def _first_readable(data: Dataset, indices: np.ndarray, places: np.ndarray, name: str) -> np.ndarray:
    """The first image that can be read of those at `places` among `indices`."""
    reason = ""
    for place in places:
        index = int(indices[place])
        try:
            return data.images.read(index, least=LOOKED_AT)
        except UnreadableImage as error:
            reason = reason or f"{data.images.keys[index]}: {error}"
    raise WorkFailed(f"none of the {len(places)} images of the class {name!r} can be read ({reason}); mend or remove them")


def _network(options: Options, look: Look, classes: tuple[str, ...]) -> tuple[Architecture, Start | None]:
    """The architecture and the weights to start from."""
    auto = "resnet20" if look.side <= SMALL else "resnet18"
    elsewhere = _model_from_elsewhere(options)
    own = elsewhere or _own_model(options.init)
    if own is not None:
        keeps = options.model == "auto" or elsewhere is not None  # which was read as that network
        net = own.architecture if keeps else named(options.model, channels=own.architecture.channels)
        head = own.classes if set(own.classes) == set(classes) else None
        start = Start(own.state, f"model {own.sha256[:12]}", own.preprocessing, head)
        return _fitting(replace(net, classes=len(classes)), start)
    if options.model == "auto":
        log.info("network %s, as the images are %s %d pixels", auto, "up to" if look.side <= SMALL else "above", SMALL)
    net = replace(named(auto if options.model == "auto" else options.model), classes=len(classes))
    scratch = replace(net, channels=1 if look.grey else 3)
    if options.init == "none":
        return scratch, None
    if options.init != "auto":
        size = net.natural_input
        how = replace(PREPROCESSING, size=size, crop=1.0 if size <= SMALL else PREPROCESSING.crop)
        start = Start(read_weights(options.init), Path(options.init).name, how)
        first = next((array for name, array in start.state.items() if name in ("conv1.weight", "conv1.0.weight")), None)
        return _fitting(net if first is None else replace(net, channels=first.shape[1]), start)
    if look.side <= SMALL or net.stem == "cifar":
        return scratch, None
    return _pretrained(net, scratch)


def _pretrained(net: Architecture, scratch: Architecture) -> tuple[Architecture, Start | None]:
    """Torchvision's ImageNet weights where they belong to the network and can be had."""
    weights = pretrained_for(net)
    if weights is None:
        twin = f"{name_of(net)}-v1.5"
        hint = f"; {twin} has them" if name_of(net) in ("resnet50", "resnet101", "resnet152") else ""
        log.info("training from scratch: no pretrained weights are known for %s%s", name_of(net), hint)
        return scratch, None
    state = pretrained_state(weights)
    if state is None:
        return scratch, None
    return _fitting(net, Start(state, f"torchvision {weights.file}", PREPROCESSING))


def _model_from_elsewhere(options: Options) -> Model | None:
    """The model that `init` names, where it is a name to fetch, or a form that says whose it is: a folder of timm or
    transformers, Keras's HDF5, a TensorFlow checkpoint."""
    if options.init in ("auto", "none"):
        return None
    path = Path(options.init)
    bare = path.suffix in (*PYTORCH, ".safetensors")
    if not hub.is_name(options.init) and (bare or (path.is_dir() and (path / "best.safetensors").is_file())):
        return None
    return reading.read(options.init, reading.Wishes(architecture=None if options.model == "auto" else options.model)).model


def _own_model(init: str) -> Model | None:
    """The model that `init` names, if it is one of ours."""
    path = Path(init)
    if init in ("auto", "none") or not (path.is_dir() or path.suffix == ".safetensors"):
        return None
    try:
        return load(path)
    except ValueError as error:
        if NOT_OURS in str(error):
            return None
        raise


def _fitting(net: Architecture, start: Start) -> tuple[Architecture, Start]:
    """Network and weights, if every weight but the head's fits. ValueError, naming the first that doesn't."""
    for name, shape in weight_shapes(net).items():
        if name.endswith(".num_batches_tracked") or name.startswith("fc."):
            continue
        if name not in start.state:
            raise ValueError(f"{start.source} isn't of {name_of(net)}: it lacks {name}; --model names the network it is of")
        if start.state[name].shape != shape:
            theirs = list(start.state[name].shape)
            raise ValueError(f"{start.source} isn't of {name_of(net)}: its {name} is {theirs}, not {list(shape)}")
    log.info("starting from %s", start.source)
    return net, start


def _preprocessing(options: Options, net: Architecture, start: Start | None, look: Look) -> Preprocessing:
    """The preprocessing: that of the starting weights, else with this data's own mean and deviation."""
    changes: Mapping[str, Any] = {} if options.fit is None else {"fit": options.fit}
    if start is not None and start.preprocessing is not None and start.preprocessing.channels == net.channels:
        return replace(start.preprocessing, size=options.input or start.preprocessing.size, **changes)
    natural = net.natural_input
    size = options.input or (max(8, min(look.side, SMALL)) if look.side <= SMALL and net.stem == "cifar" else natural)
    colour = "grey" if net.channels == 1 else "RGB"
    blank = Preprocessing(
        size=size, crop=1.0 if size <= SMALL else 0.875, colour=colour, mean=(0.0,) * net.channels,
        deviation=(1.0,) * net.channels, **changes
    )  # fmt: skip
    moments = np.zeros((2, net.channels))
    for image in look.images:
        square = crop(image[..., : net.channels], blank) / 255
        moments += square.mean((0, 1)), np.square(square).mean((0, 1))
    mean, of_squares = moments / len(look.images)
    deviation = np.maximum(np.sqrt(np.maximum(of_squares - np.square(mean), 0)), 1e-3)
    return replace(
        blank, mean=tuple(round(float(x), 4) for x in mean), deviation=tuple(round(float(x), 4) for x in deviation)
    )
