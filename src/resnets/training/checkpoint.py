"""Checkpoints: everything that the next step depends on, in one safetensors file; the last two are kept.

Order, augmentation and schedule are functions of the step, so weights, statistics, the optimizer's state and the step are
all there is. A file has the hash of its tensors; where the newest is damaged, the one before goes on.
"""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from torch import nn

from resnets.model import hash_of, write_tensors

log = logging.getLogger("resnets")

KEY = "checkpoint"
KEPT = 2
NAME = "checkpoint-{:010}.safetensors"  # by the step, so that names sort as steps do
Tensors = dict[str, np.ndarray]


def save(folder: Path, network: nn.Module, sgd: torch.optim.Optimizer, progress: dict[str, Any]) -> None:
    """Write the run's checkpoint, whole or not at all, and then delete all but the last two.

    Raises OSError where the disk is full; what was there before stays.
    """
    tensors = {f"network.{name}": _array(tensor) for name, tensor in network.state_dict().items()}
    for index, state in sgd.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": _array(value) for key, value in state.items() if value is not None}
    document = {"progress": progress, "sha256": hash_of(tensors)}
    write_tensors(folder / NAME.format(progress["step"]), tensors, {KEY: json.dumps(document)})
    for old in there(folder)[KEPT:]:
        old.unlink(missing_ok=True)


def restore(folder: Path, network: nn.Module, sgd: torch.optim.Optimizer) -> dict[str, Any] | None:
    """Bring network and optimizer to where the newest whole checkpoint left them, and return its progress; None without any.

    Raises ValueError where every checkpoint is damaged.
    """
    damaged = ""
    for path in there(folder):
        try:
            progress, tensors = _read(path)
        except ValueError as error:
            damaged = str(error)
            log.warning("%s", damaged)
            continue
        if damaged:
            log.warning("going on from the one before, %s", path.name)
        _load(network, sgd, tensors)
        return progress
    if damaged:
        raise ValueError(f"no checkpoint of {folder} is whole; delete them, and the run starts over")
    return None


def there(folder: Path) -> list[Path]:
    """The checkpoints of a run, the newest first."""
    return sorted(folder.glob("checkpoint-*.safetensors"), reverse=True)


def remove(folder: Path) -> None:
    """Delete the checkpoints of a finished run."""
    for path in there(folder):
        path.unlink(missing_ok=True)


def _array(tensor: torch.Tensor) -> np.ndarray:
    return np.asarray(tensor.detach().cpu().numpy(), order="C")


def _read(path: Path) -> tuple[dict[str, Any], Tensors]:
    """A file's progress and tensors. ValueError where it isn't what was saved."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            document = json.loads((file.metadata() or {})[KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        progress, stated = document["progress"], document["sha256"]
    except (safetensors.SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is damaged ({error})") from None
    if hash_of(tensors) != stated:
        raise ValueError(f"{path} is damaged (its hash differs)")
    return progress, tensors


def _load(network: nn.Module, sgd: torch.optim.Optimizer, tensors: Tensors) -> None:
    own, state = {}, {}
    for name, array in tensors.items():
        whose, _, rest = name.partition(".")
        if whose == "network":
            own[rest] = torch.from_numpy(array)
        else:
            index, key = rest.split(".")
            state.setdefault(int(index), {})[key] = torch.from_numpy(array)
    try:
        network.load_state_dict(own)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise ValueError(f"the checkpoint isn't of this network ({first}); begin a run of its own") from None
    sgd.load_state_dict({"state": state, "param_groups": sgd.state_dict()["param_groups"]})
