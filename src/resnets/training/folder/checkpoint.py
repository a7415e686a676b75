"""Checkpoints: everything that the next step depends on, in one safetensors file; the last two are kept.

Order, augmentation and schedule are functions of the step, and with `skip_learned` of the images' last losses; so these,
weights, statistics, the optimizer's state and the step are all there is. A file has the hash of its tensors; where the
newest is damaged, the one before goes on.
"""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from torch import nn

from resnets.data.learned import Learned
from resnets.model import hash_of, write_tensors
from resnets.training.optimizers.average import Average

log = logging.getLogger("resnets")

KEY = "checkpoint"
KEPT = 2
FEATURES = "features.safetensors"  # of a frozen backbone
NAME = "checkpoint-{:010}.safetensors"  # by the step, so that names sort as steps do
Tensors = dict[str, np.ndarray]


def save(
    folder: Path,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: dict[str, Any],
    average: Average | None = None,
    learned: Learned | None = None,
) -> None:
    """Write the run's checkpoint, whole or not at all, and then delete all but the last two.

    Raises OSError where the disk is full; what was there before stays.
    """
    tensors = {f"network.{name}": _array(tensor) for name, tensor in network.state_dict().items()}
    names = _trained(network, optimizer)
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{names[index]}.{key}": _array(value) for key, value in state.items() if value is not None}
    if average is not None:
        tensors |= {f"average.{name}": _array(tensor) for name, tensor in average.state_dict().items()}
    if learned is not None:
        tensors |= {f"learned.{name}": array for name, array in learned.state_dict().items()}
    document = {"progress": progress, "optimizer": type(optimizer).__name__, "sha256": hash_of(tensors)}
    path = folder / NAME.format(progress["step"])
    write_tensors(path, tensors, {KEY: json.dumps(document)})
    for old in there(folder)[KEPT:]:
        if old != path:
            old.unlink(missing_ok=True)


def keep_only(folder: Path, step: int) -> None:
    """Delete every checkpoint but that of a step: those of a run whose steps were counted otherwise."""
    for path in there(folder):
        if path.name != NAME.format(step):
            path.unlink(missing_ok=True)


def remove_later(folder: Path, step: int) -> None:
    """Delete the checkpoints after a step that was gone back to: they are damaged, and would count among the last two."""
    for path in there(folder):
        if path.name > NAME.format(step):
            path.unlink(missing_ok=True)


def restore(
    folder: Path,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: Average | None = None,
    learned: Learned | None = None,
) -> dict[str, Any] | None:
    """Bring network, optimizer, average and what is learned to where the newest whole checkpoint left them.

    Its progress is returned; None where there is no checkpoint. An average that is new begins with the network's weights,
    and what is learned as in a new run.

    Raises ValueError where every checkpoint is damaged, or it is of another network or optimizer.
    """
    damaged = ""
    for path in there(folder):
        try:
            progress, kind, tensors = _read(path)
        except ValueError as error:
            damaged = str(error)
            log.warning("%s", damaged)
            continue
        if damaged:
            log.warning("going on from the one before, %s", path.name)
        if kind != type(optimizer).__name__:
            raise ValueError(f"{path} is of the optimizer {kind}, not {type(optimizer).__name__}; begin a run of its own")
        _load(network, optimizer, average, tensors)
        losses = {name.removeprefix("learned."): array for name, array in tensors.items() if name.startswith("learned.")}
        if learned is not None and losses:
            learned.load_state_dict(losses)
        return progress
    if damaged:
        raise ValueError(f"no checkpoint of {folder} is whole; delete them, and the run starts over")
    return None


def there(folder: Path) -> list[Path]:
    """The checkpoints of a run, the newest first."""
    return sorted(folder.glob("checkpoint-*.safetensors"), reverse=True)


def remove(folder: Path) -> None:
    """Delete what a finished run needs no more."""
    for path in (*there(folder), folder / FEATURES):
        path.unlink(missing_ok=True)


def _array(tensor: torch.Tensor) -> np.ndarray:
    return np.asarray(tensor.detach().cpu().numpy(), order="C")


def _trained(network: nn.Module, optimizer: torch.optim.Optimizer) -> list[str]:
    """The names of the parameters by the numbers that the optimizer's state has for them."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    return [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]


def _read(path: Path) -> tuple[dict[str, Any], str, Tensors]:
    """A file's progress, the kind of its optimizer, and its tensors. ValueError where it isn't what was saved."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            document = json.loads((file.metadata() or {})[KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        progress, kind, stated = (document[key] for key in ("progress", "optimizer", "sha256"))
    except (safetensors.SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is damaged ({error})") from None
    if hash_of(tensors) != stated:
        raise ValueError(f"{path} is damaged (its hash differs)")
    return progress, kind, tensors


def _load(network: nn.Module, optimizer: torch.optim.Optimizer, average: Average | None, tensors: Tensors) -> None:
    state: dict[int, dict[str, torch.Tensor]] = {}
    numbers = {name: number for number, name in enumerate(_trained(network, optimizer))}
    for name, value in _of("optimizer.", tensors).items():
        parameter, _, key = name.rpartition(".")
        if parameter in numbers:  # else it isn't trained any more
            state.setdefault(numbers[parameter], {})[key] = value
    try:
        network.load_state_dict(_of("network.", tensors))
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise ValueError(f"the checkpoint isn't of this network ({first}); begin a run of its own") from None
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    if average is not None:
        average.load_state_dict(_of("average.", tensors) or network.state_dict())


def _of(beginning: str, tensors: Tensors) -> dict[str, torch.Tensor]:
    return {name.removeprefix(beginning): torch.from_numpy(array) for name, array in tensors.items()
            if name.startswith(beginning)}  # fmt: skip
