"""Keras' files: `.weights.h5` and `.keras` of Keras 3, and the `.h5` of Keras 2 and of Keras Applications' downloads.

Whatever the form, weights are called LAYER/VARIABLE. Keras 3 files a layer under its class and its place among that class
("layers/conv2d_12/vars/0") and, in later versions, says the layer's name in an attribute; where it doesn't, the name follows
from the order of layers. Sources: keras/src/saving/saving_lib.py and keras/src/legacy/saving/legacy_h5_format.py of Keras
3.15. A model's configuration is never looked at, and no link out of a file is followed.
"""

import errno
import itertools
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from resnets.architecture import Architecture
from resnets.errors import need
from resnets.weights.ecosystem import State, Weights
from resnets.weights.ecosystems.keras import (
    BLOCKS,
    CLASSES,
    check_classes,
    check_layers,
    class_of,
    layers,
    layers_by_place,
    variables,
)
from resnets.weights.forms.keras_program import write_whole

HDF5, ZIP = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"
INSIDE = "model.weights.h5"  # of a .keras file
ROOTS = ("layers", "_layer_checkpoint_dependencies")  # where layers lie: in Keras 3, and in TensorFlow 2.13
EXPANSION = 100  # at most so much more than its own size does a file hold, which bounds what a hostile one can ask for
DAMAGE = (
    OSError,
    LookupError,
    RuntimeError,
    TypeError,
    AttributeError,
    EOFError,
    UnicodeError,
    zlib.error,
    zipfile.BadZipFile,
)


def read_keras(path: Path) -> State:
    """The weights of a Keras file as float32 under LAYER/VARIABLE; an optimizer's slots under their own paths, as they are.

    Raises ValueError where the file is missing or damaged, or holds layers that no ResNet of Keras Applications has.
    """
    h5py = need("h5py", "convert", f"reading {path.name}")
    if not path.is_file():
        raise ValueError(f"there is no file {path} to read weights from")
    try:
        with _as_hdf5(path) as place, h5py.File(place, "r") as file:
            found = _datasets(h5py, file)
            _check_size(h5py, found, place)
            return {name: _array(name, dataset) for name, dataset in found.items()}
    except DAMAGE as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:  # for the copy of what lies in a .keras file
            raise
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path} is no whole Keras file: {said}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


@contextmanager
def _as_hdf5(path: Path) -> Iterator[Path]:
    """The HDF5 file that a path means: itself, or a copy of the one inside a .keras file."""
    with path.open("rb") as file:
        start = file.read(len(HDF5))
    if start == HDF5:
        yield path
        return
    if not start.startswith(ZIP):
        raise ValueError("it is neither HDF5 nor a zip: no file of Keras 2 or 3")
    with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
        if INSIDE not in archive.namelist():
            raise ValueError(f"it holds no {INSIDE}: no .keras file with weights in HDF5")
        if archive.getinfo(INSIDE).file_size > EXPANSION * path.stat().st_size:
            raise ValueError(f"its {INSIDE} claims more than {EXPANSION} times its size")
        copy = Path(folder) / INSIDE
        with archive.open(INSIDE) as source, copy.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
        yield copy


def _datasets(h5py: Any, file: Any) -> dict[str, Any]:
    """Every weight's dataset, unread, by the file's form."""
    root = next((root for root in ROOTS if root in file), None)
    if root is not None:
        found = _by_place(h5py, _child(h5py, file, root))
        for name in file:
            slots = _variables(h5py, _child(h5py, file, name)) if name not in (root, "vars") else []
            found |= {f"{name}/vars/{index}": dataset for index, dataset in enumerate(slots)}
        return found
    if "model_weights" in file:
        found = _by_name(h5py, _child(h5py, file, "model_weights"))
        slots = _child(h5py, file, "optimizer_weights") if "optimizer_weights" in file else None
        names = [] if slots is None else _names(slots, "weight_names")
        return found | {f"optimizer_weights/{name}": _child(h5py, slots, name) for name in names}
    if not _names(file, "layer_names"):
        raise ValueError("it is HDF5, but not of a Keras model: neither layers nor model_weights nor layer_names is in it")
    return _by_name(h5py, file)


def _by_name(h5py: Any, group: Any) -> dict[str, Any]:
    """The datasets of Keras 2's form, where each layer lists the paths of its weights, such as "conv1_conv/kernel:0"."""
    found: dict[str, Any] = {}
    names = _names(group, "layer_names")
    for layer in names:
        inside = _child(h5py, group, layer)
        for path in _names(inside, "weight_names"):
            weight = f"{layer}/{path.rsplit('/', 1)[-1].split(':')[0]}"
            if weight in found:
                raise ValueError(_nested(layer))
            found[weight] = _child(h5py, inside, path)
    check_layers(names[1:])  # the first is the input, which may be called anything
    return found


