"""Checkpoints: everything that the next step depends on, in one safetensors file.

Order, augmentation and schedule are functions of the step, so weights, statistics, momentum and the step are all there is.
"""

import json
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from resnets.files import write_bytes

FILE = "checkpoint.safetensors"


def save(folder: Path, network: nn.Module, sgd: torch.optim.Optimizer, progress: dict[str, Any]) -> None:
    """Write the run's checkpoint: whole, or the one before stays."""
    tensors = {f"network.{name}": tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    for index, state in sgd.state_dict()["state"].items():
        tensors |= {
            f"optimizer.{index}.{key}": value.cpu().contiguous() for key, value in state.items() if value is not None
        }
    write_bytes(folder / FILE, safetensors.torch.save(tensors, {"progress": json.dumps(progress)}))


def restore(folder: Path, network: nn.Module, sgd: torch.optim.Optimizer) -> dict[str, Any] | None:
    """Bring network and optimizer to where the run's checkpoint left them, and return its progress; None without one.

    Raises ValueError where the file is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            progress = json.loads(file.metadata()["progress"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is damaged ({error}); delete it and the run starts over") from None
    network.load_state_dict({name[8:]: tensor for name, tensor in tensors.items() if name.startswith("network.")})
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".")
            state.setdefault(int(index), {})[key] = tensor
    sgd.load_state_dict({"state": state, "param_groups": sgd.state_dict()["param_groups"]})
    return progress


def remove(folder: Path) -> None:
    """Delete the checkpoint of a finished run."""
    (folder / FILE).unlink(missing_ok=True)
