"""A model in the form that another ecosystem reads: a state dictionary, a folder, Keras's HDF5, a TensorFlow checkpoint."""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from resnets.conversion.card import model_card
from resnets.errors import need
from resnets.files import replacing, write_bytes, write_json
from resnets.model import Model, write_tensors
from resnets.weights.ecosystem import Ecosystem, State
from resnets.weights.ecosystems import ecosystems

log = logging.getLogger("resnets")

OURS = "resnets"
KINDS = {"float16": np.float16, "float64": np.float64}


def form_of(out: Path, to: str) -> str:
    """The form that a target's path means: a suffix, "folder" or "prefix". ValueError with those there are."""
    forms = (".safetensors",) if to == OURS else ecosystems()[to].forms
    suffix = next(
        (form for form in sorted(forms, key=len, reverse=True) if form.startswith(".") and out.name.endswith(form)), None
    )
    if suffix is not None:
        return suffix
    whole = next((form for form in forms if not form.startswith(".")), None)
    if whole == "prefix" and out.suffix != ".index":
        return whole
    if whole == "folder" and not out.suffix:
        return whole
    said = ", ".join(
        "a folder (no suffix)" if form == "folder" else "a prefix" if form == "prefix" else form for form in forms
    )
    raise ValueError(f"weights for {to} are written as {said}, not as {out.name}")


def check_representable(model: Model, to: str) -> None:
    """ValueError, with the reason, where the other ecosystem hasn't this network."""
    if to == OURS:
        return
    reason = ecosystems()[to].why_not(model.architecture)
    if reason is not None:
        raise ValueError(f"{ecosystems()[to].title} can't have this network: {reason}")


def their_state(model: Model, ecosystem: Ecosystem) -> State:
    """The weights under the ecosystem's names, layouts and epsilon."""
    state = with_epsilon(model, ecosystem.conventions.norm_epsilon)
    return ecosystem.from_ours(state, model.architecture)


def with_epsilon(model: Model, epsilon: float) -> State:
    """The weights of a network that computes the same with another epsilon in its norms.

    γ·(x − μ)/√(σ² + ε) stays what it is if γ becomes γ·√((σ² + ε′)/(σ² + ε)); statistics keep their meaning.
    """
    own = model.architecture.norm_epsilon
    if own == epsilon:
        return dict(model.state)
    state = dict(model.state)
    for name, variance in model.state.items():
        if name.endswith(".running_var"):
            scale = f"{name.removesuffix('.running_var')}.weight"
            factor = np.sqrt((variance.astype(np.float64) + epsilon) / (variance.astype(np.float64) + own))
            state[scale] = (model.state[scale] * factor).astype(np.float32)
    return state


def write(model: Model, out: Path, to: str, stored: str = "float32", licence: str | None = None) -> None:
    """Write the model as `out`, in the form that its name means. `stored`: the kind of its numbers where the form can."""
    form = form_of(out, to)
    if to == OURS:
        model.save(out)
        return
    ecosystem = ecosystems()[to]
    state = their_state(model, ecosystem)
    if form == "folder":
        assert ecosystem.configuration is not None
        out.mkdir()
        for name, document in ecosystem.configuration(model).items():
            write_json(out / name, document)
        _write_safetensors(out / "model.safetensors", state, stored)
        write_bytes(out / "README.md", model_card(model, ecosystem, licence).encode())
    elif form == "prefix":
        from resnets.weights.forms.tensor_bundle import write_bundle

        write_bundle(out, state)
    elif to == "keras":
        from resnets.weights.forms.hdf5 import write_keras

        write_keras(out, state, model.architecture)
    elif form == ".safetensors":
        _write_safetensors(out, state, stored)
    else:
        _write_pytorch(out, {"state_dict": state} if to == "cifar" else state, stored)


def _write_safetensors(path: Path, state: State, stored: str) -> None:
    if stored == "bf16":
        torch = need("torch", "train", "writing bfloat16")
        from safetensors.torch import save

        write_bytes(path, save(_tensors(torch, state, stored), {"format": "pt"}))
        return

    kind: Any = KINDS.get(stored, np.float32)
    cast = {name: array.astype(kind, copy=False) if array.dtype.kind == "f" else array for name, array in state.items()}
    write_tensors(path, {name: np.asarray(array, order="C") for name, array in cast.items()}, {"format": "pt"})


def _write_pytorch(path: Path, document: dict[str, Any], stored: str) -> None:
    torch = need("torch", "train", f"writing {path.name}")
    inner = document.get("state_dict")
    tensors = _tensors(torch, document if inner is None else inner, stored)
    with replacing(path) as file:
        torch.save(tensors if inner is None else {"state_dict": tensors}, file)


def _tensors(torch: Any, state: State, stored: str) -> dict[str, Any]:
    kind = {"float16": torch.float16, "bf16": torch.bfloat16, "float64": torch.float64}.get(stored, torch.float32)
    tensors = {
        name: torch.from_numpy(np.array(array, copy=None if array.flags.writeable else True))
        for name, array in state.items()
    }
    return {name: tensor.to(kind) if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
