"""A network in int8, by post-training quantisation (NNCF): scales from a few hundred of the user's images, no training."""

import contextlib
import hashlib
import json
import logging
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from resnets import machine
from resnets.errors import need
from resnets.files import cache_folder

log = logging.getLogger("resnets")

CALIBRATION = 300  # images that the scales are taken from
NAMES = {"openvino": "network.xml", "onnx": "network.onnx"}


def quantised(network: Any, format: str, tensors: Sequence[np.ndarray], identity: str) -> Any:
    """The network in int8, of OpenVINO or ONNX; kept in the cache under what it depends on.

    `tensors` are inputs as the network reads them, float32 [1, channels, size, size] each; `identity` names the model.
    """

    def made(nncf: ModuleType, how: Mapping[str, Any]) -> Any:
        log.info("quantising on %d images", len(tensors))
        return nncf.quantize(network, _dataset(nncf, format, tensors), **how)

    return _kept(format, tensors, identity, made)


def quantised_with_care(
    network: Any, format: str, tensors: Sequence[np.ndarray], identity: str, checked: Sequence[tuple[np.ndarray, int]],
    most: float,
) -> Any:  # fmt: skip
    """The accuracy-aware way: layers go back to float32, the costliest first, until accuracy on `checked` — pairs of an
    input and its class — drops by at most `most`, a fraction. Kept in the cache too."""

    def made(nncf: ModuleType, how: Mapping[str, Any]) -> Any:
        log.info("quantising with accuracy control on %d images", len(checked))
        judged = nncf.Dataset(list(checked), lambda pair: _entry(format, pair[0]))
        return nncf.quantize_with_accuracy_control(
            network, _dataset(nncf, format, tensors), judged, validation_fn=_accuracy, max_drop=most, **how
        )

    judges = json.dumps([identity, most, _hash(tensor for tensor, _ in checked), [label for _, label in checked]])
    return _kept(format, tensors, judges, made)


def _kept(
    format: str, tensors: Sequence[np.ndarray], identity: str, made: Callable[[ModuleType, Mapping[str, Any]], Any]
) -> Any:
    """The network from the cache, else what is `made` by NNCF with the settings that both ways have, and kept."""
    place = _cached(format, tensors, identity)
    if place.is_dir():
        log.info("int8 network from the cache, %s", place)
        return read_network(format, place)
    nncf = _nncf()
    with _aside():
        found = made(nncf, {"preset": nncf.QuantizationPreset.MIXED, "subset_size": len(tensors)})
    _keep(format, found, place)
    return found


def _accuracy(network: Any, pairs: Iterable[tuple[np.ndarray, int]]) -> tuple[float, list[float]]:
    """Top-1 of a compiled OpenVINO network or an ONNX one, and of each image whether it is right."""
    if hasattr(network, "SerializeToString"):
        import onnxruntime

        session = onnxruntime.InferenceSession(network.SerializeToString(), providers=["CPUExecutionProvider"])
        said = ((np.asarray(session.run(["logits"], {"tensor": tensor})[0]), label) for tensor, label in pairs)
    else:
        said = ((np.asarray(network([tensor])["logits"]), label) for tensor, label in pairs)
    right = [float(logits.argmax() == label) for logits, label in said]
    return float(np.mean(right)), right


def read_network(format: str, folder: Path) -> Any:
    """A network from its folder in the cache."""
    if format == "onnx":
        import onnx

        return onnx.load(folder / NAMES[format])
    from resnets.prediction.openvino.engine import read_graph

    return read_graph(folder / NAMES[format])


def _nncf() -> ModuleType:
    """NNCF, made quiet; its usage statistics are switched off before it is loaded: nothing is sent anywhere."""
    os.environ.setdefault("NNCF_CI", "1")
    nncf = need("nncf", "export", "int8")
    logging.getLogger("nncf").setLevel(logging.ERROR)  # not its own way, which sets the level of handlers of others too
    return nncf


@contextlib.contextmanager
def _aside() -> Iterator[None]:
    """NNCF's progress on standard error, where progress goes, and the warnings of its parts nowhere."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")
        yield


def _dataset(nncf: ModuleType, format: str, tensors: Sequence[np.ndarray]) -> Any:
    return nncf.Dataset(list(tensors), lambda tensor: _entry(format, tensor))


def _entry(format: str, tensor: np.ndarray) -> Any:
    """One input as NNCF hands it to the runtime."""
    return {"tensor": tensor} if format == "onnx" else tensor


def _cached(format: str, tensors: Sequence[np.ndarray], identity: str) -> Path:
    """Where a quantised network is kept: by model, calibration images, versions and machine."""
    versions = [version(name) for name in ("nncf", "openvino", "onnx", "resnets") if name != "onnx" or format == "onnx"]
    key = json.dumps([format, identity, _hash(tensors), versions, machine.processor()[0]])
    return cache_folder() / "int8" / hashlib.sha256(key.encode()).hexdigest()[:32]


def _hash(tensors: Iterable[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.tobytes())
    return digest.hexdigest()


def _keep(format: str, network: Any, place: Path) -> None:
    """Write a network into the cache: a folder that appears whole."""
    partial = None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=place.parent, prefix=".part-"))
        if format == "onnx":
            import onnx

            onnx.save(network, partial / NAMES[format])
        else:
            import openvino as ov

            ov.save_model(network, partial / NAMES[format], compress_to_fp16=False)
        partial.rename(place)
    except (
        OSError
    ) as error:  # a full disk, one that can't be written, or another process was first: the network is at hand all the same
        log.warning("the int8 network isn't kept in the cache: %s", error)
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
