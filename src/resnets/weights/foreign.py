"""State dictionaries as people have them: PyTorch files and safetensors, with their wrappers, prefixes and other names.

A PyTorch file is read with `weights_only=True`: tensors, plain values and `argparse.Namespace`, which training scripts save;
no code.
"""

import argparse
import json
import logging
import os
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors

from resnets.errors import need
from resnets.weights.ecosystems.cifar import to_ours

log = logging.getLogger("resnets")

PLAIN = ("state_dict", "model_state_dict", "model", "module", "net")  # entries that a file wraps its weights in
AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")  # and its averaged weights
PREFIXES = ("module.", "model.", "net.", "_orig_mod.")
COUNTS = ("n_averaged",)  # what torch.optim.swa_utils keeps beside averaged weights
PYTORCH = (".pth", ".pt", ".th", ".bin", ".ckpt", ".tar")
SHARDED = ".safetensors.index.json"
KINDS = {"float16": "float16", "bfloat16": "bf16", "float32": "float32", "float64": "float64"}
SAFE = "in the environment that wrote it, torch.save(model.state_dict(), FILE) makes one that is read"


class Dictionary(NamedTuple):
    """A file's weights under its own names, without wrappers and prefixes."""

    weights: dict[str, np.ndarray]  # float32, also where they were stored in half precision; counters int64
    peeled: tuple[str, ...]  # what was taken off, in words
    stored: str  # float32, float16, bf16 or float64: of most of the numbers


def read_weights(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The weights in a `.pth`, `.pt`, `.th` or `.safetensors` file, under torchvision's names.

    What was peeled off (a wrapper, a prefix) is logged. Raises ValueError where the file is missing, damaged, holds
    anything but plain tensors, or no state dictionary.
    """
    found = read_dictionary(Path(path))
    for words in found.peeled:
        log.info("%s: %s", Path(path).name, words)
    return to_ours(found.weights).state


def read_dictionary(source: Path, which: str | None = None) -> Dictionary:
    """The weights in a file as it names them. `which` is "plain" or "ema", where a file has both.

    Raises ValueError as `read_weights`, and where a file has both and none was chosen.
    """
    if not source.is_file():
        raise ValueError(f"there is no file {source} to read weights from")
    if source.suffix == ".safetensors" or source.name.endswith(SHARDED):
        document = _read_shards(source) if source.name.endswith(SHARDED) else _read_safetensors(source)
    elif source.suffix in PYTORCH:
        document = _read_pytorch(source)
    else:
        raise ValueError(f"{source} is neither .pth, .pt, .th nor .safetensors; those are what weights are read from")
    found, peeled = _unwrapped(document, source, which)
    arrays = {name: _array(value, name, source) for name, value in found.items() if _is_tensor(value)}
    if not arrays:
        raise ValueError(f"{source} holds no state dictionary of tensors")
    arrays, prefixes = _without_prefixes(arrays)
    return Dictionary(arrays, (*peeled, *prefixes), _stored(found))


def _unwrapped(document: Any, source: Path, which: str | None) -> tuple[Mapping[str, Any], list[str]]:
    """The innermost mapping that holds tensors, and what it was wrapped in."""
    peeled = []
    while isinstance(document, Mapping):
        plain = [key for key in PLAIN if _is_wrapper(document.get(key))]
        averaged = [key for key in AVERAGED if _is_wrapper(document.get(key))]
        if averaged and (plain or any(_is_tensor(value) for value in document.values())) and which is None:
            raise ValueError(
                f"{source.name} holds plain weights and averaged ones ({averaged[0]}), which predict differently: say which "
                "with --weights ema or --weights plain (resnets convert)"
            )
        chosen = averaged if which == "ema" and averaged else plain or ([] if which == "plain" else averaged)
        if not chosen:
            break
        peeled.append(f"weights taken from its entry {chosen[0]!r}")
        document = document[chosen[0]]
    if which == "ema" and not any(key in words for words in peeled for key in AVERAGED):
        raise ValueError(f"{source.name} holds no averaged weights ({', '.join(AVERAGED)}); leave --weights out")
    entries = document.items() if isinstance(document, Mapping) else ()
    return {name: value for name, value in entries if isinstance(name, str)}, peeled


def _is_wrapper(value: Any) -> bool:
    return isinstance(value, Mapping) and any(
        _is_tensor(inner) or isinstance(inner, Mapping) for inner in value.values()
    )  # an empty one, or one of plain values, is none


def _without_prefixes(arrays: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Names without what all of them begin with; the counts of averaging, which aren't weights, are left out."""
    peeled = []
    for count in COUNTS:
        if arrays.pop(count, None) is not None:
            peeled.append(f"{count!r} left out, which counts averages")
    while arrays and (prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in arrays)), None)):
        peeled.append(f"prefix {prefix!r} taken off every name")
        arrays = {name.removeprefix(prefix): array for name, array in arrays.items()}
    return arrays, peeled