def _by_place(h5py: Any, group: Any) -> dict[str, Any]:
    """The datasets of Keras 3's form."""
    groups = {place: _child(h5py, group, place) for place in group}
    nested = next((place for place, inside in groups.items() if any(root in inside for root in ROOTS)), None)
    if nested is not None:
        raise ValueError(_nested(nested))
    said = {place: _said_name(h5py, inside) for place, inside in groups.items()}
    check_layers(name for place, name in said.items() if name is not None and class_of(place) != "input_layer")
    found = {place: _variables(h5py, inside) for place, inside in groups.items()}
    check_classes({place: len(datasets) for place, datasets in found.items()})
    kernels = {place: datasets[0].shape for place, datasets in found.items() if datasets}
    named = {place: name for place in kernels if (name := said[place]) is not None}
    names = named if len(named) == len(kernels) else layers_by_place(kernels)
    if len(set(names.values())) != len(kernels):
        raise ValueError("two of its layers have the same name")
    return {
        f"{name}/{variable}": dataset
        for place, name in names.items()
        for variable, dataset in zip(variables(name), found[place], strict=False)
    }


def _said_name(h5py: Any, group: Any) -> str | None:
    """The layer's name where the file says it."""
    name = _child(h5py, group, "vars").attrs.get("name") if "vars" in group else None
    return name if isinstance(name, str) else None


def _variables(h5py: Any, group: Any) -> list[Any]:
    """The datasets of a group's `vars`, in order."""
    if not isinstance(group, h5py.Group) or "vars" not in group:
        return []
    inside = _child(h5py, group, "vars")
    return [_child(h5py, inside, str(index)) for index in range(len(inside))]


def _names(group: Any, attribute: str) -> list[str]:
    """An attribute's names; Keras cuts a long list into ATTRIBUTE0, ATTRIBUTE1, …"""
    numbered = itertools.takewhile(lambda name: name in group.attrs, (f"{attribute}{i}" for i in itertools.count()))
    pieces = [attribute] if attribute in group.attrs else list(numbered)
    names = [name for piece in pieces for name in np.ravel(group.attrs[piece])]
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def _child(h5py: Any, parent: Any, path: str) -> Any:
    """A group or dataset in this very file."""
    for name in path.split("/"):
        link = parent.get(name, getlink=True) if isinstance(parent, h5py.Group) and name else None
        if link is None:
            raise ValueError(f"it lacks {path!r}: it is damaged, or no model of Keras")
        if not isinstance(link, h5py.HardLink):
            raise ValueError(f"its {path!r} is a link to elsewhere, which isn't followed")
        parent = parent[name]
    return parent


def _nested(layer: str) -> str:
    return f"its layer {layer!r} is a model of its own: save that one alone, model.get_layer(…).save(…), and read its file"


def _check_size(h5py: Any, found: dict[str, Any], place: Path) -> None:
    """ValueError where something is no array of numbers in this very file, or all claim more than a file can hold."""
    for name, dataset in found.items():
        if not isinstance(dataset, h5py.Dataset) or dataset.shape is None:
            raise ValueError(f"its {name!r} is no array")
        if dataset.external or dataset.is_virtual:
            raise ValueError(f"its {name!r} lies in another file, which isn't read")
        if dataset.dtype.kind not in "fiu":
            raise ValueError(f"its {name!r} is of the kind {dataset.dtype}, and no number that is read")
    if sum(dataset.nbytes for dataset in found.values()) > EXPANSION * place.stat().st_size:
        raise ValueError(f"its weights claim more than {EXPANSION} times its size")


def _array(name: str, dataset: Any) -> np.ndarray:
    """The numbers; of floating point, as float32."""
    array = dataset[()]
    return np.asarray(array, np.float32) if dataset.dtype.kind == "f" else np.asarray(array)


def write_keras(path: Path, weights: Weights, net: Architecture) -> None:
    """Write weights under Keras' names as `.weights.h5`, or by Keras itself as a whole model, `.keras` or `.h5`.

    All is made in a folder beside and takes its place by one rename. Raises ValueError for another suffix or where there is
    no folder, MissingExtra where h5py or Keras isn't installed, and WorkFailed where Keras can't.
    """
    h5py = need("h5py", "convert", f"writing {path.name}")
    if not path.name.endswith((".weights.h5", ".keras", ".h5")):
        raise ValueError(f"Keras' weights are written as .weights.h5, .keras or .h5, not as {path.name}")
    if not path.parent.is_dir():
        raise ValueError(f"there is no folder {path.parent} to write {path.name} in")
    target = Path(os.path.realpath(path))  # a link stays, and what it points to is replaced
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.", suffix=".part") as folder:
        made = Path(folder) / INSIDE
        _write_by_place(h5py, made, weights, net)
        if not path.name.endswith(".weights.h5"):
            made = write_whole(made, Path(folder) / f"whole{path.suffix}", net)
        with made.open("rb") as file:
            os.fsync(file.fileno())
        made.replace(target)


def _write_by_place(h5py: Any, path: Path, weights: Weights, net: Architecture) -> None:
    """Keras 3's form: each layer with weights under its class and number, its name in an attribute."""
    names = layers(net.blocks)
    with h5py.File(path, "w") as file:
        file.create_group("vars").attrs["name"] = BLOCKS.get(net.blocks, "resnet").lower()
        for kind, end in CLASSES.items():
            for index, layer in enumerate(name for name in names if name.endswith(end)):
                inside = file.create_group(f"layers/{kind}_{index}/vars" if index else f"layers/{kind}/vars")
                inside.attrs["name"] = layer
                for number, variable in enumerate(variables(layer)):
                    inside[str(number)] = weights[f"{layer}/{variable}"]