def _read_safetensors(source: Path) -> dict[str, Any]:
    try:
        with safetensors.safe_open(source, framework="numpy") as file:
            return {name: _tensor(file, name, source) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(f"{source} is no whole safetensors file: {error}") from None


def _read_shards(source: Path) -> dict[str, Any]:
    """The tensors of a safetensors file in several shards, which its index lists."""
    try:
        listed = json.loads(source.read_text(encoding="utf-8"))["weight_map"]
        shards = sorted(set(listed.values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{source} is no index of shards: it lacks a weight_map") from None
    found: dict[str, Any] = {}
    for shard in shards:
        if Path(shard).name != shard:
            raise ValueError(f"{source} names {shard!r}, which isn't a file beside it")
        if not (source.parent / shard).is_file():
            raise ValueError(f"{source.parent} lacks the shard {shard}, which {source.name} names; bring it too")
        found |= _read_safetensors(source.parent / shard)
    lacking = sorted(listed.keys() - found.keys())
    if lacking:
        raise ValueError(f"{source.parent}: no shard holds {lacking[0]}, which {source.name} lists")
    return found


def _tensor(file: Any, name: str, source: Path) -> Any:
    """One tensor; of a kind that NumPy lacks (bfloat16), by PyTorch."""
    if file.get_slice(name).get_dtype() != "BF16":
        return file.get_tensor(name)
    need("torch", "train", f"reading the {name} of {source.name}")
    with safetensors.safe_open(source, framework="pt") as as_torch:
        return as_torch.get_tensor(name)


def _read_pytorch(source: Path) -> Any:
    torch = need("torch", "train", f"reading {source.name}")
    with source.open("rb") as file:
        zipped = file.read(4) == b"PK\x03\x04"
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(source, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        kind = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f" ({kind[1]})" if kind else ""
        raise ValueError(
            f"{source} holds more than plain tensors, or is damaged{what}; it isn't read, as that could run its code; {SAFE}"
        ) from None
    except Exception as error:  # a damaged file makes PyTorch raise of every kind
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{source} is no whole PyTorch file: {said}") from None


def _is_tensor(value: Any) -> bool:
    return isinstance(value, np.ndarray) or hasattr(value, "detach")


def _array(value: Any, name: str, source: Path) -> np.ndarray:
    """A tensor as an array: floating point as float32, the rest as it is. ValueError where it is no number of ours."""
    if not isinstance(value, np.ndarray):
        if getattr(value, "is_quantized", False) or str(value.layout) != "torch.strided" or value.is_complex():
            raise ValueError(f"{source}: {name} is a quantised, sparse or complex tensor; {SAFE} of plain numbers")
        return (value.detach().float() if value.is_floating_point() else value.detach()).numpy()
    if value.dtype.kind == "c":
        raise ValueError(f"{source}: {name} has complex numbers, which no residual network has")
    return value.astype(np.float32, copy=False) if value.dtype.kind == "f" else value


def _stored(found: Mapping[str, Any]) -> str:
    """The kind that most of the numbers are stored in."""
    counts: dict[str, int] = {}
    for value in found.values():
        if _is_tensor(value):
            kind = KINDS.get(str(value.dtype).removeprefix("torch."))
            if kind:
                counts[kind] = counts.get(kind, 0) + int(np.prod(tuple(value.shape)))
    return max(counts, key=lambda kind: counts[kind], default="float32")
